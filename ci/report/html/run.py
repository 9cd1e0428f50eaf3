"""The page of a run: the verdict first, then why, then everything that was measured, at last sound to judge by ear."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from earshot.ci.explanation import Explanation
from earshot.ci.metrics import QUALITY
from earshot.ci.quantity import quantity
from earshot.ci.report import differences
from earshot.ci.report.html import devices, explanation, listening, quality
from earshot.ci.report.html.page import Mark, figure, fold, page, section, table, text
from earshot.ci.report.html.waterfall import draw
from earshot.ci.report.layout import NOT_MEASURED, VERDICT_HEADER, clean, columns, lines, notes, summary, verdict_cells
from earshot.ci.run_file import Run, shipped_row
from earshot.ci.run_page import RunPage
from earshot.ci.verdict import Status, Verdict, passed
from earshot.ci.waterfall import waterfall

MARKS = {
    Status.PASS: Mark("✓ pass", "good"),
    Status.WARN: Mark("! warn", "warn"),
    Status.UNDECIDED: Mark("? not decidable", "warn"),
    Status.FAIL: Mark("✗ fail", "bad"),
}
OUTCOMES = {"worse": "bad", "better": "good", "not decidable": "warn"}
_ORDER = list(Status)


def render(found: RunPage) -> str:
    """The page, one file that opens anywhere and fetches nothing."""
    run, verdicts = found.run, found.verdicts
    targets = devices.parts(found.comparison) if found.comparison.devices else []
    return page(
        f"earshot: {summary(run, verdicts)}",
        [
            _banner(run, verdicts),
            section("Missed budgets, and why", *_missed(found)),
            section("All budgets", _budgets(verdicts)) if verdicts else "",
            section("Stages", _stages(run, verdicts)) if run.rows else "",
            section("Where the quality goes", _waterfall(found), *_layers(found)),
            section("Quality on the test set", *quality.parts(found)),
            section("Listen", *listening.parts(found.listening)),
            section("Against the baseline", *_differences(found)),
            section("Devices", *targets),
            section("What the quality stands on", _protocol(found)),
        ],
    )


def _banner(run: Run, verdicts: Sequence[Verdict]) -> str:
    good = passed(verdicts) and run.status == "complete"
    outcome = "Pass" if good and verdicts else "Nothing was judged" if good else "Fail"
    tone = "good" if good and verdicts else "quiet" if good else "bad"
    sign = {"good": "✓ ", "bad": "✗ "}.get(tone, "")
    said = [summary(run, verdicts).removeprefix(f"{clean(run.name)}: ")]
    if run.status != "complete":
        said.append(f"The run failed before its end: {run.error or 'no reason was recorded'}")
    if run.failures:
        said.append(f"Targets without numbers: {', '.join(one.target for one in run.failures)}")
    lines_said = "".join(f"<p>{text(line)}</p>" for line in said)
    return (
        f'<header class="banner {tone}"><p class="quiet">earshot gate</p><h1>{text(run.name)}</h1>\n'
        f'<p class="outcome {tone}">{sign}{outcome}</p>\n{lines_said}</header>'
    )


def _missed(found: RunPage) -> list[str]:
    """One panel a missed budget, worst first, with why."""
    missed = [verdict for verdict in found.verdicts if verdict.status is not Status.PASS]
    missed.sort(key=lambda one: -_ORDER.index(one.status))
    return [_panel(verdict, found.explanation, first=verdict is missed[0]) for verdict in missed]


def _panel(verdict: Verdict, why: Explanation | None, first: bool) -> str:
    mark = MARKS[verdict.status]
    title, where, *_ = verdict_cells(verdict)
    place = f' <span class="quiet">{text(where)}</span>' if where != NOT_MEASURED else ""
    finding = why.of(verdict.budget) if why else None
    parts = [
        f'<h3><span class="{mark.tone}">{mark.words}</span> {text(title)}{place}</h3>',
        f"<p>{text(verdict.reason)}</p>",
    ]
    if finding is not None:
        parts += explanation.sentences(finding)
        parts.append(fold("Where it was lost", *explanation.details(finding), shown=first))
    return f'<div class="panel missed {mark.tone}">{_joined(parts)}</div>'


def _joined(parts: Sequence[str]) -> str:
    return "\n".join(part for part in parts if part)


def _budgets(verdicts: Sequence[Verdict]) -> str:
    header = ("verdict", *VERDICT_HEADER, "how", "n")
    rows: list[tuple[str | Mark, ...]] = [
        (
            MARKS[verdict.status],
            *verdict_cells(verdict),
            (verdict.provenance or NOT_MEASURED).replace("_", " "),
            NOT_MEASURED if verdict.n is None else quantity(verdict.n),
        )
        for verdict in verdicts
    ]
    return table(header, rows, numbers=(3, 5, 7))


def _stages(run: Run, verdicts: Sequence[Verdict]) -> str:
    shown = columns(run)
    header = ("row", *(column.header for column in shown), "verdict")
    rows: list[tuple[str | Mark, ...]] = [
        (line.label, *line.cells, MARKS[line.status] if line.status else NOT_MEASURED) for line in lines(run, verdicts)
    ]
    said = f'<p class="quiet">{text("; ".join(notes(run)))}</p>' if notes(run) else ""
    return table(header, rows, range(1, 1 + len(shown))) + said


def _waterfall(found: RunPage) -> str:
    """The first quality metric from row to row, where no missed budget has shown it already."""
    ships = shipped_row(found.run.rows)
    findings = found.explanation.findings if found.explanation else ()
    shown = {finding.waterfall.metric for finding in findings if finding.waterfall}
    falls = (waterfall(found.run.rows, metric, ships.row) for metric in QUALITY) if ships else ()
    fall = next((fall for fall in falls if fall is not None), None)
    if fall is None or fall.metric in shown:
        return ""
    return figure(draw(fall), f"{fall.metric} row by row, each against the one before.")


def _layers(found: RunPage) -> list[str]:
    """What an explanation knows beside the missed budgets: the layers of the integer file, and what is not known."""
    return explanation.parts(replace(found.explanation, findings=())) if found.explanation else []


def _differences(found: RunPage) -> list[str]:
    if found.pair is None:
        return []
    compared = list(found.pair.differences())
    rows: list[tuple[str | Mark, ...]] = [
        (Mark(one.outcome, OUTCOMES.get(one.outcome, "")), *differences.cells_of(one))
        for one in compared
        if one.refused is None
    ]
    said = (
        *differences.worst_clips(compared),
        *differences.refusals(compared),
        *differences.remarks(compared),
    )
    return [
        f"<p>{text(differences.heading(found.pair))}</p>",
        table(("outcome", *differences.HEADER), rows, numbers=(3, 4, 5)) if rows else "",
        *(f'<p class="quiet">{text(line)}</p>' for line in said),
    ]


def _protocol(found: RunPage) -> str:
    rows = [*found.protocol.items(), *([("test set", found.dataset)] if found.dataset else [])]
    return fold("Test set and metrics", table(("what", "is"), rows)) if rows else ""
