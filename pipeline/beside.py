"""Work that runs side by side, one thread each: a piece that fails is told of and stops no other."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from earshot.core.errors import EarshotError, ToolError
from earshot.pipeline.progress import Progress

T = TypeVar("T")

# Emulators share this machine's cores and devices elsewhere need none: more at once only lengthens every one's wait.
AT_ONCE = max(4, os.cpu_count() or 1)
STOP_SECONDS = 20.0  # how long work may take to put its things in order after an interrupt


@dataclass(frozen=True)
class Task(Generic[T]):
    """One piece of work.

    Attributes:
        name: what it is called.
        exclusive: it reads this machine's clock, so it runs before the others and alone.
        work: does it, in a thread of its own unless it is exclusive.
    """

    name: str
    exclusive: bool
    work: Callable[[Progress], T]


@dataclass(frozen=True)
class Done(Generic[T]):
    """How a task ended: with a value or with an error, and after how many seconds."""

    name: str
    value: T | None
    error: EarshotError | None
    seconds: float


class _Stopped(BaseException):
    """Raised inside a task at its next sign of progress, so that it ends by its own `finally`."""


class _Stoppable:
    """A task's progress, through which it is stopped."""

    def __init__(self, progress: Progress, stop: threading.Event) -> None:
        self._progress, self._stop = progress, stop

    def start(self, task: str, total: int | None) -> None:
        """Passed on."""
        self._go_on()
        self._progress.start(task, total)

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Passed on."""
        self._go_on()
        self._progress.advance(steps, note)

    def finish(self, note: str = "") -> None:
        """Passed on."""
        self._progress.finish(note)

    def beside(self) -> Progress:
        """Stopped with this one."""
        return _Stoppable(self._progress.beside(), self._stop)

    def _go_on(self) -> None:
        if self._stop.is_set():
            raise _Stopped


def side_by_side(tasks: Sequence[Task[T]], progress: Progress) -> Iterator[Done[T]]:
    """Runs tasks and yields each as it ends: the exclusive ones first, one by one, then all others at once.

    When the caller stops early, on an interrupt say, running tasks are asked to end and waited for.
    """
    for task in tasks:
        if task.exclusive:
            yield _run(task, progress)
    shared = [task for task in tasks if not task.exclusive]
    ended: queue.SimpleQueue[Done[T]] = queue.SimpleQueue()
    stop, slots = threading.Event(), threading.Semaphore(AT_ONCE)

    def run(task: Task[T]) -> None:
        with slots:
            if not stop.is_set():
                ended.put(_run(task, _Stoppable(progress.beside(), stop)))

    threads = [threading.Thread(target=run, args=(task,), name=task.name, daemon=True) for task in shared]
    try:
        for thread in threads:
            thread.start()
        for _ in shared:
            yield ended.get()
    finally:
        stop.set()
        deadline = time.monotonic() + STOP_SECONDS
        for thread in threads:
            if thread.is_alive():
                thread.join(max(0.0, deadline - time.monotonic()))


def _run(task: Task[T], progress: Progress) -> Done[T]:
    begun = time.monotonic()
    value: T | None = None
    failure: EarshotError | None = None
    try:
        value = task.work(progress)
    except EarshotError as error:
        failure = error
    except _Stopped:
        failure = ToolError(f"{task.name}: stopped")
    except Exception as error:  # noqa: BLE001 - a mistake in one target's driver must not take the others' results along
        message = f"{task.name}: unexpected {type(error).__name__}: {error}"
        failure = ToolError(message, "if earshot is at fault, report it")
        failure.__cause__ = error
    return Done(task.name, value, failure, time.monotonic() - begun)
