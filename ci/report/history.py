"""A metric over runs: in a terminal, as JSON (`earshot.history/1`), CSV and Markdown."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from earshot.ci.history import History, Limit, Point, Series, label
from earshot.ci.quantity import quantity
from earshot.ci.report import markdown
from earshot.ci.report.chart import Across, Spot, draw
from earshot.ci.report.devices import inert
from earshot.ci.report.html.axis import Axis, linear, short
from earshot.ci.report.layout import NOT_MEASURED, clean
from earshot.ci.report.tables import plain_table
from earshot.core.measurement import Provenance

SCHEMA = "earshot.history/1"
HEADER = ("", "run", "made (UTC)", "row", "value", "change", "n", "how")
CSV_HEADER = (
    "target", "run", "tags", "made", "row", "metric", "value", "unit", "n", "provenance", "flags", "change", "since",
    "reason", "apart",
)  # fmt: skip
MARKS = {
    Provenance.MEASURED: "●", Provenance.EMULATED: "○", Provenance.ESTIMATED: "◇", Provenance.TEST_DOUBLE: "✕",
}  # fmt: skip
GAP = "∅"
LEAST_SHARE = 0.2  # of the chart's height that the numbers keep when limits are drawn with them
WORDS = {Provenance.TEST_DOUBLE: "stand-in, never accepted"}


def render(history: History, width: int = 100) -> RenderableType:
    """Chart, table and reasons of every series."""
    parts: list[RenderableType] = []
    for series in history.series:
        parts += [Text(heading(history, series), style="bold"), "", *_chart(series, width), ""]
        table = plain_table()
        for title in HEADER:
            table.add_column(
                title, justify="right" if title in {"", "value", "change", "n"} else "left", overflow="fold"
            )
        for index, point in enumerate(series.points):
            cells = [Text(cell) for cell in cells_of(series, index)]
            if (good := is_better(history, point)) is not None:
                cells[5].stylize("green" if good else "red")
            table.add_row(*cells, style="dim" if point.number is None else "")
        parts += [table, *(Text(line) for line in remarks(history, series)), ""]
    return Group(*parts[:-1])


def _chart(series: Series, width: int) -> list[Text]:
    axis, drawn, _ = scale(series)
    spots = [
        Spot(
            point.number.value if point.number else None,
            MARKS[point.number.measurement.provenance] if point.number else GAP,
            joined(series, index),
            point.apart is not None,
            "bold cyan" if point.number else "dim",
        )
        for index, point in enumerate(series.points)
    ]
    across = [Across(limit.value, limit_words(limit, series.unit)) for limit in drawn]
    return draw(spots, axis, across, width)


def is_better(history: History, point: Point) -> bool | None:
    """Whether a number is better than the one before; None where there is no change, or its sense is not known."""
    if not point.change or history.better is None:
        return None
    return (point.change > 0) == (history.better == "higher")


def scale(series: Series) -> tuple[Axis, list[Limit], list[Limit]]:
    """The axis, the limits that lie on it, and those too far off: what runs did shall stay visible."""
    values = [point.number.value for point in series.points if point.number]
    bare = linear("", values, zero=False)
    drawn: list[Limit] = []
    for limit in sorted(series.limits, key=lambda one: max(one.value - bare.high, bare.low - one.value)):
        wider = linear("", [*values, *(one.value for one in drawn), limit.value], zero=False)
        if (bare.high - bare.low) >= LEAST_SHARE * (wider.high - wider.low):
            drawn.append(limit)
    title = "" if series.unit == "1" else series.unit
    axis = linear(title, [*values, *(limit.value for limit in drawn)], zero=False)
    return axis, drawn, [limit for limit in series.limits if limit not in drawn]


def joined(series: Series, index: int) -> bool:
    """Whether a line leads to a point from the one before: both have numbers, and these compare."""
    point, before = series.points[index], series.points[index - 1] if index else None
    return bool(before and before.number and point.number and point.apart is None)


def heading(history: History, series: Series) -> str:
    """What is shown: metric, unit, row, target, how many runs."""
    unit = "" if series.unit == "1" else f", {series.unit}"
    where = f" on {series.target}" if series.target else ""
    better = f", {history.better} is better" if history.better else ""
    count = len(series.points)
    text = f"{history.metric}{where}{unit}{better}: {history.row or 'the row that ships'} of {count} runs"
    return clean(text.removesuffix("s") if count == 1 else text)


def cells_of(series: Series, index: int) -> tuple[str, ...]:
    """One line of the table in the order of `HEADER`; numbered from 1."""
    point, number = series.points[index], index + 1
    found = point.number
    made = f"{point.made:%Y-%m-%d %H:%M}" if point.made else NOT_MEASURED
    name = f"{label(point.tags, point.name)} ({point.name})" if point.tags else point.name
    if found is None:
        cells = (str(number), name, made, NOT_MEASURED, NOT_MEASURED, NOT_MEASURED, NOT_MEASURED, "not measured")
    else:
        one = found.measurement
        how = ", ".join((WORDS.get(one.provenance, str(one.provenance)), *one.flags))
        value = quantity(found.value)
        cells = (str(number), name, made, found.row, value, change_words(series, index), str(one.n), how)
    return tuple(clean(cell) for cell in cells)


def change_words(series: Series, index: int) -> str:
    """`+0.02 (1.3 %)`, `same`, `does not compare`, `-` for the first; `… since 4` where other numbers lie between."""
    point = series.points[index]
    before = [other.name for other in series.points[:index] if other.number]
    if point.number is None or not before:
        return NOT_MEASURED
    if point.change is None or point.since is None:
        return "does not compare"
    value = point.number.value - point.change
    share = f" ({short(100 * abs(point.change / value))} %)" if value else ""
    words = f"{point.change:+.3g}{share}" if point.change else "same"
    names = [other.name for other in series.points]
    return words if point.since == before[-1] else f"{words} since {names.index(point.since) + 1}"


def limit_words(limit: Limit, unit: str) -> str:
    """`≥ 2.25 MOS`, `≤ 0.02 (warning)`."""
    sign = "≥" if limit.side == "min" else "≤"
    return clean(f"{sign} {quantity(limit.value, unit)}" + (" (warning)" if limit.severity == "warn" else ""))


def remarks(history: History, series: Series) -> list[str]:
    """What the marks mean, why there are gaps and breaks, where the limits come from."""
    gaps: dict[str, list[str]] = {}
    said = []
    for number, point in enumerate(series.points, 1):
        if point.reason:
            gaps.setdefault(point.reason, []).append(str(number))
        if point.apart:
            said.append(f"{number} does not compare with the number before: {point.apart}")
        if point.failed and point.number:
            said.append(f"{number}: its run failed half-way")
    said += [f"{GAP} {', '.join(numbers)}: {reason}" for reason, numbers in gaps.items()]
    _, _, beyond = scale(series)
    if series.limits and history.limits_of:
        said.append(f"limits: budgets of {history.limits_of}")
    said += [f"beyond the chart: {limit_words(one, series.unit)} (budget {one.budget})" for one in beyond]
    rows = {point.number.row for point in series.points if point.number}
    if len(rows) > 1:
        said.append(f"not every run ships the same row: {', '.join(sorted(rows))}")
    kinds = dict.fromkeys(point.number.measurement.provenance for point in series.points if point.number)
    said.append(", ".join(f"{MARKS[kind]} {WORDS.get(kind, kind)}" for kind in kinds))
    return [clean(line) for line in (*said, *history.notes)]


def to_dict(history: History) -> dict[str, Any]:
    """Plain JSON data, schema included."""
    return {
        "schema": SCHEMA,
        "metric": history.metric,
        "row": history.row,
        "better": history.better,
        "limits_of": history.limits_of,
        "series": [
            {
                "target": series.target,
                "unit": series.unit,
                "limits": [
                    {"value": one.value, "side": one.side, "budget": one.budget, "severity": one.severity}
                    for one in series.limits
                ],
                "points": [_plain(point) for point in series.points],
            }
            for series in history.series
        ],
        "notes": list(history.notes),
    }


def _plain(point: Point) -> dict[str, Any]:
    number = {"row": point.number.row, "measurement": point.number.measurement.to_dict()} if point.number else {}
    found = {"reason": point.reason, "since": point.since, "change": point.change, "apart": point.apart}
    return {
        "run": point.name,
        "tags": list(point.tags),
        "made": point.made.isoformat() if point.made else None,
        "failed": point.failed,
        **number,
        **{key: value for key, value in found.items() if value is not None},
    }


def render_json(history: History) -> str:
    """As data. ASCII: any terminal and log keeps it whole."""
    return json.dumps(to_dict(history), indent=2, allow_nan=False) + "\n"


def render_markdown(history: History) -> str:
    """Tables with their remarks."""
    parts = []
    for series in history.series:
        rows = [cells_of(series, index) for index in range(len(series.points))]
        parts += [f"### {markdown.escape(heading(history, series))}", markdown.table(("no.", *HEADER[1:]), rows)]
        limits = [f"limit: {limit_words(one, series.unit)} ({one.budget})" for one in series.limits]
        parts += [markdown.escape(line) for line in (*limits, *remarks(history, series))]
    return "\n\n".join(parts) + "\n"


def render_csv(history: History) -> str:
    """One line a run and target; a gap has no value, and its reason."""
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    out.writerow(CSV_HEADER)
    for series in history.series:
        for point in series.points:
            out.writerow([inert("" if cell is None else cell) for cell in _csv_cells(history, series, point)])
    return text.getvalue()


def _csv_cells(history: History, series: Series, point: Point) -> Sequence[object]:
    found = point.number.measurement if point.number else None
    made = point.made.isoformat() if point.made else None
    row = point.number.row if point.number else history.row
    who = (series.target, point.name, " ".join(point.tags), made, row, history.metric)
    number = (found.value, series.unit, found.n, found.provenance, " ".join(found.flags)) if found else (None,) * 5
    return (*who, *number, point.change, point.since, point.reason, point.apart)
