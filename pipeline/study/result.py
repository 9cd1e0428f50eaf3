"""What a study found: scores per arm over seeds, and paired differences to the same student without a teacher.

Two intervals, both 95 %, answer two questions about a difference:

    over seeds   paired t: the mean over clips of one seed's two trainings is one observation. Would other seeds agree?
    over clips   percentile bootstrap: each clip's difference, averaged over seeds, is drawn with replacement
                 (Efron & Tibshirani 1993). Would other clips agree, with these very trainings?
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from earshot.ci.statistics import Interval, bootstrap_mean
from earshot.core.errors import EarshotError
from earshot.pipeline.metrics.results import Evaluation, confidence_interval
from earshot.pipeline.stages.quality import SCORES
from earshot.pipeline.study.cells import Arm, Cell, Matrix
from earshot.pipeline.study.config import Study
from earshot.pipeline.study.engine import Outcome

WHOLE = "all"

Scores = Mapping[str, float]  # clip -> value


@dataclass(frozen=True)
class Difference:
    """A paired difference to the same student alone, in the metric's unit; positive is higher with the teacher.

    Attributes:
        mean: over seeds, of means over clips.
        seeds, clips: how many pairs.
        over_seeds: 95 % interval, paired t; None for one seed.
        over_clips: 95 % interval, bootstrap; None for one clip.
    """

    mean: float
    seeds: int
    clips: int
    over_seeds: Interval | None
    over_clips: Interval | None


@dataclass(frozen=True)
class Line:
    """One arm, one metric, one part of the test set.

    Attributes:
        mean: over seeds, of means over clips; None where nothing was scored.
        deviation: standard deviation over seeds (n - 1); None for fewer than two.
        seeds, clips: how many were scored.
        difference: None for what has nothing to be compared with.
    """

    arm: Arm
    metric: str
    unit: str
    group: str
    mean: float | None
    deviation: float | None
    seeds: int
    clips: int
    difference: Difference | None


@dataclass(frozen=True)
class Failed:
    """A cell without result."""

    arm: Arm
    seed: int | None
    error: EarshotError


@dataclass(frozen=True)
class Result:
    """All that a study tells."""

    study: Study
    lines: tuple[Line, ...]
    failed: tuple[Failed, ...]


def collect(study: Study, plan: Matrix, outcome: Outcome) -> Result:
    """Reads the scores of every finished cell and compares them."""
    scored: dict[Arm, dict[int | None, Evaluation]] = {}
    failed = []
    for cell in plan.cells:
        evaluations = scored.setdefault(cell.arm, {})
        error = outcome.errors.get(cell.quality.id)
        if error is not None:
            failed.append(Failed(cell.arm, cell.seed, error))
        else:
            evaluations[cell.seed] = _read(cell, outcome)
    lines = [
        line(arm, metric, group, evaluations, scored.get(arm.alone, {}) if arm != arm.alone and arm.student else None)
        for group in (WHOLE, *study.groups)
        for metric in study.metrics
        for arm, evaluations in scored.items()
    ]
    return Result(study, tuple(lines), tuple(failed))


def line(
    arm: Arm,
    metric: str,
    group: str,
    evaluations: Mapping[int | None, Evaluation],
    alone: Mapping[int | None, Evaluation] | None,
) -> Line:
    """One line of the result.

    Args:
        arm: whose.
        metric, group: what is told; group `all` is the whole test set.
        evaluations: seed -> scores of the arm.
        alone: seed -> scores of the same student without a teacher.
    """
    by_seed = {seed: values for seed, one in evaluations.items() if (values := _values(one, metric, group))}
    means = [_mean(list(values.values())) for values in by_seed.values()]
    unit = next((one.units[metric] for one in evaluations.values()), "")
    compared = None
    if alone:
        theirs = {seed: _values(one, metric, group) for seed, one in alone.items()}
        compared = difference([(values, theirs[seed]) for seed, values in by_seed.items() if theirs.get(seed)])
    return Line(
        arm=arm,
        metric=metric,
        unit=unit,
        group=group,
        mean=_mean(means) if means else None,
        deviation=float(np.std(means, ddof=1)) if len(means) > 1 else None,
        seeds=len(means),
        clips=len({clip for values in by_seed.values() for clip in values}),
        difference=compared,
    )


def difference(pairs: Sequence[tuple[Scores, Scores]]) -> Difference | None:
    """The paired difference.

    Args:
        pairs: one a seed: the arm's scores and those of the student alone. Clips that are scored in all of them count.
    """
    common = sorted(set.intersection(*(set(scores) for pair in pairs for scores in pair))) if pairs else []
    if not common:
        return None
    gains = np.array([[taught[clip] - alone[clip] for clip in common] for taught, alone in pairs])
    return Difference(
        mean=float(gains.mean()),
        seeds=len(pairs),
        clips=len(common),
        over_seeds=confidence_interval(gains.mean(1).tolist()),
        over_clips=bootstrap_mean(gains.mean(0)) if len(common) > 1 else None,
    )


def _values(evaluation: Evaluation, metric: str, group: str) -> dict[str, float]:
    return {
        clip.id: clip.values[metric]
        for clip in evaluation.clips
        if metric in clip.values and group in (WHOLE, clip.group)
    }


def _read(cell: Cell, outcome: Outcome) -> Evaluation:
    text = outcome.made[cell.quality.id].file(SCORES).read_text(encoding="utf-8")
    return Evaluation.from_dict(json.loads(text))


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
