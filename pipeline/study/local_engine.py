"""Makes a study's steps in worker processes of this machine.

A worker makes a step's files in the store's `tmp/`, its scratch lies in the store's `work/`: a training that was under
way is resumed.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

import psutil

from earshot.core.cores import usable_cores
from earshot.core.errors import ToolError
from earshot.pipeline.progress import Progress
from earshot.pipeline.stages.step import Step
from earshot.pipeline.store import Store
from earshot.pipeline.study.config import Study
from earshot.pipeline.study.order import Done, Order, Sign
from earshot.pipeline.study.worker import serve

WORKER_BYTES = 2_000_000_000  # a training process with its libraries and its scoring
_STOP_SECONDS = 10.0


@dataclass(frozen=True)
class LocalEngine:
    """Worker processes; `workers` of them, or as many as cores, memory and steps allow. They share the cores evenly."""

    workers: int | None = None

    @contextmanager
    def crew(
        self, study: Study, steps: Sequence[Step], missing: int, store: Store, progress: Progress
    ) -> Iterator[LocalCrew]:
        """See `Engine`. Raises OSError where no process can be started."""
        cores = usable_cores()
        fitting = max(1, psutil.virtual_memory().available // WORKER_BYTES)
        workers = self.workers or max(1, min(len(cores), fitting, len(steps)))
        threads = max(1, len(cores) // workers)

        def start(index: int, pipe: Connection) -> SpawnProcess:
            own = cores[index * threads : (index + 1) * threads]
            share = frozenset(own) if workers * threads <= len(cores) else frozenset()
            context = multiprocessing.get_context("spawn")
            process = context.Process(target=serve, args=(pipe, study, store.root.absolute(), threads, share))
            process.start()
            return process

        hands = [_Hand(partial(start, index), progress.beside()) for index in range(min(workers, missing))]
        try:
            yield LocalCrew(hands)
        finally:
            for hand in hands:
                hand.stop()


@dataclass(frozen=True)
class LocalCrew:
    """The worker processes; see `Crew`."""

    hands: Sequence[_Hand]

    @property
    def free(self) -> bool:
        """Whether one has nothing to do."""
        return any(hand.step is None for hand in self.hands)

    def give(self, step: Step, order: Order) -> None:
        """Gives it to the first that has nothing to do."""
        next(hand for hand in self.hands if hand.step is None).give(step, order)

    def hear(self) -> Sequence[Done]:
        """What ended; a worker that died ended with an error."""
        busy = {hand.pipe: hand for hand in self.hands if hand.step is not None and hand.pipe is not None}
        ended: list[Done] = []
        while not ended:
            ready = wait(list(busy))
            heard = [hand.hear() for pipe, hand in busy.items() if pipe in ready]
            ended = [done for done in heard if done is not None]
        return ended


class _Hand:
    """One worker process and the pipe to it; started again when it is given an order after its death."""

    def __init__(self, start: Callable[[Connection], SpawnProcess], progress: Progress) -> None:
        self._start, self._progress = start, progress
        self._process: SpawnProcess | None = None
        self.pipe: Connection | None = None
        self.step: Step | None = None

    def give(self, step: Step, order: Order) -> None:
        """Lets it make a step."""
        pipe = self.pipe or self._begin()
        try:
            pipe.send(order)
        except OSError:  # it died while it had nothing to do
            self.stop()
            self._begin().send(order)
        self.step = step

    def _begin(self) -> Connection:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self._process = self._start(theirs)
        theirs.close()  # so that the pipe ends with the worker
        return self.pipe

    def hear(self) -> Done | None:
        """Takes one message from the pipe: how the order ended, or None for a sign of progress, which is drawn."""
        step, pipe = self.step, self.pipe
        assert step is not None and pipe is not None
        try:
            message = pipe.recv()
        except (EOFError, OSError):
            how = self.stop()
            error = ToolError(f"{step.title}: the worker process died ({how})", "too little memory? try --workers 1")
            return Done(step.id, error=error)
        if isinstance(message, Sign):
            message.draw(self._progress)
            return None
        self.step = None
        return message

    def stop(self) -> str:
        """Ends the process; returns how it had ended before, if it had."""
        process, self._process = self._process, None
        if self.pipe is not None:
            self.pipe.close()
            self.pipe = None
        if process is None:
            return ""
        children = _children(process)
        if self.step is None:
            process.join(_STOP_SECONDS)  # idle: it ends by itself when its pipe does
        else:
            process.join(0.5)
        code = process.exitcode
        process.kill()
        process.join()
        for child in children:
            child.kill()
        self.step = None
        return f"exit code {code}" if code is not None else "killed"


def _children(process: SpawnProcess) -> list[psutil.Process]:
    """Scoring processes of a worker, which would outlive it for a while."""
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.Error:
        return []
