"""The cross-device table: one line a target and model; what failed or was left out has a line and its reason."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.text import Text

from earshot.ci.comparison import Comparison, ModelResult
from earshot.ci.report.layout import LEGEND, MARKS, NOT_MEASURED, Column, clean, number_cell
from earshot.ci.report.tables import plain_table

RAM = Column("ram_bytes", "RAM", "kB", 1e-3, 1, ("peak_rss_bytes", "arena_bytes"))
COLUMNS = (
    Column("rtf", "RTF", "", 1, 4),
    Column("graph_rtf", "graph RTF", "", 1, 4),
    Column("frame_p50_us", "p50", "µs", 1, 1),
    Column("frame_p99_us", "p99", "µs", 1, 1),
    Column("instructions_per_frame", "instr.", "k/frame", 1e-3, 0),
    RAM,
    Column("flash_bytes", "flash", "kB", 1e-3, 1),
    Column("realtime_clock_mhz", "needs", "MHz", 1, 1),
)
# What a number in the column RAM is, by its metric.
RAM_OF = {
    "ram_bytes": "all that a microcontroller needs",
    "peak_rss_bytes": "the whole process",
    "arena_bytes": "the tensors alone",
}
CSV_HEADER = ("target", "model", "metric", "value", "unit", "n", "provenance", "flags", "reason")
FAILED, LEFT_OUT = "failed", "left out"


@dataclass(frozen=True)
class DeviceLine:
    """One line: target, model, a cell for each of the table's columns, and how the numbers came to be."""

    target: str
    model: str
    cells: tuple[str, ...]
    how: str


def columns(comparison: Comparison) -> tuple[Column, ...]:
    """The columns in which any target has a number."""
    results = [result for device in comparison.devices for result in device.results]
    return tuple(column for column in COLUMNS if any(result.find(*column.metrics) for result in results))


def lines(comparison: Comparison) -> list[DeviceLine]:
    """The table's lines, target by target."""
    shown = columns(comparison)
    nothing = (NOT_MEASURED,) * len(shown)
    table = []
    for device in comparison.devices:
        target = clean(device.target)
        for result in device.results:
            cells = tuple(number_cell(result.find(*column.metrics), column) for column in shown)
            table.append(DeviceLine(target, clean(result.model), cells, how(result)))
        table += [DeviceLine(target, clean(model), nothing, LEFT_OUT) for model in device.left_out]
        if device.error is not None:
            table.append(DeviceLine(target, NOT_MEASURED, nothing, FAILED))
    return table


def how(result: ModelResult) -> str:
    """How a result's numbers came to be in a word; where they differ, the mark at each number tells."""
    kinds = {found.provenance for found in result.measurements if found.value is not None}
    return "mixed" if len(kinds) > 1 else next((kind.replace("_", " ") for kind in kinds), "nothing measured")


def marks(comparison: Comparison) -> list[str]:
    """What the marks at the numbers mean, as far as they occur."""
    found = [one for device in comparison.devices for result in device.results for one in result.measurements]
    used = {MARKS.get(one.provenance, "") for one in found if one.value is not None}
    said = ["no mark: measured"] if "" in used else []
    said += [f"{mark} {meaning}" for mark, meaning in LEGEND.items() if mark in used]
    flags = sorted({flag for one in found for flag in one.flags})
    return said + ([f"! marked {', '.join(map(clean, flags))}"] if flags else [])


def legend(comparison: Comparison) -> list[str]:
    """What the table's marks mean, and what RAM is on each target where that is not all it needs on every one."""
    targets: dict[str, list[str]] = {}
    for device in comparison.devices:
        found = {number.metric for result in device.results if (number := result.find(*RAM.metrics)) is not None}
        for metric in found:
            targets.setdefault(metric, []).append(clean(device.target))
    if targets.keys() <= {RAM.metric}:
        return marks(comparison)
    meanings = [f"{RAM_OF[metric]} ({', '.join(targets[metric])})" for metric in RAM.metrics if metric in targets]
    return [*marks(comparison), f"RAM: {', '.join(meanings)}"]


def reasons(comparison: Comparison) -> list[str]:
    """Why targets failed, with the fix, and why models were left out; one line each."""
    said = []
    for device in comparison.devices:
        target = clean(device.target)
        if device.error is not None:
            fix = f"\n  fix: {clean(device.fix)}" if device.fix else ""
            said.append(f"{target} {FAILED}: {clean(device.error)}{fix}")
        said += [f"{target} {LEFT_OUT} {clean(model)}: {clean(why)}" for model, why in device.left_out.items()]
    return said


def render(comparison: Comparison, title: str | None = None) -> RenderableType:
    """The table for a terminal, its legend and the reasons; made for 100 columns and more."""
    shown = columns(comparison)
    table = plain_table(title)
    table.add_column("target", no_wrap=True)
    table.add_column("model", overflow="fold")
    for column in shown:
        table.add_column(f"{column.title}\n{column.unit}", justify="right", no_wrap=True)
    table.add_column("how")
    for line in lines(comparison):
        style = "red" if line.how == FAILED else "dim" if line.how == LEFT_OUT else ""
        table.add_row(line.target, line.model, *(Text(cell) for cell in line.cells), Text(line.how, style=style))
    parts: list[RenderableType] = [table]
    if legend(comparison):
        parts.append(Text("; ".join(legend(comparison)), style="dim"))
    return Group(*parts, *(Text(reason) for reason in reasons(comparison)))


def render_csv(comparison: Comparison) -> str:
    """Every number in long form, one line each; a failed target and a model left out have a line with the reason."""
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    out.writerow(CSV_HEADER)
    for device in comparison.devices:
        rows: list[Sequence[object]] = [
            (
                *(device.target, result.model, found.metric, "" if found.value is None else found.value, found.unit),
                *(found.n, found.provenance, " ".join(found.flags), found.reason or ""),
            )
            for result in device.results
            for found in result.measurements
        ]
        rows += [(device.target, model, "", "", "", "", LEFT_OUT, "", why) for model, why in device.left_out.items()]
        if device.error is not None:
            rows.append((device.target, "", "", "", "", "", FAILED, "", device.error))
        out.writerows([inert(cell) for cell in row] for row in rows)
    return text.getvalue()


def inert(cell: object) -> object:
    """A text that a spreadsheet would take for a formula is shown as text."""
    return f"'{cell}" if isinstance(cell, str) and cell[:1] in ("=", "+", "-", "@") else cell
