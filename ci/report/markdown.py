"""The result as GitHub-flavoured Markdown, for a comment on a pull request."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from earshot.ci.report.layout import COLUMNS, clean, lines, notes, number, summary
from earshot.ci.run_file import Run
from earshot.ci.verdict import Status, Verdict

SIGNS = {Status.PASS: "✅ pass", Status.WARN: "⚠️ warn", Status.FAIL: "❌ fail"}


def render(run: Run, verdicts: Sequence[Verdict]) -> str:
    """Outcome, verdicts (missed ones first) and the run table."""
    parts = [f"### earshot gate: {escape(summary(run, verdicts))}"]
    if verdicts:
        parts.append(_table(("verdict", "budget", "row", "measured", "margin", "reason"), _verdicts(verdicts)))
    header = ("row", *(column.header for column in COLUMNS), "verdict")
    parts.append(_table(header, ((line.label, *line.cells, _sign(line.status)) for line in lines(run, verdicts))))
    parts += [f"{escape(note)}" for note in notes(run)]
    return "\n\n".join(parts) + "\n"


def escape(text: str) -> str:
    """Text that shows as itself: no markup, HTML, table border, mention or issue link comes alive."""
    entities = clean(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    entities = (
        entities.replace("@", "&#64;").replace("#", "&#35;").replace("://", "&#58;//").replace("www.", "www&#46;")
    )
    # Entities bring their own & # ;: only the remaining punctuation that Markdown reads is escaped.
    return re.sub(r"([\\`*_\[\]|~!])", r"\\\1", entities)


def _verdicts(verdicts: Sequence[Verdict]) -> Iterable[tuple[str, ...]]:
    order = list(Status)
    for verdict in sorted(verdicts, key=lambda verdict: -order.index(verdict.status)):
        where = " on ".join(part for part in (verdict.row, verdict.target) if part)
        value, margin = number(verdict.value, verdict.unit), number(verdict.margin)
        yield (_sign(verdict.status), verdict.budget, where or "-", value, margin, verdict.reason)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    body = [header, *rows]
    text = ["| " + " | ".join(escape(cell) for cell in row) + " |" for row in body]
    text.insert(1, "|" + " --- |" * len(header))
    return "\n".join(text)


def _sign(status: Status | None) -> str:
    return "-" if status is None else SIGNS[status]
