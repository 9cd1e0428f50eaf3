"""Makes a study's steps: what is in the store is used again, a step that fails stops only its own.

An engine lends a crew: processes of this machine (`local_engine`), or the nodes of a cluster (`ray_engine`). This
process alone writes to the store, so whatever is killed, finished steps are kept.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from earshot.core.errors import EarshotError
from earshot.core.measurement import Measurement
from earshot.pipeline.progress import Progress
from earshot.pipeline.stages.step import Step
from earshot.pipeline.store import Artifact, Store
from earshot.pipeline.study.cells import Matrix
from earshot.pipeline.study.config import Study
from earshot.pipeline.study.order import Done, Order


class Crew(Protocol):
    """Makes steps, several at a time, and draws their progress."""

    @property
    def free(self) -> bool:
        """Whether it takes another order."""

    def give(self, step: Step, order: Order) -> None:
        """Has a step made; its files are in `order.out` when it is done."""

    def hear(self) -> Sequence[Done]:
        """The orders that have ended; waits for the first. Raises MachineError when no order can end any more."""


class Engine(Protocol):
    """Where steps are made."""

    def crew(
        self, study: Study, steps: Sequence[Step], missing: int, store: Store, progress: Progress
    ) -> AbstractContextManager[Crew]:
        """A crew; leaving the context stops whatever it still does.

        Args:
            study: as the crew needs it to plan for itself.
            steps: all of the study: they decide how many threads a training gets, which is part of its numbers.
            missing: how many of them are to be made.
            store: inputs lie there.
            progress: the crew draws beside it.

        Raises:
            EarshotError: this machine or the cluster cannot make these steps.
        """


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


def execute(study: Study, plan: Matrix, store: Store, engine: Engine, progress: Progress) -> Outcome:
    """Makes what is missing of a study.

    Args:
        study: what is made.
        plan: its cells.
        store: artifacts go there; it is held until the end.
        engine: makes the steps; not even started where none is missing.
        progress: of the whole; the crew draws beside it.

    Raises:
        ToolError: another process holds the store, or the disk is full.
        EarshotError: the engine cannot make steps, or no more.
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
            with engine.crew(study, list(steps.values()), len(missing), store, progress) as crew:
                _Foreman(missing, store, outcome, crew, progress).work()
        progress.finish(f"{len(outcome.executed)} steps made, {len(outcome.errors)} without result")
    return outcome


@dataclass
class _Foreman:
    """Hands out steps whose inputs are made, takes in what comes back."""

    missing: dict[str, Step]
    store: Store
    outcome: Outcome
    crew: Crew
    progress: Progress
    given: dict[str, tuple[Step, Order]] = field(default_factory=dict)

    def work(self) -> None:
        """Until every step is made or has its error."""
        while self.missing or self.given:
            while self.crew.free and (step := self._next()) is not None:
                self._give(step)
            if self.given:
                for done in self.crew.hear():
                    self._take(done)

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

    def _give(self, step: Step) -> None:
        out, work = self.store.root / "tmp" / f"study-{step.id[:16]}", self.store.root / "work" / step.id[:16]
        shutil.rmtree(out, ignore_errors=True)
        for folder in (out, work):
            folder.mkdir(parents=True, exist_ok=True)
        inputs = {role: self.outcome.made[source.id].path.absolute() for role, source in step.inputs.items()}
        order = Order(step.id, inputs, out.absolute(), work.absolute())
        self.given[step.id] = step, order
        self.crew.give(step, order)

    def _take(self, done: Done) -> None:
        step, order = self.given.pop(done.id)
        if done.error is not None:
            self.outcome.errors[step.id] = done.error
        else:
            self.outcome.made[step.id] = self._keep(step, order.out, list(done.measurements))
            self.outcome.executed.append(step.title)
        shutil.rmtree(order.out, ignore_errors=True)
        self.progress.advance(1, f"{step.title}: {'failed' if done.error else 'done'}")

    def _keep(self, step: Step, made: Path, measurements: list[Measurement]) -> Artifact:
        def take(out: Path, work: Path) -> list[Measurement]:
            shutil.copytree(made, out, dirs_exist_ok=True)
            return measurements

        return self.store.build(
            step.stage, step.version, config=step.config, inputs=step.digests, producer=take, seed=step.seed
        )
