"""The page of a history: a chart, a table and the reasons for each target."""

from __future__ import annotations

from earshot.ci.history import History, Series, label
from earshot.ci.report import history as words
from earshot.ci.report.html import svg
from earshot.ci.report.html.page import Mark, figure, page, section, table, text
from earshot.ci.report.layout import clean
from earshot.core.measurement import Provenance


def render(history: History) -> str:
    """The page, one file."""
    title = f"{history.metric} over runs"
    parts = (_series(history, series) for series in history.series)
    return page(title, [f"<h1>{text(title)}</h1>", *parts])


def _series(history: History, series: Series) -> str:
    header = ("no.", *words.HEADER[1:])
    rows = [_cells(history, series, index) for index in range(len(series.points))]
    said = "\n".join(f'<p class="quiet">{text(line)}</p>' for line in words.remarks(history, series))
    return section(words.heading(history, series), _chart(series), table(header, rows, (0, 2, 4, 5, 6)), said)


def _cells(history: History, series: Series, index: int) -> list[str | Mark]:
    cells: list[str | Mark] = list(words.cells_of(series, index))
    if (good := words.is_better(history, series.points[index])) is not None:
        cells[5] = Mark(str(cells[5]), "good" if good else "bad")
    return cells


def _chart(series: Series) -> str:
    axis, drawn, _ = words.scale(series)
    knots = []
    for index, point in enumerate(series.points):
        found = point.number
        form = svg.FORMS[found.measurement.provenance if found else Provenance.MEASURED]
        shown = ", ".join(words.cells_of(series, index)[3:]) if found else point.reason or ""
        joined, broken = words.joined(series, index), point.apart is not None
        knots.append(
            svg.Knot(label(point.tags, point.name), found.value if found else None, shown, joined, broken, form)
        )
    limits = [(limit.value, words.limit_words(limit, series.unit)) for limit in drawn]
    caption = "Runs in the order they were made, numbered as in the table."
    return figure(svg.course(knots, axis, limits), clean(caption))
