"""Times of two runs' models taken anew, by turns on the same targets, until they are decided or enough is enough."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from earshot.ci.budget import Budget
from earshot.ci.comparable import CLOCKED
from earshot.ci.difference import Difference, Pair, Race, race_difference
from earshot.ci.evidence import Evidence
from earshot.ci.gate import judge
from earshot.ci.run_file import Row
from earshot.ci.verdict import Status
from earshot.core.config import parse
from earshot.core.errors import ArtifactError, DeviceError, UsageError
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


def take_turns(
    pair: Pair,
    rows: Sequence[str | None],
    budgets: Sequence[Budget],
    store: Store,
    progress: Progress,
    targets: Sequence[str] = (),
) -> Pair:
    """The pair with races of its models, of each of `rows` (None: the row that ships) on each target.

    Args:
        pair: the two runs.
        rows: whose models run.
        budgets: against a baseline; a race ends early when it has decided all of them.
        store: holds both models.
        progress: told of every round.
        targets: names; default: every one that both rows were timed on and that can run two models by turns.

    Raises:
        UsageError: no such row in both, or no such target.
        ArtifactError: a model is not in the store.
        DeviceError, ModelError: as `Target.profile`.
    """
    races: list[Race] = []
    for name in dict.fromkeys(rows):
        base, row = pair.rows(name)
        if base is None or row is None:
            raise UsageError(f"row '{name or 'that ships'}': not in both runs", "name one that is: --row ROW")
        models = model_of(pair.base, base, store), model_of(pair.candidate, row, store)
        named = targets or _shared_targets(base, row)
        if not named:
            raise UsageError(
                f"no target on which both runs were timed can run two models by turns (row '{row.row}')",
                "name a host or an SSH device: --target NAME",
            )
        for target in named:
            known = replace(pair, races=tuple(races))
            config = _config(pair, target, row.row)
            races.append(remeasure(target, *models, config, decided_by(known, budgets, row.row), progress))
    return replace(pair, races=tuple(races))


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
        config: threads, core, delegate.
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
    rounds: list[Mapping[str, tuple[float, float]]] = []
    found = Race(name, base.row, candidate.row, ())
    progress.start(f"take turns on {name}", looks[-1])
    with target.race(base.path, candidate.path, config) as race:
        for _ in range(looks[-1]):
            theirs, ours = race.round()
            rounds.append({metric: (theirs[metric], value) for metric, value in ours.items() if metric in theirs})
            progress.advance()
            if len(rounds) in looks:
                found = Race(name, base.row, candidate.row, tuple(rounds))
                if decided(found):
                    break
    progress.finish()
    return found


def clocked_budgets(budgets: Sequence[Budget]) -> list[Budget]:
    """Those on times that a race can tell."""
    return [budget for budget in budgets if budget.metric in CLOCKED]


def _shared_targets(base: Row, row: Row) -> list[str]:
    timed = [
        {found.target for found in one.measurements if found.target and found.metric in CLOCKED} for one in (base, row)
    ]
    return [name for name in sorted(timed[0] & timed[1]) if isinstance(open_target(name), Racing)]


def _config(pair: Pair, target: str, row: str) -> ProfileConfig:
    """Threads and delegate as the candidate was timed with."""
    timing = pair.candidate.timing(target, row)
    kept = timing.environment if timing else {}
    return parse(ProfileConfig, {key: kept[key] for key in ("threads", "delegate") if key in kept}, f"target {target}")


def decided_by(pair: Pair, budgets: Sequence[Budget], row: str) -> Decided:
    """Whether a race settles every budget on the row's times; without one, whether its median frame is known well."""
    strict = [
        budget.model_copy(update={"undecided": "fail", "severity": "fail"})
        for budget in clocked_budgets(budgets)
        if budget.row in (None, row)
    ]

    def decided(race: Race) -> bool:
        if strict:
            verdicts = judge(strict, pair.candidate.rows, None, replace(pair, races=(*pair.races, race)))
            return all(verdict.status is not Status.UNDECIDED for verdict in verdicts)
        median = Difference("frame_p50_us", "us", race.base_row, race.row, race.target)
        found = race_difference(median, race)
        low, high = found.bounds if found else (-math.inf, math.inf)
        return found is not None and high - low <= 2 * WELL_KNOWN * (found.base or 0.0)

    return decided
