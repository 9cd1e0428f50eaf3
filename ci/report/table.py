"""The run table and the verdicts for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from earshot.ci.comparison import compare_run
from earshot.ci.explanation import Explanation
from earshot.ci.report import devices
from earshot.ci.report.explanation import told
from earshot.ci.report.layout import VERDICT_HEADER, clean, columns, inline, lines, notes, summary, verdict_cells
from earshot.ci.report.tables import plain_table
from earshot.ci.run_file import Run
from earshot.ci.verdict import Status, Verdict, passed

STYLES = {Status.PASS: "green", Status.WARN: "yellow", Status.UNDECIDED: "bold yellow", Status.FAIL: "bold red"}


def render(run: Run, verdicts: Sequence[Verdict], explanation: Explanation | None = None) -> RenderableType:
    """The run table, the verdicts, why each one was missed, and the outcome; made for 100 columns and more."""
    parts: list[RenderableType] = [_rows(run, verdicts)]
    if notes(run):
        parts.append(Text("; ".join(notes(run)), style="dim"))
    if not inline(run):
        parts += ["", devices.render(compare_run(run))]
    if verdicts:
        parts += ["", render_verdicts(verdicts, explanation)]
    return Group(*parts, render_outcome(run, verdicts))


def render_outcome(run: Run, verdicts: Sequence[Verdict]) -> Text:
    """The verdict in one sentence."""
    return Text(summary(run, verdicts), style=STYLES[Status.PASS if passed(verdicts) else Status.FAIL])


def render_verdicts(verdicts: Sequence[Verdict], explanation: Explanation | None = None) -> RenderableType:
    """The verdicts, and for each one missed the reason and what explains it."""
    return Group(_verdicts(verdicts), "", *_reasons(verdicts, explanation))


def _rows(run: Run, verdicts: Sequence[Verdict]) -> Table:
    table = plain_table()
    table.add_column("row", no_wrap=True)
    for column in columns(run):
        table.add_column(f"{column.title}\n{column.unit}", justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for line in lines(run, verdicts):
        table.add_row(Text(line.label), *(Text(cell) for cell in line.cells), _status(line.status))
    return table


def _verdicts(verdicts: Sequence[Verdict]) -> Table:
    table = plain_table()
    table.add_column("verdict", no_wrap=True)
    for title in VERDICT_HEADER:
        table.add_column(title, justify="right" if title in {"measured", "margin"} else "left", overflow="fold")
    for verdict in verdicts:
        table.add_row(_status(verdict.status), *(Text(cell) for cell in verdict_cells(verdict)))
    return table


def _reasons(verdicts: Sequence[Verdict], explanation: Explanation | None) -> list[RenderableType]:
    """Why each missed budget was missed, one paragraph each, and a second one for what explains it."""
    paragraphs: list[RenderableType] = []
    for verdict in verdicts:
        if verdict.status is Status.PASS:
            continue
        reason = f"  {clean(verdict.budget)}: {clean(verdict.reason)}"
        paragraphs.append(Text.assemble(_status(verdict.status), reason))
        finding = explanation.of(verdict.budget) if explanation else None
        if finding is not None and (why := told(finding)):
            paragraphs.append(Padding(Text(why, style="dim"), (0, 0, 0, 6)))
    return paragraphs


def _status(status: Status | None) -> Text:
    return Text("-") if status is None else Text(status, style=STYLES[status])
