"""A metric over runs: in the order they were made, with gaps where it was not measured and breaks where it differs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from earshot.ci.budget import Budget
from earshot.ci.evidence import Evidence
from earshot.ci.gate import recipe_budgets
from earshot.ci.metrics import KNOWN_METRICS, Better, did_you_mean, known_metric
from earshot.ci.number import Number, find_number, why_apart
from earshot.ci.run_file import Row, Run, shipped_row
from earshot.core.errors import ConfigError, UsageError
from earshot.core.measurement import Measurement

SAID = 3  # of several reasons


@dataclass(frozen=True)
class Entry:
    """One run, a baseline file, or what is left of either.

    Attributes:
        name: the run's, or the file's.
        tags: names people gave it.
        made: when it began, as its name says, else when its file was written; None where neither is known.
        run: None for a baseline file, and where it cannot be read.
        evidence: rows with what their numbers hold for; None where it cannot be read.
        problem: why it cannot be read.
    """

    name: str
    tags: tuple[str, ...] = ()
    made: datetime | None = None
    run: Run | None = None
    evidence: Evidence | None = None
    problem: str | None = None

    @property
    def rows(self) -> tuple[Row, ...]:
        """All rows; none where it cannot be read."""
        return self.evidence.rows if self.evidence else ()

    @property
    def failed(self) -> bool:
        """Whether the run failed half-way."""
        return self.run is not None and self.run.status != "complete"

    def row(self, name: str | None) -> Row | None:
        """A row by name, or the one that ships."""
        return next((row for row in self.rows if row.row == name), None) if name else shipped_row(self.rows)


@dataclass(frozen=True)
class Point:
    """What one run has to say.

    Attributes:
        name, tags, made: of the run.
        failed: the run failed half-way.
        number: None where it was not measured: a gap.
        reason: why there is a gap.
        since: the newest run before whose number compares, None where none does.
        change: to that run's number.
        apart: why it does not compare with the number right before it.
    """

    name: str
    tags: tuple[str, ...]
    made: datetime | None
    failed: bool = False
    number: Number | None = None
    reason: str | None = None
    since: str | None = None
    change: float | None = None
    apart: str | None = None


@dataclass(frozen=True)
class Limit:
    """A budget's limit on the metric: `side` is `min` or `max`."""

    value: float
    side: str
    budget: str
    severity: str


@dataclass(frozen=True)
class Series:
    """A metric on one target, or where no target matters."""

    target: str | None
    unit: str
    points: tuple[Point, ...]
    limits: tuple[Limit, ...] = ()


@dataclass(frozen=True)
class History:
    """A metric over runs.

    Attributes:
        metric: its name.
        row: the row asked for, None for the one that ships.
        better: which way is better, None where that is not known.
        series: one for each target.
        limits_of: the run whose budgets gave the limits.
        notes: what else a reader must know.
    """

    metric: str
    row: str | None
    better: Better | None
    series: tuple[Series, ...]
    limits_of: str | None = None
    notes: tuple[str, ...] = ()


def trace(
    entries: Sequence[Entry], metric: str, row: str | None = None, target: str | None = None, notes: Iterable[str] = ()
) -> History:
    """A metric over runs, one series a target.

    Args:
        entries: the runs, oldest first.
        metric: name, with a group in brackets where one is meant.
        row: the row to follow; None for the one that each run ships.
        target: only this one.
        notes: what is known of the runs already.

    Raises:
        UsageError: there is no such metric, row or target, or none of the runs has a number.
    """
    rows = [found for entry in entries if (found := entry.row(row)) is not None]
    if not any(entry.evidence for entry in entries):
        why = "; ".join(f"{entry.name}: {entry.problem}" for entry in entries[:SAID])
        raise UsageError(f"none of the runs can be read: {why}", "tag another run, or show all: --all")
    if row is not None and not rows:
        known = list(dict.fromkeys(one.row for entry in entries for one in entry.rows))
        raise UsageError(f"no run has a row '{row}'; {did_you_mean(row, known)}", f"rows: {', '.join(known) or 'none'}")
    targets = _targets(rows, metric, target)
    newest = next((entry for entry in reversed(entries) if entry.run), None)
    said = list(notes)
    budgets: tuple[Budget, ...] = ()
    try:
        budgets = recipe_budgets(newest.run).resolved() if newest and newest.run else ()
    except ConfigError as error:
        said.append(f"no limits are shown: {error.message}")
    series = []
    for name in targets:
        points = _points(entries, metric, row, name)
        limits = _limits(budgets, newest.run, metric, row, name) if newest and newest.run else ()
        unit = next(point.number.measurement.unit for point in reversed(points) if point.number)
        series.append(Series(name, unit, points, limits))
    known_as = known_metric(metric)
    better = known_as.better if known_as else next((b.better for b in budgets if b.metric == metric), None)
    return History(metric, row, better, tuple(series), newest.name if newest and budgets else None, tuple(said))


def _targets(rows: Sequence[Row], metric: str, wanted: str | None) -> list[str | None]:
    """Where the metric was measured, in the order of first use. Raises UsageError where it was not."""
    found = [one for row in rows for one in row.find(metric)]
    numbered = list(dict.fromkeys(one.target for one in found if one.value is not None))
    if not found:
        _refuse_metric(metric, [one.metric for row in rows for one in row.measurements])
    if wanted is not None and wanted not in numbered:
        where = [name for name in numbered if name]
        if not where and numbered:
            raise UsageError(f"{metric} does not depend on a target", "leave out --target")
        hint = f"it was measured on: {', '.join(where) or 'none'}"
        raise UsageError(f"no run has {metric} on '{wanted}'; {did_you_mean(wanted, where)}", hint)
    if not numbered:
        why = next((one.reason for one in found if one.reason), "no reason was recorded")
        raise UsageError(f"{metric} could not be measured in any of the runs: {why}")
    return [wanted] if wanted is not None else numbered


def _refuse_metric(metric: str, measured: Iterable[str]) -> None:
    names = list(dict.fromkeys(measured))
    name, _, group = metric.partition("[")
    whole = [one for one in names if "[" not in one]
    hint = f"measured in these runs: {', '.join(whole) or 'nothing'}"
    if group and name in whole:
        parts = [one for one in names if one.partition("[")[0] == name]
        raise UsageError(f"no run has {metric}; {did_you_mean(metric, parts)}", f"there is: {', '.join(parts)}")
    if name in KNOWN_METRICS:
        raise UsageError(f"{metric} was not measured in any of the runs", hint)
    raise UsageError(f"unknown metric '{metric}'; {did_you_mean(metric, [*whole, *KNOWN_METRICS])}", hint)


def _points(entries: Sequence[Entry], metric: str, row: str | None, target: str | None) -> tuple[Point, ...]:
    points: list[Point] = []
    newest: list[tuple[Entry, Number]] = []  # of each kind that compares the newest, the latest last
    for entry in entries:
        plain = Point(entry.name, entry.tags, entry.made, entry.failed)
        here = entry.row(row)
        number = find_number(entry.evidence, here, metric, target) if entry.evidence and here else None
        if number is None:
            points.append(replace(plain, reason=_why_gap(entry, here, row, metric, target)))
            continue
        found = replace(plain, number=number)
        if newest:
            before, value = newest[-1]
            found = replace(found, apart=why_apart(number, value, label(before.tags, before.name)))
        for index, (before, value) in reversed(list(enumerate(newest))):
            if why_apart(number, value, "") is None:
                found = replace(found, since=before.name, change=number.value - value.value)
                del newest[index]
                break
        newest.append((entry, number))
        points.append(found)
    return tuple(points)


def label(tags: Sequence[str], name: str) -> str:
    """What people call a run: its tags, else its name."""
    return ", ".join(tags) or name


def _why_gap(entry: Entry, here: Row | None, row: str | None, metric: str, target: str | None) -> str:
    if entry.problem:
        return entry.problem
    failed = f"the run failed: {entry.run.error or 'no reason was recorded'}" if entry.run and entry.failed else ""
    if here is None:
        wanted = f"row '{row}'" if row else "row that ships"
        return failed or f"it has no {wanted}; it has: {', '.join(one.row for one in entry.rows) or 'none'}"
    lost: Measurement | None = next((one for one in here.find(metric) if one.target == target), None)
    if lost is not None:
        return f"could not be measured: {lost.reason or 'no reason was recorded'}"
    why = entry.run.why_absent(target, here.row) if entry.run and target else None
    where = f" on {target}" if target else ""
    return why or failed or f"was not measured in row {here.row}{where}"


def _limits(budgets: Sequence[Budget], run: Run, metric: str, row: str | None, target: str | None) -> tuple[Limit, ...]:
    """The limits on a series: absolute ones, and those that follow from what the run was compared with."""
    ships = shipped_row(run.rows)
    judged = row or (ships.row if ships else None)
    limits = []
    for budget in budgets:
        where = budget.row or (ships.row if ships else None)
        if (budget.metric, where) != (metric, judged) or budget.target not in (None, target):
            continue
        bounds = [("min", budget.min), ("max", budget.max)]
        if budget.relative_to is not None:
            bounds = [("min" if budget.higher_is_better else "max", _relative(budget, run, judged, target))]
        limits += [Limit(value, side, budget.title, budget.severity) for side, value in bounds if value is not None]
    return tuple(limits)


def _relative(budget: Budget, run: Run, row: str | None, target: str | None) -> float | None:
    """The limit that a budget against another row or run came to when the run was judged."""
    for verdict in run.verdicts:
        if (verdict.budget, verdict.row, verdict.target) == (
            budget.title,
            row,
            target,
        ) and verdict.reference is not None:
            loss = budget.allowed_loss(verdict.reference)
            return verdict.reference + (-loss if budget.higher_is_better else loss)
    return None
