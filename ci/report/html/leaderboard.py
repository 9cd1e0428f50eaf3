"""The page of a leaderboard: quality against cost and against size with the front as a line, and the tables."""

from __future__ import annotations

from earshot.ci.leaderboard import Axes, Leaderboard, Place, Table, better_or_equal
from earshot.ci.report import leaderboard as words
from earshot.ci.report.html import svg
from earshot.ci.report.html.axis import Axis, linear, logarithmic
from earshot.ci.report.html.page import Mark, figure, grid, page, section, table, text
from earshot.ci.verdict import Status
from earshot.core.measurement import Provenance

QUALITY, COST, SIZE = range(3)
ON_FRONT, BEATEN = 0, 7  # tones
DECADE = 10
TONES_OF = {Status.PASS: "good", Status.WARN: "warn", Status.UNDECIDED: "bad", Status.FAIL: "bad"}


def render(board: Leaderboard) -> str:
    """The page, one file."""
    title = "Leaderboard: " + ", ".join(board.axes)
    tables = (_table(board, one) for one in board.tables)
    said = "\n".join(f'<p class="quiet">{text(line)}</p>' for line in words.remarks(board))
    return page(title, [f"<h1>{text(title)}</h1>", *tables, section("Notes", said)])


def _table(board: Leaderboard, one: Table) -> str:
    header = ("front", *words.header(board)[1:])
    drawn = table(header, [_cells(place) for place in one.places], (3, 4, 5))
    if len(one.places) == 1:
        return section(words.heading(one), drawn)
    charts = grid(_chart(board.axes, one, metric) for metric in (COST, SIZE))
    return section(words.heading(one), charts, _key(one), drawn)


def _cells(place: Place) -> list[str | Mark]:
    cells: list[str | Mark] = list(words.cells_of(place))
    if place.verdict is not None:
        cells[6] = Mark(str(cells[6]), TONES_OF[place.verdict])
    return cells


def _chart(axes: Axes, one: Table, metric: int) -> str:
    places = sorted(one.places, key=lambda place: not place.on_front)  # the front gets its labels first
    points = [_point(place, metric) for place in places]
    x = _axis(axes[metric], one, metric)
    y = _axis(axes[QUALITY], one, QUALITY)
    drawing = svg.scatter(points, x, y, steps(axes, one, metric))
    caption = f"The line: the best {axes[QUALITY]} that any of them has at this {axes[metric]} or a better one."
    return figure(drawing, caption, f"{axes[QUALITY]} against {axes[metric]}")


def steps(axes: Axes, one: Table, metric: int) -> list[tuple[float, float]]:
    """Corners of the front of quality against another metric, from the best of that metric on."""
    values = [(_value(place, metric), _value(place, QUALITY)) for place in one.places]
    lower = better_or_equal(axes[metric], 0, 1)
    higher = better_or_equal(axes[QUALITY], 1, 0)
    values.sort(key=lambda pair: (pair[0] if lower else -pair[0], -pair[1] if higher else pair[1]))
    corners: list[tuple[float, float]] = []
    for across, up in values:
        if not corners:
            corners.append((across, up))
        elif not better_or_equal(axes[QUALITY], corners[-1][1], up):
            corners += [(across, corners[-1][1]), (across, up)]
    return corners


def _point(place: Place, metric: int) -> svg.Point:
    cost = place.numbers[COST]
    form = svg.FORMS[cost.measurement.provenance] if cost else "full"
    shown = f"{place.title}: " + ", ".join(words.number_words(number) for number in place.numbers)
    tone = ON_FRONT if place.on_front else BEATEN
    return svg.Point(place.title, _value(place, metric), _value(place, QUALITY), shown, tone, form)


def _value(place: Place, metric: int) -> float:
    number = place.numbers[metric]
    return number.value if number else 0.0


def _axis(metric: str, one: Table, which: int) -> Axis:
    values = [_value(place, which) for place in one.places]
    number = one.places[0].numbers[which]
    unit = number.measurement.unit if number else "1"
    title = metric if unit == "1" else f"{metric} ({unit})"
    wide = min(values) > 0 and max(values) > DECADE * min(values)
    return logarithmic(title, values) if wide and which != QUALITY else linear(title, values, zero=False)


def _key(one: Table) -> str:
    kinds = dict.fromkeys(number.measurement.provenance for place in one.places if (number := place.numbers[COST]))
    forms = [(str(kind), BEATEN, svg.FORMS[kind]) for kind in kinds if kind is not Provenance.MEASURED]
    return svg.key([("on the front of all three", ON_FRONT, "full"), ("beaten", BEATEN, "full"), *forms])
