"""Runs on the front of quality, cost and size: which are beaten by none, and by whom the others are.

A run is beaten (dominated) where another one is at least as good in all three and better in one. What does not compare
(another evaluation set, protocol, target, device, engine) is never set against each other: it has a table of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from earshot.ci.history import Entry, label
from earshot.ci.metrics import KNOWN_METRICS, did_you_mean, known_metric
from earshot.ci.number import Number, find_number, why_apart
from earshot.ci.run_file import NOT_SHIPPED, Row
from earshot.ci.verdict import Status, worst
from earshot.core.errors import UsageError
from earshot.core.measurement import Provenance

Axes = tuple[str, str, str]


@dataclass(frozen=True)
class Place:
    """One row of one run on one target.

    Attributes:
        name, tags, made: of the run.
        title: what it is called among the others.
        row: the row, None where the run has none.
        verdict: the worst that the gate said of it, None where nothing was judged.
        target: where the cost was measured.
        numbers: quality, cost and size; fewer where one is missing.
        beaten_by: those of the front that dominate it.
        reason: why it is not ranked.
    """

    name: str
    tags: tuple[str, ...]
    made: datetime | None
    title: str
    row: str | None = None
    verdict: Status | None = None
    target: str | None = None
    numbers: tuple[Number | None, ...] = (None, None, None)
    beaten_by: tuple[str, ...] = ()
    reason: str | None = None

    @property
    def on_front(self) -> bool:
        """Whether it is ranked and beaten by none."""
        return self.reason is None and not self.beaten_by


@dataclass(frozen=True)
class Table:
    """Places that compare, the best quality first; `apart` says why not with the first table of the target."""

    target: str | None
    places: tuple[Place, ...]
    apart: str | None = None


@dataclass(frozen=True)
class Leaderboard:
    """Tables of what compares, and what could not be ranked; `axes` are the metrics of quality, cost and size."""

    axes: Axes
    tables: tuple[Table, ...]
    unranked: tuple[Place, ...]


def rank(
    entries: Sequence[Entry], axes: Axes = ("pesq_wb", "rtf", "model_bytes"), *, target: str | None = None,
    every_row: bool = False,
) -> Leaderboard:  # fmt: skip
    """Runs on the front.

    Args:
        entries: the runs.
        axes: metrics of quality, cost and size.
        target: only this one; None for every target that the cost was measured on.
        every_row: all rows instead of those that ship.

    Raises:
        UsageError: an unknown metric, a metric twice, or no run with all three numbers.
    """
    _check(axes)
    places = [place for entry in entries for place in _places(entry, axes, target, every_row)]
    ranked = [place for place in places if place.reason is None]
    if not ranked:
        _refuse_nothing(places, entries, axes, target)
    tables = [_ranked(table, axes) for table in _tables(ranked)]
    return Leaderboard(axes, tuple(tables), tuple(place for place in places if place.reason is not None))


def chosen_rows(entry: Entry, cost: str, every_row: bool) -> list[Row]:
    """The rows that are looked at: the one that ships, or all that the cost was measured on."""
    ships = entry.row(None)
    if not every_row:
        return [ships] if ships else []
    return [row for row in entry.rows if row.row not in NOT_SHIPPED and row.find(cost)] or ([ships] if ships else [])


def better_or_equal(metric: str, one: float, other: float) -> bool:
    """Whether `one` is at least as good as `other`."""
    return one >= other if KNOWN_METRICS[metric.partition("[")[0]].better == "higher" else one <= other


def dominates(axes: Axes, one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether `one` is at least as good in all of the metrics and better in one of them."""
    pairs = list(zip(axes, one, other, strict=True))
    return all(better_or_equal(*pair) for pair in pairs) and any(here != there for _, here, there in pairs)


def _check(axes: Axes) -> None:
    for metric in axes:
        if known_metric(metric) is None:
            known = list(KNOWN_METRICS)
            raise UsageError(f"unknown metric '{metric}'; {did_you_mean(metric, known)}", f"known: {', '.join(known)}")
    if len(set(axes)) < len(axes):
        raise UsageError(f"quality, cost and size must be three metrics, not {', '.join(axes)}")


def _places(entry: Entry, axes: Axes, target: str | None, every_row: bool) -> Iterable[Place]:
    called = label(entry.tags, entry.name)
    plain = Place(entry.name, entry.tags, entry.made, called, reason=entry.problem)
    if entry.evidence is None:
        yield plain
        return
    rows = chosen_rows(entry, axes[1], every_row)
    if not rows:
        yield replace(plain, reason=_why_failed(entry) or "it has no row that ships")
    for row in rows:
        title = f"{called} {row.row}" if every_row else called
        measured = dict.fromkeys(found.target for found in row.find(axes[1]))
        for name in [target] if target else (measured or {None: None}):
            yield _place(
                entry, row, axes, replace(plain, title=title, row=row.row, target=name, verdict=_verdict(entry, row))
            )


def _place(entry: Entry, row: Row, axes: Axes, plain: Place) -> Place:
    numbers = tuple(_number(entry, row, metric, plain.target) for metric in axes)
    found = replace(plain, numbers=numbers)
    if why := _why_failed(entry):
        return replace(found, reason=why)
    for metric, number in zip(axes, numbers, strict=True):
        if number is None:
            return replace(found, reason=_why_missing(entry, row, metric, plain.target))
        if number.measurement.provenance is Provenance.TEST_DOUBLE:
            return replace(found, reason=f"{metric} came from a stand-in for a device")
        if number.measurement.flags:
            return replace(found, reason=f"{metric} is marked {', '.join(number.measurement.flags)}")
        if why := why_apart(number, number, "the run"):  # what it holds for is not known
            return replace(found, reason=f"{metric} compares with no other: {why}")
    return found


def _number(entry: Entry, row: Row, metric: str, target: str | None) -> Number | None:
    """On the target, or where no target matters."""
    if entry.evidence is None:
        return None
    on_target = find_number(entry.evidence, row, metric, target) if target else None
    return on_target or find_number(entry.evidence, row, metric, None)


def _why_failed(entry: Entry) -> str | None:
    if entry.run is None or not entry.failed:
        return None
    return f"the run failed: {entry.run.error or 'no reason was recorded'}"


def _why_missing(entry: Entry, row: Row, metric: str, target: str | None) -> str:
    lost = next((one for one in row.find(metric) if one.target in (None, target)), None)
    if lost is not None:
        return f"{metric} could not be measured: {lost.reason or 'no reason was recorded'}"
    why = entry.run.why_absent(target, row.row) if entry.run and target else None
    where = f" on {target}" if target else ""
    return why or f"{metric} was not measured in row {row.row}{where}"


def _verdict(entry: Entry, row: Row) -> Status | None:
    """Of the run for the row that ships, else of this row alone."""
    ships = entry.row(None)
    verdicts = entry.run.verdicts if entry.run else ()
    return worst(verdict.status for verdict in verdicts if row is ships or verdict.row == row.row)


def _tables(places: Sequence[Place]) -> list[Table]:
    """Places that compare, together: whether they do is an equivalence, so that the first of a table speaks for it."""
    tables: list[list[Place]] = []
    for place in places:
        for table in tables:
            if table[0].target == place.target and _apart(place, table[0]) is None:
                table.append(place)
                break
        else:
            tables.append([place])
    first: dict[str | None, Place] = {}
    made = []
    for table in sorted(tables, key=lambda table: -len(table)):
        of_target = first.setdefault(table[0].target, table[0])
        apart = None if of_target is table[0] else _apart(table[0], of_target)
        made.append(Table(table[0].target, tuple(table), apart))
    order = list(first)
    return sorted(made, key=lambda table: order.index(table.target))


def _apart(place: Place, other: Place) -> str | None:
    """Why two places do not compare: the first of the three metrics in which they do not."""
    for here, there in zip(place.numbers, other.numbers, strict=True):
        if here is not None and there is not None and (why := why_apart(here, there, other.title)):
            return why
    return None


def _ranked(table: Table, axes: Axes) -> Table:
    values = [tuple(number.value for number in place.numbers if number) for place in table.places]
    beaten = [[index for index, other in enumerate(values) if dominates(axes, other, here)] for here in values]
    named = [
        replace(place, beaten_by=tuple(table.places[index].title for index in by if not beaten[index]))
        for place, by in zip(table.places, beaten, strict=True)
    ]
    higher = KNOWN_METRICS[axes[0].partition("[")[0]].better == "higher"

    def best_first(index: int) -> tuple[float, ...]:
        quality, cost, size = values[index]
        return (-quality if higher else quality, cost, size)

    return replace(table, places=tuple(named[index] for index in sorted(range(len(values)), key=best_first)))


def _refuse_nothing(places: Sequence[Place], entries: Sequence[Entry], axes: Axes, target: str | None) -> None:
    targets = list(
        dict.fromkeys(
            found.target
            for entry in entries
            for row in chosen_rows(entry, axes[1], True)
            for found in row.find(axes[1])
            if found.target
        )
    )
    there = f"{axes[1]} was measured on: {', '.join(targets) or 'none'}"
    if target is not None and target not in targets:
        raise UsageError(f"no run has {axes[1]} on '{target}'; {did_you_mean(target, targets)}", there)
    why = "; ".join(f"{place.title}: {place.reason}" for place in places[:3])
    raise UsageError(f"no run has all of {', '.join(axes)}: {why}", there)
