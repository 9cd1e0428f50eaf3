"""A study's result as CSV, as Markdown, and as a page with a plot of the differences."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from earshot.ci.report.html.axis import linear
from earshot.ci.report.html.page import page, section, table
from earshot.ci.report.html.svg import Item, dots, key
from earshot.ci.report.markdown import escape
from earshot.ci.statistics import Interval
from earshot.pipeline.study.result import WHOLE, Difference, Line, Result

HEADER = (
    "student",
    "teacher",
    "method",
    "mean ± SD over seeds",
    "difference",
    "95 % over seeds",
    "95 % over clips",
    "n",
)
READING = (
    "Difference: to the same student with the same seed trained without a teacher, positive is higher with the "
    "teacher. Intervals: paired t over seeds, and bootstrap over clips. n: seeds x clips."
)
_NONE = "-"


def to_csv(result: Result) -> str:
    """One line per arm, metric and part of the test set, numbers in full."""
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(
        ("student", "teacher", "method", "metric", "unit", "group", "mean", "sd", "seeds", "clips", "difference",
         "paired_seeds", "paired_clips", "seeds_low", "seeds_high", "clips_low", "clips_high")
    )  # fmt: skip
    for line in result.lines:
        own = (*_names(line), line.metric, line.unit, line.group, line.mean, line.deviation, line.seeds, line.clips)
        found = line.difference
        compared = (
            (
                found.mean,
                found.seeds,
                found.clips,
                *(found.over_seeds or (None, None)),
                *(found.over_clips or (None,) * 2),
            )
            if found
            else (None,) * 7
        )
        rows.writerow("" if value is None else value for value in (*own, *compared))
    return out.getvalue()


def to_markdown(result: Result) -> str:
    """A table per metric and part of the test set, then the cells that failed."""
    parts = [f"### Study {escape(result.study.name)}", READING]
    for title, lines in tables(result):
        parts += [f"**{escape(title)}**", _markdown_table(HEADER, [cells(line) for line in lines])]
    if result.failed:
        parts += ["**Cells without result**", _markdown_table(("cell", "seed", "error"), failures(result))]
    return "\n\n".join(parts) + "\n"


def to_html(result: Result) -> str:
    """The same, with a plot of the differences."""
    body = [f"<h1>Study {escape(result.study.name)}</h1>", f"<p>{READING}</p>"]
    for title, lines in tables(result):
        body.append(
            section(title, _plot(title, lines), table(HEADER, [cells(line) for line in lines], (3, 4, 5, 6, 7)))
        )
    if result.failed:
        body.append(section("Cells without result", table(("cell", "seed", "error"), failures(result))))
    return page(f"Study {result.study.name}", body)


def tables(result: Result) -> Iterable[tuple[str, Sequence[Line]]]:
    """Title and lines of each table."""
    for group in (WHOLE, *result.study.groups):
        for metric in result.study.metrics:
            lines = [line for line in result.lines if (line.metric, line.group) == (metric, group)]
            unit = next((line.unit for line in lines if line.unit), "")
            where = "" if group == WHOLE else f", {group}"
            yield f"{metric}{f' ({unit})' if unit else ''}{where}", lines


def cells(line: Line) -> tuple[str, ...]:
    """A line of a table."""
    found = line.difference
    spread = "" if line.deviation is None else f" ± {line.deviation:.3f}"
    return (
        *_names(line),
        _NONE if line.mean is None else f"{line.mean:.3f}{spread}",
        _NONE if found is None else f"{found.mean:+.3f}",
        _NONE if found is None else _interval(found.over_seeds),
        _NONE if found is None else _interval(found.over_clips),
        f"{line.seeds} x {line.clips}",
    )


def failures(result: Result) -> list[tuple[str, str, str]]:
    """Cells without result, and why."""
    return [(one.arm.title, _NONE if one.seed is None else str(one.seed), one.error.message) for one in result.failed]


def _names(line: Line) -> tuple[str, str, str]:
    arm = line.arm
    return (arm.student or _NONE, arm.teacher, arm.method or _NONE)


def _interval(interval: Interval | None) -> str:
    return _NONE if interval is None else f"{interval[0]:+.3f} to {interval[1]:+.3f}"


def _plot(title: str, lines: Sequence[Line]) -> str:
    compared = [(line, line.difference) for line in lines if line.difference is not None]
    if not compared:
        return ""
    students = list(dict.fromkeys(line.arm.student for line, _ in compared))
    items = [
        Item(line.arm.title, found.mean, _shown(found), students.index(line.arm.student), _form(found))
        for line, found in compared
    ]
    signs = [("interval over seeds leaves out zero", 0, "full"), ("it does not, or there is one seed", 0, "open")]
    axis = linear(f"difference in {title}", [item.value for item in items])
    return dots(items, axis, 0.0, "no teacher") + key(signs)


def _form(found: Difference) -> str:
    interval = found.over_seeds
    return "full" if interval is not None and not interval[0] <= 0 <= interval[1] else "open"


def _shown(found: Difference) -> str:
    return f"{found.mean:+.3f} ({_interval(found.over_seeds)})"


def _markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    text = ["| " + " | ".join(escape(cell) for cell in row) + " |" for row in (header, *rows)]
    text.insert(1, "|" + " --- |" * len(header))
    return "\n".join(text)
