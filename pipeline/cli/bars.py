"""Draws progress on stderr: bars on a terminal, plain lines elsewhere (logs, CI)."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import click
from rich import progress as rich_progress
from rich.console import Console

from earshot.pipeline.progress import Progress, Silent

HEARTBEAT_SECONDS = 30.0


@contextmanager
def drawer(quiet: bool = False) -> Iterator[Progress]:
    """The drawer that suits where stderr goes."""
    if quiet:
        yield Silent()
    elif sys.stderr.isatty():
        with _rich_bars() as bars:
            yield Bars(bars)
    else:
        yield Lines()


class Bars:
    """`earshot.pipeline.progress.Progress` on a terminal."""

    def __init__(self, bars: rich_progress.Progress) -> None:
        self._bars = bars
        self._task: rich_progress.TaskID | None = None

    def start(self, task: str, total: int | None) -> None:
        """Opens a bar; one that is still open stays as it is."""
        self._task = self._bars.add_task(task, total=total, note="")

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Moves the open bar."""
        if self._task is not None:
            self._bars.update(self._task, advance=steps)
            if note:
                self._bars.update(self._task, note=note)

    def finish(self, note: str = "") -> None:
        """Fills and closes the open bar."""
        if self._task is None:
            return
        task = next(task for task in self._bars.tasks if task.id == self._task)
        total = task.total if task.total is not None else max(task.completed, 1)
        self._bars.update(self._task, total=total, completed=total, note=note or task.fields["note"])
        self._bars.stop_task(self._task)
        self._task = None

    def beside(self) -> Bars:
        """Bars of its own on the same screen."""
        return Bars(self._bars)


class Lines:
    """`earshot.pipeline.progress.Progress` in a log: a line when a task ends, and a sign of life while it lasts."""

    def __init__(self) -> None:
        self._task = ""
        self._done = 0
        self._total: int | None = None
        self._began = self._spoke = 0.0

    def start(self, task: str, total: int | None) -> None:
        """Notes when the task began."""
        self._task, self._total, self._done = task, total, 0
        self._began = self._spoke = time.monotonic()

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Says where a long task stands, twice a minute."""
        self._done += steps
        now = time.monotonic()
        if now - self._spoke >= HEARTBEAT_SECONDS:
            self._spoke = now
            self._say(f"{self._done}/{self._total or '?'}", note)

    def finish(self, note: str = "") -> None:
        """Says that the task is done and how long it took."""
        self._say(f"{time.monotonic() - self._began:.1f} s", note)

    def beside(self) -> Lines:
        """Lines of its own in the same log; each names its task."""
        return Lines()

    def _say(self, state: str, note: str) -> None:
        click.echo("  ".join(part for part in (self._task, state, note) if part), err=True)


def _rich_bars() -> rich_progress.Progress:
    return rich_progress.Progress(
        rich_progress.SpinnerColumn(),
        rich_progress.TextColumn("{task.description}"),
        rich_progress.BarColumn(),
        rich_progress.MofNCompleteColumn(),
        rich_progress.TimeElapsedColumn(),
        rich_progress.TextColumn("{task.fields[note]}", style="dim"),
        console=Console(stderr=True),
    )
