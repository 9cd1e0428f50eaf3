"""The run table and the verdicts for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from earshot.ci.report.layout import COLUMNS, clean, lines, notes, number, summary
from earshot.ci.run_file import Run
from earshot.ci.verdict import Status, Verdict, passed

STYLES = {Status.PASS: "green", Status.WARN: "yellow", Status.FAIL: "bold red"}


def render(run: Run, verdicts: Sequence[Verdict]) -> RenderableType:
    """The run table, the verdicts with their reasons and the outcome; readable from 100 columns on."""
    parts: list[RenderableType] = [_rows(run, verdicts)]
    if verdicts:
        parts.append(_verdicts(verdicts))
    parts.append(Text(summary(run, verdicts), style=STYLES[Status.PASS if passed(verdicts) else Status.FAIL]))
    return Group(*parts)


def _rows(run: Run, verdicts: Sequence[Verdict]) -> Table:
    caption = "; ".join(notes(run))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), caption=Text(caption) if caption else None)
    table.add_column("row", no_wrap=True)
    for column in COLUMNS:
        table.add_column(f"{column.title}\n{column.unit}", justify="right", no_wrap=True)
    table.add_column("verdict")
    for line in lines(run, verdicts):
        label = Text(("  " if line.indented else "") + line.label)
        table.add_row(label, *(Text(cell) for cell in line.cells), _status(line.status))
    return table


def _verdicts(verdicts: Sequence[Verdict]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("verdict")
    table.add_column("budget", ratio=3, overflow="fold")
    table.add_column("row", overflow="fold")
    table.add_column("measured", justify="right", overflow="fold")
    table.add_column("margin", justify="right", overflow="fold")
    table.add_column("reason", ratio=4, overflow="fold")
    for verdict in verdicts:
        table.add_row(
            _status(verdict.status),
            Text(clean(verdict.budget)),
            Text(clean(" on ".join(part for part in (verdict.row, verdict.target) if part))),
            Text(number(verdict.value, verdict.unit)),
            Text(number(verdict.margin)),
            Text(clean(verdict.reason)),
        )
    return table


def _status(status: Status | None) -> Text:
    return Text("-") if status is None else Text(status, style=STYLES[status])
