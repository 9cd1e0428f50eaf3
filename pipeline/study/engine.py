"""Makes a study's steps in worker processes: what is in the store is used again, a step that fails stops only its own.

This process alone writes to the store. A worker makes a step's files in the store's `tmp/`, its scratch lies in the
store's `work/`; so whatever is killed, finished steps are kept and a training that was under way is resumed.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path

import psutil

from earshot.core.errors import EarshotError, ToolError
from earshot.core.measurement import Measurement
from earshot.pipeline.progress import Progress
from earshot.pipeline.stages.step import Step
from earshot.pipeline.store import Artifact, Store
from earshot.pipeline.study.cells import Matrix
from earshot.pipeline.study.config import Study
from earshot.pipeline.study.worker import Done, Order, serve

_WORKER_BYTES = 2_000_000_000  # a training process with its libraries and its scoring
_STOP_SECONDS = 10.0


@dataclass(frozen=True)
class Crew:
    """How many worker processes, and how many CPU threads each trains with."""

    workers: int
    threads: int


@dataclass
class Outcome:
    """What became of the steps.

    Attributes:
        made: identity -> artifact, found or made.
        errors: identity -> why there is none; a step whose input failed carries the input's error.
        executed: titles of the steps that were made now.
    """

    made: dict[str, Artifact] = field(default_factory=dict)
    errors: dict[str, EarshotError] = field(default_factory=dict)
    executed: list[str] = field(default_factory=list)


def crew(workers: int | None, steps: int) -> Crew:
    """The workers asked for, or as many as cores, memory and steps allow; they share the cores evenly."""
    cores = len(_cores())
    fitting = max(1, psutil.virtual_memory().available // _WORKER_BYTES)
    count = workers or max(1, min(cores, fitting, steps))
    return Crew(count, max(1, cores // count))


def execute(study: Study, plan: Matrix, store: Store, team: Crew, progress: Progress) -> Outcome:
    """Makes what is missing of a study.

    Args:
        study: as the workers need it to plan for themselves.
        plan: its cells.
        store: artifacts go there; it is held until the end.
        team: how many processes.
        progress: of the whole; workers draw beside it.

    Raises:
        ToolError: another process holds the store, the disk is full, or workers do not start.
    """
    steps = plan.steps
    outcome = Outcome()
    with store.lock():
        for identity in steps:
            if (found := store.find(identity)) is not None:
                outcome.made[identity] = found
        missing = {identity: step for identity, step in steps.items() if identity not in outcome.made}
        progress.start(f"study {study.name}", len(steps))
        progress.advance(len(outcome.made), f"{len(outcome.made)} of {len(steps)} steps are there")
        if missing:
            hands = _hands(study, store, team, min(team.workers, len(missing)), progress)
            try:
                _Foreman(missing, store, outcome, hands, progress).work()
            finally:
                for hand in hands:
                    hand.stop()
        progress.finish(f"{len(outcome.executed)} steps made, {len(outcome.errors)} without result")
    return outcome


def _cores() -> list[int]:
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


class _Hand:
    """One worker process and the pipe to it; started again when it is given an order after its death."""

    def __init__(self, start: Callable[[Connection], SpawnProcess], progress: Progress) -> None:
        self._start, self.progress = start, progress
        self._process: SpawnProcess | None = None
        self.pipe: Connection | None = None
        self.step: Step | None = None
        self.out = Path()

    def give(self, step: Step, order: Order) -> None:
        """Lets it make a step."""
        if self.pipe is None:
            context = multiprocessing.get_context("spawn")
            self.pipe, theirs = context.Pipe()
            self._process = self._start(theirs)
            theirs.close()  # so that the pipe ends with the worker
        self.step, self.out = step, order.out
        self.pipe.send(order)

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


def _hands(study: Study, store: Store, team: Crew, count: int, progress: Progress) -> list[_Hand]:
    cores = _cores()

    def start(index: int, pipe: Connection) -> SpawnProcess:
        own = cores[index * team.threads : (index + 1) * team.threads]
        share = frozenset(own) if team.workers * team.threads <= len(cores) else frozenset()
        context = multiprocessing.get_context("spawn")
        process = context.Process(target=serve, args=(pipe, study, store.root.absolute(), team.threads, share))
        process.start()
        return process

    return [_Hand(partial(start, index), progress.beside()) for index in range(count)]


@dataclass
class _Foreman:
    """Hands out steps whose inputs are made, takes in what comes back."""

    missing: dict[str, Step]
    store: Store
    outcome: Outcome
    hands: Sequence[_Hand]
    progress: Progress

    def work(self) -> None:
        """Until every step is made or has its error."""
        while self.missing or any(hand.step for hand in self.hands):
            for hand in self.hands:
                if hand.step is None and (step := self._next()) is not None:
                    self._give(hand, step)
            busy = {hand.pipe: hand for hand in self.hands if hand.step is not None and hand.pipe is not None}
            for pipe in wait(list(busy)) if busy else ():
                assert isinstance(pipe, Connection)
                self._hear(busy[pipe], pipe)

    def _next(self) -> Step | None:
        """The first step that can be made; those that never can are given their error."""
        for identity, step in list(self.missing.items()):
            sources = [source.id for source in step.inputs.values()]
            failed = next((self.outcome.errors[source] for source in sources if source in self.outcome.errors), None)
            if failed is not None:
                del self.missing[identity]
                self.outcome.errors[identity] = failed
                self.progress.advance(1, f"{step.title}: left out")
            elif all(source in self.outcome.made for source in sources):
                del self.missing[identity]
                return step
        return None

    def _give(self, hand: _Hand, step: Step) -> None:
        out, work = self.store.root / "tmp" / f"study-{step.id[:16]}", self.store.root / "work" / step.id[:16]
        shutil.rmtree(out, ignore_errors=True)
        for folder in (out, work):
            folder.mkdir(parents=True, exist_ok=True)
        inputs = {role: self.outcome.made[source.id].path.absolute() for role, source in step.inputs.items()}
        hand.give(step, Order(step.id, inputs, out.absolute(), work.absolute()))

    def _hear(self, hand: _Hand, pipe: Connection) -> None:
        step = hand.step
        assert step is not None
        try:
            message = pipe.recv()
        except (EOFError, OSError):
            how = hand.stop()
            error = ToolError(f"{step.title}: the worker process died ({how})", "too little memory? try --workers 1")
            message = Done(step.id, error=error)
        if not isinstance(message, Done):
            getattr(hand.progress, message.method)(*message.arguments)
            return
        hand.step = None
        if message.error is not None:
            self.outcome.errors[step.id] = message.error
        else:
            self.outcome.made[step.id] = self._keep(step, hand.out, list(message.measurements))
            self.outcome.executed.append(step.title)
        shutil.rmtree(hand.out, ignore_errors=True)
        self.progress.advance(1, f"{step.title}: {'failed' if message.error else 'done'}")

    def _keep(self, step: Step, made: Path, measurements: list[Measurement]) -> Artifact:
        def take(out: Path, work: Path) -> list[Measurement]:
            shutil.copytree(made, out, dirs_exist_ok=True)
            return measurements

        return self.store.build(
            step.stage, step.version, config=step.config, inputs=step.digests, producer=take, seed=step.seed
        )
