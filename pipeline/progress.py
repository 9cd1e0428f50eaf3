"""How long work reports its progress without printing: the command line hands in a drawer, tests and libraries none."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Receives progress of one task at a time."""

    def start(self, task: str, total: int | None) -> None:
        """A task begins; `total` steps, or None when unknown."""

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Steps of the current task are done; `note` is shown beside the bar (a loss, a rate)."""

    def finish(self, note: str = "") -> None:
        """The current task is done."""


class Silent:
    """Draws none."""

    def start(self, task: str, total: int | None) -> None:
        """Ignores the task."""

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Ignores the steps."""

    def finish(self, note: str = "") -> None:
        """Ignores the end."""
