"""How long work reports its progress without printing: the command line hands in a drawer, tests and libraries none."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from multiprocessing.queues import SimpleQueue


class Progress(Protocol):
    """Receives progress of one task at a time; work that runs side by side has one each, from `beside`."""

    def start(self, task: str, total: int | None) -> None:
        """A task begins; `total` steps, or None when unknown."""

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Steps of the current task are done; `note` is shown beside the bar (a loss, a rate)."""

    def finish(self, note: str = "") -> None:
        """The current task is done."""

    def beside(self) -> Progress:
        """A progress of its own for work that runs in another thread at the same time."""


class Silent:
    """Draws none."""

    def start(self, task: str, total: int | None) -> None:
        """Ignores the task."""

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Ignores the steps."""

    def finish(self, note: str = "") -> None:
        """Ignores the end."""

    def beside(self) -> Silent:
        """As silent."""
        return self


class Queued:
    """Sends progress through a queue to the process that draws it."""

    def __init__(self, queue: SimpleQueue[tuple[str, tuple[Any, ...]] | None]) -> None:
        self._queue = queue

    def start(self, task: str, total: int | None) -> None:
        """Sends the task."""
        self._queue.put(("start", (task, total)))

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Sends the steps."""
        self._queue.put(("advance", (steps, note)))

    def finish(self, note: str = "") -> None:
        """Sends the end."""
        self._queue.put(("finish", (note,)))

    def beside(self) -> Silent:
        """None: the queue carries one task at a time."""
        return Silent()


@contextmanager
def from_processes(progress: Progress) -> Iterator[Queued]:
    """A progress that child processes can be given; what they report is drawn here, by `progress`."""
    import multiprocessing

    queue: SimpleQueue[tuple[str, tuple[Any, ...]] | None] = multiprocessing.get_context("spawn").SimpleQueue()

    def draw() -> None:
        while (message := queue.get()) is not None:
            getattr(progress, message[0])(*message[1])

    drawing = threading.Thread(target=draw, name="progress", daemon=True)
    drawing.start()
    try:
        yield Queued(queue)
    finally:
        queue.put(None)
        drawing.join(timeout=5)
