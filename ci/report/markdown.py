"""The result as GitHub-flavoured Markdown, for a comment on a pull request."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from earshot.ci.comparison import Comparison, compare_run
from earshot.ci.explanation import Explanation
from earshot.ci.report import devices
from earshot.ci.report import explanation as why
from earshot.ci.report.layout import (
    VERDICT_HEADER,
    clean,
    columns,
    inline,
    lines,
    notes,
    quality_lines,
    summary,
    verdict_cells,
)
from earshot.ci.run_file import Run
from earshot.ci.verdict import Status, Verdict

SIGNS = {
    Status.PASS: "✅ pass",
    Status.WARN: "⚠️ warn",
    Status.UNDECIDED: "❔ not decidable",
    Status.FAIL: "❌ fail",
}


def render(run: Run, verdicts: Sequence[Verdict], explanation: Explanation | None = None) -> str:
    """Outcome, verdicts (missed ones first), why they were missed, the run table, quality by part of the test set."""
    parts = [f"### earshot gate: {escape(summary(run, verdicts))}"]
    if verdicts:
        parts.append(verdict_table(verdicts))
    if explanation is not None and not explanation.empty:
        parts += _why(explanation)
    header = ("row", *(column.header for column in columns(run)), "verdict")
    parts.append(table(header, ((line.label, *line.cells, _sign(line.status)) for line in lines(run, verdicts))))
    parts += [f"{escape(note)}" for note in notes(run)]
    if not inline(run):
        parts += _devices(compare_run(run))
    quality_header, quality = quality_lines(run)
    if quality:
        parts.append("Quality on the test set, mean ± half the 95 % confidence interval (number of clips):")
        parts.append(table(quality_header, quality))
    return "\n\n".join(parts) + "\n"


def escape(text: str) -> str:
    """Text that shows as itself: no markup, HTML, table border, mention, issue or web link comes alive."""
    # All but these characters become entities; of the allowed ones, those that start a link or an emphasis.
    alive = r"[^\w \-.,:;()'\"/=+%≤≥≈±µ✅❌❔\u26a0\ufe0f\ufffd]|(?<!\w)_|_(?!\w)|:(?=//)|(?<=www)\."
    return re.sub(alive, lambda found: f"&#{ord(found.group())};", clean(text))


def _why(explanation: Explanation) -> list[str]:
    """Why budgets were missed: a sentence or two each, the numbers behind them folded away."""
    parts = ["#### Why"] if explanation.findings else []
    for finding in explanation.findings:
        parts.append(f"**{escape(finding.budget)}**: {escape(why.told(finding))}")
        tables = [table(header, rows) for header, rows in why.tables(finding)]
        if tables:
            parts.append("\n\n".join(["<details><summary>the numbers</summary>", *tables, "</details>"]))
    if explanation.layers is not None:
        parts.append(f"#### Layers of {escape(explanation.layers.row)}")
        parts.append(table(why.LAYER_HEADER, (why.layer_cells(layer) for layer in explanation.layers.layers)))
        parts += [escape(note) for note in why.layer_notes(explanation.layers)]
    return [*parts, *(escape(one) for one in explanation.missing)]


def _devices(comparison: Comparison) -> list[str]:
    header = ("target", "model", *(column.header for column in devices.columns(comparison)), "how")
    shown = table(header, ((one.target, one.model, *one.cells, one.how) for one in devices.lines(comparison)))
    notes = [escape("; ".join(devices.legend(comparison)))] if devices.legend(comparison) else []
    return [shown, *notes, *(escape(reason) for reason in devices.reasons(comparison))]


def _verdicts(verdicts: Sequence[Verdict]) -> Iterable[tuple[str, ...]]:
    order = list(Status)
    for verdict in sorted(verdicts, key=lambda verdict: -order.index(verdict.status)):
        yield (_sign(verdict.status), *verdict_cells(verdict), verdict.reason)


def verdict_table(verdicts: Sequence[Verdict]) -> str:
    """The verdicts, missed ones first, with their reasons."""
    return table(("verdict", *VERDICT_HEADER, "reason"), _verdicts(verdicts))


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of plain texts."""
    body = [header, *rows]
    text = ["| " + " | ".join(escape(cell) for cell in row) + " |" for row in body]
    text.insert(1, "|" + " --- |" * len(header))
    return "\n".join(text)


def _sign(status: Status | None) -> str:
    return "-" if status is None else SIGNS[status]
