"""What is said between a study and whoever makes its steps, in this machine's processes and on a cluster alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from earshot.core.errors import EarshotError, MachineError, ToolError
from earshot.core.measurement import Measurement
from earshot.pipeline.progress import Progress, Silent
from earshot.pipeline.stages.step import Step
from earshot.pipeline.store import Store


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

    def draw(self, progress: Progress) -> None:
        """Tells it to a progress of this process."""
        getattr(progress, self.method)(*self.arguments)


class Sending:
    """Progress that is sent away, under the step's title: stages call their tasks alike in every cell."""

    def __init__(self, send: Callable[[Sign], None], title: str) -> None:
        self._send, self._title = send, title

    def start(self, task: str, total: int | None) -> None:
        """Sends the task."""
        self._send(Sign("start", (task if self._title in task else f"{self._title}: {task}", total)))

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Sends the steps."""
        self._send(Sign("advance", (steps, note)))

    def finish(self, note: str = "") -> None:
        """Sends the end."""
        self._send(Sign("finish", (note,)))

    def beside(self) -> Silent:
        """None: what is sent carries one task at a time."""
        return Silent()


def carry_out(order: Order, step: Step, store: Store, progress: Progress) -> Done:
    """Makes a step's files in `order.out`; whatever goes wrong is the step's error, and takes nothing else along.

    Args:
        order: where its inputs are and its files go.
        step: as planned by the process that makes it.
        store: checks every byte of the inputs.
        progress: of the stage.
    """
    try:
        inputs = {role: store.open(folder) for role, folder in order.inputs.items()}
        return Done(order.id, step.produce(inputs, order.out, order.work, progress))
    except EarshotError as error:
        return Done(order.id, error=error)
    except (MemoryError, RuntimeError) as error:
        return Done(order.id, error=MachineError(f"{step.title} failed: {error}"))
    except Exception as error:  # noqa: BLE001 - one cell's mistake must not take the others along
        return Done(order.id, error=ToolError(f"{step.title}: unexpected {type(error).__name__}: {error}"))
