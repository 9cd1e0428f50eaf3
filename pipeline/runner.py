"""Walks a plan: makes what is missing, uses again what is there, gates the result and writes the run file."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from earshot.ci.gate import gate
from earshot.ci.run_file import SCHEMA, Row, Run
from earshot.core.errors import EarshotError, MachineError
from earshot.core.measurement import Measurement
from earshot.pipeline.data.base import Data
from earshot.pipeline.data.open import open_data
from earshot.pipeline.plan import Plan, PlannedRow, build_plan
from earshot.pipeline.progress import Progress
from earshot.pipeline.recipe import Recipe
from earshot.pipeline.runs import run_path, write_run
from earshot.pipeline.stages.profile import RESULTS
from earshot.pipeline.stages.step import Step
from earshot.pipeline.store import Artifact, Store

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


def run(recipe: Recipe, store: Store, progress: Progress) -> Path:
    """Runs a recipe to its verdicts.

    Args:
        recipe: what to do.
        store: where artifacts and the run file go; artifacts that are there are used again.
        progress: told about all long work.

    Returns:
        The run file's path.

    Raises:
        EarshotError: a step failed; the run file is written all the same, with status `failed` and the rows so far.
    """
    name = _free_name(store, f"{recipe.name}-{datetime.now(UTC).strftime('%Y%m%d-%H%M%S')}")
    made: dict[str, _Made] = {}
    planned = build_plan(recipe, _data(recipe, store))
    try:
        for step in planned.steps:
            made[step.id] = _make(step, store, made, progress)
    except (EarshotError, KeyboardInterrupt) as error:
        text = error.message if isinstance(error, EarshotError) else "interrupted"
        _write(store, name, recipe, planned, made, text)
        raise
    return _write(store, name, recipe, planned, made, None)


def _data(recipe: Recipe, store: Store) -> Data:
    return open_data(recipe.data, recipe.frontend.rate, _DATA_SEED, store.root / "cache")


def _make(step: Step, store: Store, made: Mapping[str, _Made], progress: Progress) -> _Made:
    found = store.find(step.id)
    if found is not None:
        return _Made(found, True, 0.0)
    inputs = {role: made[source.id].artifact for role, source in step.inputs.items()}
    begun = time.monotonic()

    def produce(out: Path, work: Path) -> list[Measurement]:
        try:
            return step.produce(inputs, out, work, progress)
        except (MemoryError, RuntimeError) as error:
            raise MachineError(f"{step.title} failed: {error}", "run again with --debug for the traceback") from error

    artifact = store.build(
        step.stage,
        step.version,
        config=step.config,
        inputs=step.digests,
        producer=produce,
        seed=step.seed,
    )
    return _Made(artifact, False, time.monotonic() - begun)


def _write(
    store: Store, name: str, recipe: Recipe, planned: Plan, made: Mapping[str, _Made], error: str | None
) -> Path:
    """Assembles rows, judges them, writes the run file."""
    timed = _profiled(planned, made)
    rows = tuple(row for one in planned.rows if (row := _row(one, made, timed.get(one.name, ()))) is not None)
    settled = recipe.model_dump(mode="json")
    finished = Run(name=name, recipe=settled, status="failed" if error else "complete", error=error, rows=rows)
    verdicts = gate(finished, recipe.budgets)
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
        "verdicts": [verdict.to_dict() for verdict in verdicts],
        "artifacts": {step.title: made[step.id].artifact.id for step in planned.steps if step.id in made},
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


def _profiled(planned: Plan, made: Mapping[str, _Made]) -> dict[str, tuple[Measurement, ...]]:
    """Row -> what the targets measured on its file."""
    timed: dict[str, tuple[Measurement, ...]] = {}
    for step in planned.profiles:
        if step.id not in made:
            continue
        results = json.loads(made[step.id].artifact.file(RESULTS).read_text(encoding="utf-8"))
        for row, result in results.items():
            found = tuple(Measurement.from_dict(one) for one in result["measurements"])
            timed[row] = (*timed.get(row, ()), *found)
    return timed


def _free_name(store: Store, wanted: str) -> str:
    """Two runs in one second get different names."""
    name, number = wanted, 1
    while run_path(store, name).exists():
        number += 1
        name = f"{wanted}-{number}"
    return name
