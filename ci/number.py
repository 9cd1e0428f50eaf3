"""One number of a run with what decides which others it compares with: scores of every clip, what times hold for."""

from __future__ import annotations

from dataclasses import dataclass

from earshot.ci.comparable import ABSOLUTE_ONLY, CLOCKED, LOWER_BOUND, scores_differ, targets_differ
from earshot.ci.evidence import Evidence, Scores, Timing
from earshot.ci.metrics import known_metric
from earshot.ci.run_file import Row
from earshot.core.measurement import Measurement, Provenance


@dataclass(frozen=True)
class Number:
    """A measurement that has a value.

    Attributes:
        row: where it stands in its run.
        measurement: the number.
        scores: of the row's clips, where they are kept.
        timing: what the row's numbers on the measurement's target hold for, where that is kept.
    """

    row: str
    measurement: Measurement
    scores: Scores | None = None
    timing: Timing | None = None

    @property
    def value(self) -> float:
        """The number itself."""
        return self.measurement.value or 0.0

    @property
    def scored(self) -> frozenset[str]:
        """The clips that the value is a mean over; empty where they are not kept."""
        name, _, group = self.measurement.metric.partition("[")
        return frozenset(self.scores.column(name, group.rstrip("]"))) if self.scores else frozenset()


def find_number(evidence: Evidence, row: Row, metric: str, target: str | None) -> Number | None:
    """A metric of a row on a target (None: where no target matters); None where it has no value."""
    for found in row.find(metric):
        if found.target == target and found.value is not None:
            timing = evidence.timing(target, row.row) if target else None
            return Number(row.row, found, evidence.scores.get(row.row), timing)
    return None


def per_clip(metric: str) -> bool:
    """Whether a metric, with or without a group, is a mean over clips; one that is not known is taken for one."""
    known = known_metric(metric)
    return known is None or known.per_clip


def why_apart(one: Number, other: Number, called: str) -> str | None:
    """Why a number says nothing about another one of the same metric and target, None where they compare.

    Args:
        one, other: two numbers; whether they compare does not depend on which is which.
        called: what the reason calls the other one.
    """
    here, there = one.measurement, other.measurement
    if here.unit != there.unit:
        return f"another unit: {there.unit} in {called}, {here.unit} here"
    if here.provenance is not there.provenance:
        return f"{there.provenance} in {called}, {here.provenance} here"
    if (LOWER_BOUND in here.flags) is not (LOWER_BOUND in there.flags):
        where = f"in {called}" if LOWER_BOUND in there.flags else "here"
        return f"a lower bound {where} only: the total is not known there"
    name = here.metric.partition("[")[0]
    if here.target is not None:
        clocked = name in (*CLOCKED, *ABSOLUTE_ONLY) and here.provenance is Provenance.MEASURED
        return targets_differ(other.timing, one.timing, clocked, called)
    return _scores_apart(one, other, name, called) if per_clip(name) else None


def _scores_apart(one: Number, other: Number, metric: str, called: str) -> str | None:
    if differing := scores_differ(other.scores, one.scores, metric, called):
        return differing
    if one.scored != other.scored:
        there, here = len(other.scored - one.scored), len(one.scored - other.scored)
        return f"means over other clips: {there} could be scored in {called} alone, {here} here alone"
    return None
