"""Times of two runs' models taken anew, by turns on the same targets, until they are decided or enough is enough."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from earshot.ci.budget import Budget
from earshot.ci.comparable import CLOCKED, RACED
from earshot.ci.difference import Difference, Pair, Race, race_difference
from earshot.ci.evidence import Evidence
from earshot.ci.gate import judge
from earshot.ci.run_file import Row
from earshot.ci.verdict import Status
from earshot.core.config import parse
from earshot.core.errors import ArtifactError, DeviceError, UsageError
from earshot.core.measurement import Provenance
from earshot.pipeline.store import Store
from earshot.targets.base import ProfileConfig, Racing, Target
from earshot.targets.registry import open_target

if TYPE_CHECKING:
    from earshot.pipeline.progress import Progress

LOOKS = (12, 24, 48)  # rounds after which it is asked whether more would help; ci/statistics.py counts on three

WELL_KNOWN = 0.01  # of its value: half the width of an interval that needs no more rounds

Decided = Callable[[Race], bool]


@dataclass(frozen=True)
class Model:
    """A row's .tflite."""

    row: str
    path: Path


@dataclass(frozen=True)
class Heat:
    """A race to come: whose models, and where."""

    base: Row
    row: Row
    target: str


def heats_of_rows(pair: Pair, rows: Sequence[str | None], targets: Sequence[str] = ()) -> list[Heat]:
    """The races of some rows.

    Args:
        pair: the two runs.
        rows: whose models run; None is the row that ships.
        targets: names; default: every one that both rows were timed on and that can run two models by turns.

    Raises:
        UsageError: no such row in both, or no such target.
    """
    heats: list[Heat] = []
    for name in rows:
        base, row = pair.rows(name)
        if base is None or row is None:
            raise UsageError(f"row '{name or 'that ships'}': not in both runs", "name one that is: --row ROW")
        named = targets or _shared_targets(base, row)
        if not named:
            raise UsageError(
                f"no target on which both runs were timed can run two models by turns (row '{row.row}')",
                "name a host or an SSH device: --target NAME",
            )
        heats += [Heat(base, row, target) for target in named]
    return _each_once(heats)


def heats_of_budgets(pair: Pair, budgets: Sequence[Budget]) -> tuple[list[Heat], list[str]]:
    """The races that budgets against a baseline need, and what stays as it is stored although it was read off a clock.

    Counts and modelled times are neither: they compare exactly. Raises UsageError: a target is not known here.
    """
    heats: list[Heat] = []
    stored: list[str] = []
    for budget in budgets:
        base, row = pair.rows(budget.row)
        if base is None or row is None or budget.metric not in CLOCKED:
            continue
        for found in row.find(budget.metric, budget.target):
            if found.target is None or found.provenance is not Provenance.MEASURED:
                continue
            if budget.metric not in RACED:
                stored.append(f"{budget.metric} on {found.target}: models by turns do not tell it")
            elif not isinstance(open_target(found.target), Racing):
                stored.append(f"{budget.metric} on {found.target}: it cannot run two models by turns")
            else:
                heats.append(Heat(base, row, found.target))
    return _each_once(heats), list(dict.fromkeys(stored))


def take_turns(pair: Pair, heats: Sequence[Heat], budgets: Sequence[Budget], store: Store, progress: Progress) -> Pair:
    """The pair with races of its models.

    Args:
        pair: the two runs.
        heats: which races.
        budgets: against a baseline; a race ends early when it has decided all that are on its target and row.
        store: holds the models.
        progress: told of every round.

    Raises:
        UsageError: a target cannot run two models by turns.
        ArtifactError: a model is not in the store.
        DeviceError, ModelError: as `Target.profile`.
    """
    races = []
    for heat in heats:
        models = model_of(pair.base, heat.base, store), model_of(pair.candidate, heat.row, store)
        config = _config(pair, heat.target, heat.row.row)
        races.append(remeasure(heat.target, *models, config, decided_by(pair, budgets), progress))
    return replace(pair, races=tuple(races))


def model_of(evidence: Evidence, row: Row, store: Store) -> Model:
    """A row's model in the store. Raises ArtifactError when it is not there."""
    artifact = store.find(row.artifact) if row.artifact else None
    if artifact is None:
        raise ArtifactError(
            f"{evidence.name}: the model of its row '{row.row}' is not in {store.root}, so it cannot run again",
            "get it with: earshot pull, or make it again with: earshot run",
        )
    name = next((name for name in artifact.manifest.files if name.endswith(".tflite")), None)
    variant = row.row.rpartition(":")[2]
    name = next((one for one in artifact.manifest.files if one.endswith(f"{variant}.tflite")), name)
    if name is None:
        raise ArtifactError(f"{artifact.path}: no .tflite in it", "compare a row of the convert stage")
    return Model(row.row, artifact.file(name))


def remeasure(
    name: str,
    base: Model,
    candidate: Model,
    config: ProfileConfig,
    decided: Decided,
    progress: Progress,
    looks: Sequence[int] = LOOKS,
) -> Race:
    """Runs two models by turns on one target.

    Args:
        name: of the target.
        base, candidate: what to run.
        config: threads, core, delegate, and how long it may take: then the race ends with the rounds it has.
        decided: asked after each of `looks`; True ends the race.
        progress: told of every round.
        looks: rounds, ascending; the last ends it in any case.

    Raises:
        UsageError: the target cannot run two models by turns.
        DeviceError, ModelError: as `Target.profile`.
    """
    target: Target = open_target(name)
    if not isinstance(target, Racing):
        raise UsageError(
            f"target {name}: it cannot run two models by turns",
            "counts compare without: leave out --remeasure, or name a host or an SSH device with --target",
        )
    state = target.availability()
    if not state.ok:
        raise DeviceError(f"target {name}: {state.reason}", state.enable or None)
    limit = config.timeout_seconds
    found = Race(name, base.row, candidate.row, (), f"the {limit:g} s of a race were up")
    progress.start(f"take turns on {name}", looks[-1])
    begun = time.monotonic()
    try:
        with target.race(base.path, candidate.path, config) as race:
            longest = 0.0
            while (round_begun := time.monotonic()) + longest < begun + limit:
                theirs, ours = race.round()
                both = {metric: (theirs[metric], value) for metric, value in ours.items() if metric in theirs}
                found = replace(found, rounds=(*found.rounds, both))
                longest = max(longest, time.monotonic() - round_begun)
                progress.advance()
                enough = len(found.rounds) >= looks[-1]
                if enough or (len(found.rounds) in looks and decided(found)):
                    found = replace(found, ended="")
                    break
    except DeviceError:
        if time.monotonic() < begun + limit:
            raise
    progress.finish()
    return found


def decided_by(pair: Pair, budgets: Sequence[Budget]) -> Decided:
    """Whether a race settles every budget on its row's times on its target; without one, whether its median frame is
    known well.

    Each budget is asked on that target alone: a budget without one is judged by the worst of all targets, whose
    verdict would hide that it is still open here.
    """

    def decided(race: Race) -> bool:
        alone = replace(pair, races=(race,))
        strict = [
            budget.model_copy(update={"target": race.target, "undecided": "fail", "severity": "fail"})
            for budget in budgets
            if budget.metric in RACED and budget.target in (None, race.target) and _is_of(race, pair, budget)
        ]
        if strict:
            verdicts = judge(strict, pair.candidate.rows, None, alone)
            return all(verdict.status is not Status.UNDECIDED for verdict in verdicts)
        median = Difference("frame_p50_us", "us", race.base_row, race.row, race.target)
        found = race_difference(median, race)
        low, high = found.interval if found and found.interval else (-math.inf, math.inf)
        return found is not None and high - low <= 2 * WELL_KNOWN * (found.base or 0.0)

    return decided


def _is_of(race: Race, pair: Pair, budget: Budget) -> bool:
    base, row = pair.rows(budget.row)
    return base is not None and row is not None and (base.row, row.row) == (race.base_row, race.row)


def _shared_targets(base: Row, row: Row) -> list[str]:
    timed = [
        {found.target for found in one.measurements if found.target and found.metric in CLOCKED} for one in (base, row)
    ]
    return [name for name in sorted(timed[0] & timed[1]) if isinstance(open_target(name), Racing)]


def _each_once(heats: Sequence[Heat]) -> list[Heat]:
    return list({(heat.base.row, heat.row.row, heat.target): heat for heat in heats}.values())


def _config(pair: Pair, target: str, row: str) -> ProfileConfig:
    """Threads and delegate as the candidate was timed with."""
    timing = pair.candidate.timing(target, row)
    kept = timing.environment if timing else {}
    return parse(ProfileConfig, {key: kept[key] for key in ("threads", "delegate") if key in kept}, f"target {target}")
