"""Two runs compared, for a terminal, as JSON (`earshot.differences/1`) and as Markdown."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace

from rich.console import Group, RenderableType
from rich.text import Text

from earshot.ci.difference import Difference, Pair
from earshot.ci.difference_text import loss_text, remarks_of
from earshot.ci.quantity import quantity
from earshot.ci.report import markdown
from earshot.ci.report.layout import NOT_MEASURED, clean
from earshot.ci.report.tables import plain_table
from earshot.ci.verdict import Verdict, passed

SCHEMA = "earshot.differences/1"
HEADER = ("metric", "where", "baseline", "here", "change", "between", "how")
STYLES = {"worse": "bold red", "better": "green", "not decidable": "yellow", "not comparable": "dim"}
HOW = {"paired": "clips", "race": "rounds by turns", "stored": "repeats, weaker", "counted": "exact"}
WEAKER = "weaker: times as each run kept them, not taken side by side; take turns with --remeasure"


def render(pair: Pair, differences: Sequence[Difference]) -> RenderableType:
    """The table, the clips that lost most, and what could not be compared."""
    table = plain_table()
    for title in ("outcome", *HEADER):
        numbers = title in {"baseline", "here", "change"}
        table.add_column(title, justify="right" if numbers else "left", overflow="fold", no_wrap=title == "outcome")
    for found in differences:
        if found.refused is None:
            cells = (Text(cell) for cell in cells_of(found))
            table.add_row(Text(found.outcome, style=STYLES.get(found.outcome, "")), *cells)
    lines = [Text(line) for line in (*worst_clips(differences), *refusals(differences), *remarks(differences))]
    return Group(Text(heading(pair), style="bold"), table, *lines)


def render_json(pair: Pair, differences: Sequence[Difference], verdicts: Sequence[Verdict]) -> str:
    """All of it as data."""
    found = [{"outcome": one.outcome, **_filled(asdict(one))} for one in differences]
    result = {
        "schema": SCHEMA,
        "base": pair.base.name,
        "candidate": pair.candidate.name,
        "passed": passed(verdicts),
        "differences": found,
        "verdicts": [verdict.to_dict() for verdict in verdicts],
    }
    return json.dumps(result, indent=2, allow_nan=False) + "\n"


def render_markdown(pair: Pair, differences: Sequence[Difference], verdicts: Sequence[Verdict]) -> str:
    """For a comment on a pull request."""
    compared = ((found.outcome, *cells_of(found)) for found in differences if found.refused is None)
    parts = [f"### {markdown.escape(heading(pair))}", markdown.table(("outcome", *HEADER), compared)]
    if verdicts:
        parts.append(markdown.verdict_table(verdicts))
    notes = (*worst_clips(differences), *refusals(differences), *remarks(differences))
    return "\n\n".join([*parts, *(markdown.escape(note) for note in notes)]) + "\n"


def heading(pair: Pair) -> str:
    """What is compared with what."""
    return f"{clean(pair.candidate.name)} against {clean(pair.base.name)}"


def cells_of(found: Difference) -> tuple[str, ...]:
    """One comparable difference in the order of `HEADER`."""
    where = found.row if found.row == found.base_row else f"{found.row} (baseline: {found.base_row})"
    where += f" on {found.target}" if found.target else ""
    low, high = found.bounds
    low_high = [loss_text(low), loss_text(high)] if low < high else []
    change = loss_text(found.loss or 0.0)
    if found.method != "paired" and found.base and found.loss:
        change += f" ({100 * abs(found.loss / found.base):.3g} %)"
    how = HOW[found.method] if found.method == "counted" else f"{found.n} {HOW[found.method]}"
    cells = (
        found.metric,
        where,
        quantity(found.base or 0.0, found.unit),
        quantity(found.value or 0.0, found.unit),
        change,
        " and ".join(low_high) or NOT_MEASURED,
        "; ".join((how, *remarks_of(replace(found, dropped=0)))),
    )
    return tuple(clean(cell) for cell in cells)


def worst_clips(differences: Sequence[Difference]) -> list[str]:
    """One line for each metric that some clips lost in."""
    return [
        f"worst clips in {clean(found.metric)}: " + ", ".join(f"{clean(c)} ({-loss:.3g})" for c, loss in found.worst)
        for found in differences
        if found.worst
    ]


def refusals(differences: Sequence[Difference]) -> list[str]:
    """Why something could not be compared, metrics of one reason together."""
    by_reason: dict[str, list[str]] = {}
    for found in differences:
        if found.refused is not None:
            where = f" on {found.target}" if found.target else ""
            by_reason.setdefault(found.refused, []).append(f"{found.metric}{where}")
    return [f"not comparable: {clean(', '.join(names))}: {clean(reason)}" for reason, names in by_reason.items()]


def remarks(differences: Sequence[Difference]) -> list[str]:
    """What a reader must know of how it was compared."""
    dropped: dict[str, list[str]] = {}
    for found in differences:
        if found.dropped:
            (said,) = remarks_of(replace(found, provenance="", base_flags=(), flags=()))
            dropped.setdefault(said, []).append(found.metric)
    lines = [f"{clean(', '.join(metrics))}: {clean(said)}" for said, metrics in dropped.items()]
    lines += [
        f"not decidable: {clean(found.metric)} on {clean(found.target or '')}: {clean(found.open)}"
        for found in differences
        if found.open is not None
    ]
    return lines + ([WEAKER] if any(found.method == "stored" for found in differences) else [])


def _filled(data: dict[str, object]) -> dict[str, object]:
    return {key: value for key, value in data.items() if value is not None}
