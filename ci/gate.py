"""The gate: budgets and rows in, verdicts out. Pure; what is missing or cannot be trusted fails, with the reason."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from earshot.ci.budget import Budget
from earshot.ci.budget_set import BudgetSet
from earshot.ci.difference import Difference, Pair
from earshot.ci.difference_text import difference_text
from earshot.ci.quantity import quantity
from earshot.ci.run_file import Row, Run, shipped_row
from earshot.ci.verdict import Status, Verdict
from earshot.core.config import parse
from earshot.core.errors import UsageError
from earshot.core.measurement import Measurement, Provenance

# Limits and values are decimals that binary floats only approximate: 2.25 - 2.23 must not exceed 0.02.
ROUNDING = 1e-9
_ORDER = list(Status)


def gate(run: Run, budgets: BudgetSet, pair: Pair | None = None) -> list[Verdict]:
    """Judges a run: every budget, and first of all that the run completed and every target gave its numbers.

    Args:
        run: the run.
        budgets: what it is held to.
        pair: the baseline beside it; budgets against a baseline need it.

    Raises:
        UsageError: a budget compares with a baseline and there is none.
    """
    return [*what_failed(run), *judge(budgets.resolved(), run.rows, run, pair)]


def what_failed(run: Run) -> list[Verdict]:
    """A failed verdict for a run that did not complete, and for every target without numbers."""
    verdicts = [
        Verdict(f"{one.target} was profiled", Status.FAIL, one.error, target=one.target) for one in run.failures
    ]
    if run.status != "complete":
        reason = f"the run failed: {run.error or 'no reason was recorded'}"
        verdicts.insert(0, Verdict("the run completed", Status.FAIL, reason))
    return verdicts


def recipe_budgets(run: Run) -> BudgetSet:
    """The budgets that the run's own recipe holds. Raises ConfigError when they are wrong."""
    section = run.recipe.get("budgets", [])
    return parse(BudgetSet, {"budgets": section} if isinstance(section, list) else section, f"run {run.name}: budgets")


def judge(
    budgets: Sequence[Budget], rows: Sequence[Row], run: Run | None = None, pair: Pair | None = None
) -> list[Verdict]:
    """One verdict for each budget, in order.

    A budget passes when its row exists, the metric was measured there in the budget's unit, the provenance is allowed,
    enough samples could be scored, and the value keeps the limit. Where a metric was measured on several targets and
    the budget names none, the worst counts. `run` knows why a target has no numbers. Against a baseline the whole
    interval of the difference has to keep the limit; where the limit lies inside it, the verdict is `undecided`.

    Raises:
        UsageError: a budget compares with a baseline and there is none.
    """
    return [_with_severity(_judge_row(budget, rows, run, pair), budget) for budget in budgets]


def _judge_row(budget: Budget, rows: Sequence[Row], run: Run | None, pair: Pair | None) -> Verdict:
    if budget.against_baseline and pair is None:
        raise UsageError(
            f"budget '{budget.title}' compares with a baseline, and there is none",
            "name one with --baseline, or tag a run: earshot tag RUN baseline; the first run of all: --no-baseline",
        )
    row = _named(rows, budget.row) if budget.row else shipped_row(rows)
    if row is None:
        wanted = f"row '{budget.row}'" if budget.row else "row that ships"
        return _failure(budget, None, f"the run has no {wanted}; it has: {', '.join(r.row for r in rows) or 'none'}")
    found = row.find(budget.metric, budget.target)
    if not found:
        elsewhere = sorted({str(m.target) for m in row.find(budget.metric) if m.target})
        where = f" on target '{budget.target}'" if budget.target else ""
        also = f" (it was on: {', '.join(elsewhere)})" if elsewhere else ""
        if run and budget.target and (why := run.why_absent(budget.target, row.row)):
            also = f": {why}"
        return _failure(budget, row.row, f"{budget.metric} was not measured in row '{row.row}'{where}{also}")
    if budget.against_baseline and pair is not None:
        verdicts = [_judge_difference(budget, row, measurement, pair) for measurement in found]
    else:
        verdicts = [_judge_value(budget, row, measurement, rows) for measurement in found]
    # A miss is worse than a pass, and one that could not even be compared (no margin) is the worst.
    return min(verdicts, key=lambda v: (-_ORDER.index(v.status), -math.inf if v.margin is None else v.margin))


def _judge_value(budget: Budget, row: Row, measurement: Measurement, rows: Sequence[Row]) -> Verdict:
    untrusted = _why_not(budget, measurement)
    if untrusted:
        return _failure(budget, row.row, untrusted, measurement)
    if budget.reference_row is None:
        return _limited(budget, row, measurement, None)
    reference = _reference(budget, row, measurement, rows)
    if isinstance(reference, str):
        return _failure(budget, row.row, reference, measurement)
    return _limited(budget, row, measurement, reference.value)


def _judge_difference(budget: Budget, row: Row, measurement: Measurement, pair: Pair) -> Verdict:
    """Against the same row of the baseline, or the row that ships there where the budget names none."""
    base = pair.base.row(budget.row) if budget.row else pair.rows(None)[0]
    if base is None:
        return _failure(budget, row.row, f"the baseline {pair.base.name} has no row to compare with", measurement)
    theirs = next((one for one in base.find(budget.metric) if one.target == measurement.target), None)
    for side, one in (("", measurement), (f"baseline {pair.base.name}: ", theirs)):
        if one is not None and (untrusted := _why_not(budget, one)):
            return _failure(budget, row.row, f"{side}{untrusted}", measurement)
    found = pair.difference(budget.metric, base, row, measurement.target, budget.higher_is_better)
    if found.refused is not None:
        reason = f"not comparable with the baseline {pair.base.name}: {found.refused}"
        return _failure(budget, row.row, reason, measurement)
    if found.method == "paired" and found.n < budget.min_n:
        reason = f"stands on {found.n} clips scored in both, at least {budget.min_n} are asked for"
        return _failure(budget, row.row, reason, measurement)
    return _decided(budget, row, measurement, found)


def _decided(budget: Budget, row: Row, measurement: Measurement, found: Difference) -> Verdict:
    """Pass or fail where the whole interval is on one side of the limit; of too little to have one, undecided."""
    value, base, loss = found.value or 0.0, found.base or 0.0, found.loss or 0.0
    limit = budget.allowed_loss(base)
    low, high = found.bounds
    slack = ROUNDING * max(1.0, abs(value), abs(base))
    status = Status.PASS if high <= limit + slack else Status.FAIL if low > limit + slack else Status.UNDECIDED
    if found.open is not None:
        status = Status.UNDECIDED
    word = {Status.PASS: "keeps", Status.FAIL: "misses"}.get(status, "not decidable")
    return Verdict(
        budget.title,
        status,
        f"{difference_text(found)}; {word}: {budget.limit_text}" + _worst_clips(found, status),
        metric=budget.metric,
        limit=budget.limit_text,
        row=row.row,
        target=measurement.target,
        value=value,
        reference=base,
        unit=measurement.unit,
        margin=limit - loss,
        provenance=str(measurement.provenance),
        n=found.n,
        interval=found.interval,
    )


def _worst_clips(found: Difference, status: Status) -> str:
    if status is Status.PASS or not found.worst:
        return ""
    return "; worst clips: " + ", ".join(f"{clip} ({quantity(-loss)})" for clip, loss in found.worst)


def _reference(budget: Budget, row: Row, measurement: Measurement, rows: Sequence[Row]) -> Measurement | str:
    """The measurement to compare with, or why there is none."""
    reference_row = _named(rows, str(budget.reference_row))
    if reference_row is None:
        return f"the run has no row '{budget.reference_row}' to compare with"
    name = f"row '{reference_row.row}'"
    if reference_row is row:
        return f"{name} would be compared with itself"
    found = [m for m in reference_row.find(budget.metric) if m.target == measurement.target]
    if len(found) != 1:
        count = "more than once" if found else "not at all"
        return f"{budget.metric} was measured {count} in {name}, nothing to compare with"
    untrusted = _why_not(budget, found[0])
    if untrusted:
        return f"{name}: {untrusted}"
    if budget.per_clip and found[0].n != measurement.n:
        return f"not comparable: {measurement.n} clips here, {found[0].n} in {name}"
    return found[0]


def _why_not(budget: Budget, measurement: Measurement) -> str | None:
    """Why a measurement cannot be judged at all, None when it can."""
    provenance, why = measurement.provenance, measurement.reason or "no reason was recorded"
    flags = [flag for flag in measurement.flags if flag not in budget.allow_flags]
    checks = (
        (
            measurement.value is None or provenance is Provenance.UNAVAILABLE,
            f"{measurement.metric} could not be measured: {why}",
        ),
        (
            provenance is Provenance.TEST_DOUBLE,
            "the value came from a stand-in for a device, which no budget accepts",
        ),
        (
            provenance not in budget.allowed,
            f"the value is {provenance}, which this budget accepts only with allow: {provenance}",
        ),
        (
            bool(flags),
            f"the value is marked {', '.join(flags)}, which this budget does not accept (allow_flags)",
        ),
        (
            measurement.unit != budget.required_unit,
            f"measured in {measurement.unit}, the budget is in {budget.required_unit}",
        ),
        (
            measurement.failed > budget.max_failed,
            f"{measurement.failed} samples could not be scored, {budget.max_failed} may be: {why}",
        ),
        (
            measurement.n < budget.min_n,
            f"stands on {measurement.n} samples, at least {budget.min_n} are asked for",
        ),
    )
    return next((reason for wrong, reason in checks if wrong), None)


def _room(budget: Budget, value: float, reference: float | None) -> float:
    """Distance to the nearest limit, negative outside."""
    if reference is not None:
        loss = reference - value if budget.higher_is_better else value - reference
        return budget.allowed_loss(reference) - loss
    rooms = []
    if budget.min is not None:
        rooms.append(value - budget.min)
    if budget.max is not None:
        rooms.append(budget.max - value)
    return min(rooms)


def _limited(budget: Budget, row: Row, measurement: Measurement, reference: float | None) -> Verdict:
    value = measurement.value or 0.0
    room = _room(budget, value, reference)
    # The slack depends on the values alone, so that a tighter limit can never pass where a looser one failed.
    keeps = room >= -ROUNDING * max(1.0, abs(value), abs(reference or 0.0))
    against = "" if reference is None else f" against {quantity(reference)} in row '{budget.reference_row}'"
    reason = f"{quantity(value, measurement.unit)}{against}, {'keeps' if keeps else 'misses'}: {budget.limit_text}"
    return Verdict(
        budget.title,
        Status.PASS if keeps else Status.FAIL,
        reason,
        metric=budget.metric,
        limit=budget.limit_text,
        row=row.row,
        target=measurement.target,
        value=value,
        reference=reference,
        unit=measurement.unit,
        margin=room if math.isfinite(room) else None,
        provenance=str(measurement.provenance),
        n=measurement.n,
    )


def _failure(budget: Budget, row: str | None, reason: str, measurement: Measurement | None = None) -> Verdict:
    return Verdict(
        budget.title,
        Status.FAIL,
        reason,
        metric=budget.metric,
        limit=budget.limit_text,
        row=row,
        target=measurement.target if measurement else budget.target,
        value=measurement.value if measurement else None,
        unit=measurement.unit if measurement else budget.required_unit,
        provenance=str(measurement.provenance) if measurement else None,
        n=measurement.n if measurement else None,
    )


def _with_severity(verdict: Verdict, budget: Budget) -> Verdict:
    undecided = verdict.status is Status.UNDECIDED and "warn" in (budget.undecided, budget.severity)
    if undecided or (verdict.status is Status.FAIL and budget.severity == "warn"):
        return replace(verdict, status=Status.WARN)
    return verdict


def _named(rows: Sequence[Row], name: str) -> Row | None:
    return next((row for row in rows if row.row == name), None)
