"""Why budgets were missed: verdicts and what a run left in, findings out. Pure; it measures nothing."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from earshot.ci.comparison import Comparison, ModelResult
from earshot.ci.costs import MEMORY, TIMES, cost_sentence, memory_costs, operator_costs
from earshot.ci.evidence import Evidence, Scores
from earshot.ci.explanation import Costs, Explanation, Finding, Layers, WorstClips
from earshot.ci.metrics import known_metric
from earshot.ci.quantity import quantity
from earshot.ci.run_file import Row, Run, shipped_row
from earshot.ci.verdict import Status, Verdict
from earshot.ci.waterfall import NOISY, Waterfall, waterfall
from earshot.ci.waterfall_text import sentences
from earshot.ci.worst_clips import worst_clips

BASELINE = "the baseline"
NAMED = 5  # operators
_ROUNDED = ("quantize", "convert:int8")
_COMPARED = re.compile(r"(?:worse|better) than (?P<row>.+)$")  # as `Budget.limit_text` ends


@dataclass(frozen=True)
class Known:
    """All that is known of a run.

    Attributes:
        run: the run.
        evidence: its rows and the scores of every clip, as far as they are kept.
        comparison: its targets with their operators, as far as they are kept.
        baseline: what it was compared with.
        layers: of its int8 file, where they were measured.
        float_operators: row -> operators of its file that compute in float, each with the reason.
        gone: titles of its artifacts that are not in the store any more.
    """

    run: Run
    evidence: Evidence
    comparison: Comparison = field(default_factory=Comparison)
    baseline: Evidence | None = None
    layers: Layers | None = None
    float_operators: Mapping[str, Sequence[str]] = field(default_factory=dict)
    gone: frozenset[str] = frozenset()


def explain(known: Known, verdicts: Sequence[Verdict]) -> Explanation:
    """One finding for each budget that did not pass."""
    missed = [one for one in verdicts if one.status is not Status.PASS and one.metric]
    findings = tuple(_finding(verdict, known) for verdict in missed)
    return Explanation(known.run.name, findings, known.layers)


def compared_with(verdict: Verdict) -> str | None:
    """What a budget compares with: a row, `BASELINE`, or nothing."""
    found = _COMPARED.search(verdict.limit)
    return found["row"] if found else None


def higher_is_better(verdict: Verdict) -> bool:
    """The sense of a verdict's metric; of a metric of a user's own, as its limit and its miss tell it."""
    known = known_metric(verdict.metric)
    if known is not None:
        return known.better == "higher"
    if verdict.value is not None and verdict.reference is not None:
        change = verdict.value - verdict.reference
        if "better than" in verdict.limit:  # what the margin leaves of the change is the gain asked for, or it is not
            return verdict.limit.startswith(f"at least {quantity(change - (verdict.margin or 0.0), verdict.unit)} ")
        return change < 0
    return not verdict.limit.startswith("≤")


def _finding(verdict: Verdict, known: Known) -> Finding:
    finding = Finding(verdict.budget, str(verdict.status), verdict.metric, verdict.row, verdict.target)
    if verdict.row is None:
        return replace(finding, missing=("there is no row to explain",))
    if verdict.target is not None:
        return _on_target(finding, verdict, known)
    return _of_quality(finding, verdict, known)


def _of_quality(finding: Finding, verdict: Verdict, known: Known) -> Finding:
    """Quality, sizes and counts of a row: where on the way to it they were lost, and in which clips."""
    row, higher, compared = str(verdict.row), higher_is_better(verdict), compared_with(verdict)
    base = known.baseline if compared == BASELINE and verdict.reference is not None else None
    beside = _beside(verdict, known) if base else None
    fall = waterfall(
        known.run.rows,
        verdict.metric,
        row,
        higher_is_better=higher,
        start=compared if compared not in (None, BASELINE, NOISY) else "",
        base=base.rows if base else (),
        baseline=base.name if base else "",
        base_row=beside.row if beside else "",
    )
    limit = _limit(verdict, higher)
    if fall is None:
        return replace(finding, limit=limit, missing=(f"{verdict.metric} was measured in fewer than two rows",))
    if verdict.value is None:
        return replace(finding, waterfall=fall, missing=(f"{verdict.metric} is not known of {row}: {verdict.reason}",))
    told = [*_computed_in_float(verdict, known), *sentences(fall, limit)]
    known_values = known_metric(verdict.metric)
    if known_values is not None and not known_values.per_clip:
        return replace(finding, limit=limit, waterfall=fall, sentences=tuple(told))
    told += _rounding(fall, known)
    clips = _clips(verdict, fall, known, higher)
    if isinstance(clips, WorstClips):
        told.append(_clips_sentence(clips))
        return replace(finding, limit=limit, waterfall=fall, sentences=tuple(told), clips=clips)
    missing = (f"clips: {clips}",) if clips else ()
    return replace(finding, limit=limit, waterfall=fall, sentences=tuple(told), missing=missing)


def _computed_in_float(verdict: Verdict, known: Known) -> list[str]:
    """Which operators of an integer file are float, and why."""
    found = known.float_operators.get(str(verdict.row), ()) if verdict.metric == "float_operators" else ()
    if not found:
        return []
    more = f", and {len(found) - NAMED} more" if len(found) > NAMED else ""
    return [f"computed in float: {', '.join(found[:NAMED])}{more}"]


def _rounding(fall: Waterfall, known: Known) -> list[str]:
    """Which layer 16 bits would help most, where rounding to int8 lost most."""
    if fall.worst is None or fall.worst.row not in _ROUNDED or fall.levels[-1].row != "convert:int8":
        return []
    if not fall.baseline and fall.lost(fall.begin, fall.known[-1]) <= 0:  # other steps made good what it lost
        return []
    if known.layers is None:
        return [f"which layers lose most to rounding: earshot explain {known.run.name}"]
    together, best = known.layers.together, known.layers.best
    if together is not None and together.gain_db > (best.gain_db if best and best.gain_db else 0.0):
        return [f"16 bits for {len(together.patterns)} layers gain the masks {together.gain_db:+.1f} dB (see layers)"]
    if best is not None:
        return [f"16 bits for {best.name} ({best.location}) gain the masks {best.gain_db or 0.0:+.1f} dB (see layers)"]
    return [f"no single layer gains from 16 bits; all of them together {_all_wide(known.layers):+.1f} dB (int16x8)"]


def _all_wide(layers: Layers) -> float:
    return layers.wide_snr_db - layers.mask_snr_db


def _limit(verdict: Verdict, higher: bool) -> float | None:
    """The value that just keeps the budget; of two bounds the one that was missed."""
    if verdict.value is None or verdict.margin is None:
        return None
    least, most = verdict.value - verdict.margin, verdict.value + verdict.margin
    for sign, bound in (("≥", least), ("≤", most)):
        if f"{sign} {quantity(bound, verdict.unit)}" in verdict.limit:
            return bound
    return least if higher else most


def _beside(verdict: Verdict, known: Known) -> Row | None:
    """The baseline's row that the gate compared with: of a run's shipped row it may be another that ships there."""
    if known.baseline is None:
        return None
    ships, row = shipped_row(known.run.rows), str(verdict.row)
    found = [known.baseline.row(row), shipped_row(known.baseline.rows) if ships and ships.row == row else None]

    def apart(one: Row) -> float:
        value = next((m.value for m in one.find(verdict.metric, verdict.target) if m.value is not None), None)
        return math.inf if value is None else abs(value - (verdict.reference or 0.0))

    return min((one for one in found if one is not None), key=apart, default=None)


def _clips(verdict: Verdict, fall: Waterfall, known: Known, higher: bool) -> WorstClips | str:
    """The worst clips against what the budget compares with, else against the row before the step that lost most."""
    row, compared = str(verdict.row), compared_with(verdict)
    scores = known.evidence.scores
    if compared == BASELINE:
        if known.baseline is None:
            return ""
        beside = _beside(verdict, known)
        against, theirs = known.baseline.name, known.baseline.scores.get(beside.row if beside else row)
    else:
        lost = fall.worst
        against = compared or (lost.since if lost and lost.since else NOISY)
        theirs = scores.get(against)
    for name, found in ((row, scores.get(row)), (against, theirs)):
        if found is None:
            gone = f"quality of {name}" in known.gone
            return f"the scores of {name} are {'no longer in the store' if gone else 'not kept'}"
    assert theirs is not None
    ours: tuple[str, Scores] = (row, scores[row])
    return worst_clips(verdict.metric, fall.unit, ours, (against, theirs), higher_is_better=higher)


def _clips_sentence(clips: WorstClips) -> str:
    said = f"{clips.lost} of {clips.n} clips are worse than in {clips.against}"
    if not clips.clips:
        return said
    named = ", ".join(f"{one.clip} ({one.reference:.3g} to {one.value:.3g})" for one in clips.clips[:3])
    return f"{said}, most of all {named}"


def _on_target(finding: Finding, verdict: Verdict, known: Known) -> Finding:
    """Time, size and memory on a device."""
    target, row = str(verdict.target), str(verdict.row)
    failed = known.run.why_absent(target, row)
    if failed is not None and verdict.value is None:
        return replace(finding, missing=(failed,))
    result = _result(known.comparison, target, row)
    if result is None:
        return replace(finding, missing=(f"{target} has no numbers of {row}",))
    costs: Costs | None = None
    missing: tuple[str, ...] = ()
    if verdict.metric in MEMORY:
        costs = memory_costs(target, result, verdict.metric)
        missing = () if costs else (f"parts of {verdict.metric} were not measured on {target}",)
    elif verdict.metric in TIMES:
        costs = operator_costs(target, result, verdict.metric)
        gone = f"profile on {target}" in known.gone
        why = "its profile is no longer in the store" if gone else f"{target} tells no costs of single operators"
        missing = () if costs else (f"operators: {why}",)
    else:
        missing = (f"{target} tells no parts of {verdict.metric}",)
    told = [cost_sentence(costs)] if costs else []
    if costs and costs.remark:
        told.append(costs.remark)
    return replace(
        finding, limit=_limit(verdict, higher_is_better(verdict)), sentences=tuple(told), costs=costs, missing=missing
    )


def _result(comparison: Comparison, target: str, row: str) -> ModelResult | None:
    for device in comparison.devices:
        if device.target == target:
            return next((one for one in device.results if one.model == row), None)
    return None
