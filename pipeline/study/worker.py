"""A worker process of a study: makes one step after the other for the process that started it, and ends with it.

Steps hold functions that no pipe carries, so a worker plans the same matrix itself and is told identities.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import parent_process
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from earshot.core.errors import EarshotError, MachineError, ToolError
from earshot.core.measurement import Measurement
from earshot.pipeline.progress import Silent
from earshot.pipeline.stages.step import Step
from earshot.pipeline.store import Store
from earshot.pipeline.study.cells import matrix, open_study_data
from earshot.pipeline.study.config import Study


@dataclass(frozen=True)
class Order:
    """A step to make: its identity, its inputs' artifacts, the folders for payload and for resumable scratch."""

    id: str
    inputs: Mapping[str, Path]
    out: Path
    work: Path


@dataclass(frozen=True)
class Done:
    """How an order ended: with what was measured, or with an error."""

    id: str
    measurements: Sequence[Measurement] = ()
    error: EarshotError | None = None


@dataclass(frozen=True)
class Sign:
    """A sign of progress: a method of `Progress` and its arguments."""

    method: str
    arguments: tuple[Any, ...]


def serve(pipe: Connection, study: Study, root: Path, threads: int, cores: frozenset[int]) -> None:
    """Takes orders from a pipe until it is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt reaches the whole group; the parent decides
    threading.Thread(target=_end_with_parent, name="end with parent", daemon=True).start()
    if cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)  # scoring sizes its own workers to the cores it may use
    store = Store(root)
    steps = matrix(study, open_study_data(study, root / "cache"), threads).steps
    while True:
        try:
            order = pipe.recv()
        except EOFError:
            return
        step = steps[order.id]
        pipe.send(_carried_out(order, step, store, _Sent(pipe, step.title)))


class _Sent:
    """Progress through the pipe, under the step's title: stages call their tasks alike in every cell."""

    def __init__(self, pipe: Connection, title: str) -> None:
        self._pipe, self._title = pipe, title

    def start(self, task: str, total: int | None) -> None:
        """Sends the task."""
        self._pipe.send(Sign("start", (task if self._title in task else f"{self._title}: {task}", total)))

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Sends the steps."""
        self._pipe.send(Sign("advance", (steps, note)))

    def finish(self, note: str = "") -> None:
        """Sends the end."""
        self._pipe.send(Sign("finish", (note,)))

    def beside(self) -> Silent:
        """None: the pipe carries one task at a time."""
        return Silent()


def _carried_out(order: Order, step: Step, store: Store, progress: _Sent) -> Done:
    try:
        inputs = {role: store.open(folder) for role, folder in order.inputs.items()}
        return Done(order.id, step.produce(inputs, order.out, order.work, progress))
    except EarshotError as error:
        return Done(order.id, error=error)
    except (MemoryError, RuntimeError) as error:
        return Done(order.id, error=MachineError(f"{step.title} failed: {error}"))
    except Exception as error:  # noqa: BLE001 - one cell's mistake must not take the others along
        return Done(order.id, error=ToolError(f"{step.title}: unexpected {type(error).__name__}: {error}"))


def _end_with_parent() -> None:
    """A worker whose parent was killed would train on into the scratch that the next study resumes from."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
