"""Walks a plan: makes what is missing, uses again what is there, gates the result and writes the run file."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from earshot.ci.budget_set import BudgetSet
from earshot.ci.evidence import Evidence
from earshot.ci.run_file import SCHEMA, Failure, LeftOut, Row, Run
from earshot.core.errors import EarshotError, MachineError, ToolError
from earshot.core.measurement import Measurement
from earshot.pipeline.beside import Done, Task, side_by_side
from earshot.pipeline.data.base import Data
from earshot.pipeline.data.open import open_data
from earshot.pipeline.gating import Gating
from earshot.pipeline.plan import Plan, PlannedRow, build_plan
from earshot.pipeline.progress import Progress
from earshot.pipeline.recipe import Recipe
from earshot.pipeline.runs import run_path, write_run
from earshot.pipeline.stages.profile import ProfileStep, read_profile
from earshot.pipeline.stages.step import Step
from earshot.pipeline.store import Artifact, Producer, Store

_DATA_SEED = 0  # the evaluation set stays the same whatever seed a recipe trains with


@dataclass(frozen=True)
class PlanLine:
    """One step as `earshot plan` shows it."""

    stage: str
    state: str
    artifact: str
    why: str


@dataclass(frozen=True)
class _Made:
    """An artifact and how it came: found in the store, or made in so many seconds."""

    artifact: Artifact
    cached: bool
    seconds: float


def plan(recipe: Recipe, store: Store) -> list[PlanLine]:
    """What `run` would do: every step, whether its artifact is there, and why it would be made."""
    lines = []
    missing: set[str] = set()
    for step in build_plan(recipe, _data(recipe, store)).steps:
        found = store.find(step.id)
        upstream = [source.title for source in step.inputs.values() if source.id in missing]
        if found is not None:
            lines.append(PlanLine(step.title, "cached", found.path.name, ""))
            continue
        missing.add(step.id)
        why = f"needs {', '.join(upstream)}" if upstream else "never made with these settings and inputs"
        lines.append(PlanLine(step.title, "run", f"{step.stage}-{step.id[:16]}", why))
    return lines


def run(
    recipe: Recipe,
    store: Store,
    progress: Progress,
    *,
    budgets: BudgetSet | None = None,
    baseline: Evidence | None = None,
) -> Path:
    """Runs a recipe to its verdicts.

    Args:
        recipe: what to do.
        store: where artifacts and the run file go; artifacts that are there are used again.
        progress: told about all long work.
        budgets: what the run is held to; the recipe's by default.
        baseline: what budgets against a baseline compare with.

    Returns:
        The run file's path.

    Raises:
        UsageError: a budget compares with a baseline and there is none; nothing was done.
        EarshotError: a step failed; the run file is written all the same, with status `failed` and the rows so far.
            A target that fails raises nothing: it stands among the run's `failures`, and the others are kept.
    """
    gating = Gating(recipe.budgets if budgets is None else budgets, baseline)
    name = _free_name(store, f"{recipe.name}-{datetime.now(UTC).strftime('%Y%m%d-%H%M%S')}")
    made: dict[str, _Made] = {}
    planned = build_plan(recipe, _data(recipe, store))
    failures: list[Failure] = []
    try:
        for step in planned.making:
            made[step.id] = _make(step, store, made, progress)
        failures += _profile(planned.profiles, store, made, progress)
    except (EarshotError, KeyboardInterrupt) as error:
        text = error.message if isinstance(error, EarshotError) else "interrupted"
        _write(store, name, recipe, gating, planned, made, text)
        raise
    return _write(store, name, recipe, gating, planned, made, None, failures)


def _data(recipe: Recipe, store: Store) -> Data:
    frontend = recipe.frontend
    return open_data(recipe.data, frontend.rate, _DATA_SEED, store.root / "cache", frontend.channels)


def _make(step: Step, store: Store, made: Mapping[str, _Made], progress: Progress) -> _Made:
    found = store.find(step.id)
    if found is not None:
        return _Made(found, True, 0.0)
    begun = time.monotonic()

    def produce(out: Path, work: Path) -> list[Measurement]:
        try:
            return step.produce(_inputs(step, made), out, work, progress)
        except (MemoryError, RuntimeError) as error:
            raise MachineError(f"{step.title} failed: {error}", "run again with --debug for the traceback") from error

    artifact = _build(step, store, produce)
    return _Made(artifact, False, time.monotonic() - begun)


def _profile(
    profiles: Sequence[ProfileStep], store: Store, made: dict[str, _Made], progress: Progress
) -> list[Failure]:
    """Makes the profiles that are missing, side by side; each enters the store as soon as it is done."""
    missing: dict[str, Step] = {}
    tasks: list[Task[Path]] = []
    failures: list[Failure] = []
    with tempfile.TemporaryDirectory(prefix="earshot-profile-") as scratch:
        for profiled in profiles:
            found = store.find(profiled.step.id)
            if found is not None:
                made[profiled.step.id] = _Made(found, True, 0.0)
                continue
            folder = Path(scratch) / str(len(tasks))
            missing[profiled.target] = profiled.step
            tasks.append(Task(profiled.target, profiled.exclusive, partial(_measure, profiled.step, made, folder)))
        for done in side_by_side(tasks, progress):
            step = missing[done.name]
            if done.error is not None or done.value is None:
                failures.append(_failure(done))
                continue
            artifact = _build(step, store, partial(_take, done.value))
            made[step.id] = _Made(artifact, False, done.seconds)
    return failures


def _failure(done: Done[Path]) -> Failure:
    error = done.error or ToolError(f"{done.name}: it gave nothing")
    return Failure(target=done.name, error=error.message, fix=error.hint)


def _measure(step: Step, made: Mapping[str, _Made], folder: Path, progress: Progress) -> Path:
    """A profile's files in a folder outside the store, because only one thread may write to a store."""
    out, work = folder / "out", folder / "work"
    for part in (out, work):
        part.mkdir(parents=True)
    step.produce(_inputs(step, made), out, work, progress)
    return out


def _take(folder: Path, out: Path, work: Path) -> list[Measurement]:
    shutil.copytree(folder, out, dirs_exist_ok=True)
    return []


def _inputs(step: Step, made: Mapping[str, _Made]) -> dict[str, Artifact]:
    return {role: made[source.id].artifact for role, source in step.inputs.items()}


def _build(step: Step, store: Store, producer: Producer) -> Artifact:
    return store.build(
        step.stage, step.version, config=step.config, inputs=step.digests, producer=producer, seed=step.seed
    )


def _write(
    store: Store,
    name: str,
    recipe: Recipe,
    gating: Gating,
    planned: Plan,
    made: Mapping[str, _Made],
    error: str | None,
    failures: Sequence[Failure] = (),
) -> Path:
    """Assembles rows, judges them, writes the run file."""
    timed, left_out = _profiled(planned, made)
    rows = tuple(row for one in planned.rows if (row := _row(one, made, timed.get(one.name, ()))) is not None)
    settled = recipe.model_dump(mode="json")
    finished = Run(
        name=name,
        recipe=settled,
        status="failed" if error else "complete",
        error=error,
        rows=rows,
        failures=tuple(failures),
        left_out=tuple(left_out),
        artifacts={step.title: made[step.id].artifact.id for step in planned.steps if step.id in made},
    )
    verdicts = gating.judge(finished, store)
    content: dict[str, Any] = {
        "schema": SCHEMA,
        "name": name,
        "recipe": settled,
        "status": finished.status,
        "error": error,
        "rows": [
            {
                "row": row.row,
                "stage": row.stage,
                "artifact": row.artifact,
                "cached": row.cached,
                "seconds": row.seconds,
                "measurements": [found.to_dict() for found in row.measurements],
            }
            for row in rows
        ],
        "failures": [failure.model_dump(mode="json") for failure in finished.failures],
        "left_out": [one.model_dump(mode="json") for one in finished.left_out],
        "verdicts": [verdict.to_dict() for verdict in verdicts],
        "artifacts": finished.artifacts,
    }
    return write_run(store, name, content)


def _row(planned: PlannedRow, made: Mapping[str, _Made], timed: tuple[Measurement, ...]) -> Row | None:
    """A row of what exists of it; None when nothing does."""
    parts = [made[step.id] for step in planned.steps if step.id in made]
    if not parts:
        return None
    by_metric: dict[tuple[str, str | None], Measurement] = {}
    for found in (*(one for part in parts for one in part.artifact.measurements), *timed):
        by_metric[found.metric, found.target] = found
    return Row(
        row=planned.name,
        stage=planned.stage,
        artifact=parts[0].artifact.id,
        cached=all(part.cached for part in parts),
        seconds=round(sum(part.seconds for part in parts), 2),
        measurements=tuple(by_metric.values()),
    )


def _profiled(planned: Plan, made: Mapping[str, _Made]) -> tuple[dict[str, tuple[Measurement, ...]], list[LeftOut]]:
    """Row -> what the targets measured on its file; and the files that a target could not run."""
    timed: dict[str, tuple[Measurement, ...]] = {}
    left_out: list[LeftOut] = []
    for profiled in planned.profiles:
        if profiled.step.id not in made:
            continue
        content = read_profile(made[profiled.step.id].artifact)
        for row, result in content["results"].items():
            found = tuple(Measurement.from_dict(one) for one in result["measurements"])
            timed[row] = (*timed.get(row, ()), *found)
        left_out += [LeftOut(target=profiled.target, row=row, reason=why) for row, why in content["left_out"].items()]
    return timed, left_out


def _free_name(store: Store, wanted: str) -> str:
    """Two runs in one second get different names."""
    name, number = wanted, 1
    while run_path(store, name).exists():
        number += 1
        name = f"{wanted}-{number}"
    return name
