"""Charts as inline SVG: bars, dots on an axis, intervals, a scatter, a histogram, and a picture between axes.

Drawn 400 units wide, so that the text stays readable when a phone shows it at 340 pixels. Colour tells things apart
(`tone`), form tells how a number came to be: full, open, diamond, cross.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from earshot.ci.report.html.axis import Axis, linear, short
from earshot.ci.report.html.page import TONES, text

WIDTH = 400
FORMS = {"measured": "full", "emulated": "open", "estimated": "diamond", "test_double": "cross"}
ROW = 30
SPAN_TITLE, SPAN_ROW = 24, 17
TAIL = 0.005  # share of outliers that a histogram may leave to words
KNOT_STEP = 90
LETTER = 7.2  # width of most, where phones show them larger
LONGEST_BAR = 215  # leaves room for the number beside it


@dataclass(frozen=True)
class Item:
    """One number to draw.

    Attributes:
        label: what it is of.
        value: its place on the axis, or its length as a bar.
        shown: the number as text.
        tone: colour, 0 to `TONES` - 1; more repeat.
        form: `full`, `open`, `diamond` or `cross`.
    """

    label: str
    value: float
    shown: str
    tone: int = 0
    form: str = "full"


@dataclass(frozen=True)
class Point:
    """One point of a scatter; `shown` is what pointing at it tells."""

    label: str
    x: float
    y: float
    shown: str
    tone: int = 0
    form: str = "full"


@dataclass(frozen=True)
class Span:
    """A mean and the interval around it."""

    label: str
    value: float
    low: float
    high: float
    shown: str
    tone: int = 0


@dataclass(frozen=True)
class Knot:
    """One number of a line, or a gap in it.

    Attributes:
        label: what it is of.
        value: None for a gap.
        shown: what pointing at it tells.
        joined: the line comes from the knot before.
        broken: a line across parts it from those before.
        form: `full`, `open`, `diamond` or `cross`.
    """

    label: str
    value: float | None
    shown: str
    joined: bool = False
    broken: bool = False
    form: str = "full"


def bars(items: Sequence[Item]) -> str:
    """Horizontal bars from zero, each under its label and beside its number; empty without items."""
    if not items:
        return ""
    longest = max(abs(item.value) for item in items) or 1.0
    parts = []
    for index, item in enumerate(items):
        top = index * ROW
        width = 2 + LONGEST_BAR * abs(item.value) / longest
        faint = ' fill-opacity="0.35" stroke="var(--tone)"' if item.form != "full" else ""
        parts.append(
            f'<g class="tone-{item.tone % TONES}"><title>{text(f"{item.label}: {item.shown}")}</title>'
            f'<text class="quiet" x="0" y="{top + 11}">{text(_cut(item.label, 62))}</text>'
            f'<rect x="0.5" y="{top + 15}" width="{width:.1f}" height="9" rx="2" fill="var(--tone)"{faint}/>'
            f'<text x="{width + 6:.1f}" y="{top + 24}">{text(item.shown)}</text></g>'
        )
    return whole(len(items) * ROW, "bar chart", parts)


def dots(items: Sequence[Item], axis: Axis, mark: float | None = None, mark_label: str = "") -> str:
    """One row an item, a dot where its value lies; `mark` draws a line across. Empty without items."""
    if not items:
        return ""
    left, right, foot = 6, WIDTH - 6, len(items) * ROW + 16

    def x(value: float) -> float:
        return left + axis.place(value) * (right - left)

    parts = ticks_below(axis, left, right, 14, foot)
    if mark is not None:
        parts.append(f'<path class="mark" d="M{x(mark):.1f} 14V{foot}"/>')
        anchor = "end" if x(mark) > WIDTH / 2 else "start"
        parts.append(f'<text class="quiet" x="{x(mark):.1f}" y="10" text-anchor="{anchor}">{text(mark_label)}</text>')
    for index, item in enumerate(items):
        middle = index * ROW + 37
        at = x(item.value)
        parts.append(
            f'<g class="tone-{item.tone % TONES}"><title>{text(f"{item.label}: {item.shown}")}</title>'
            f'<text class="quiet" x="0" y="{middle - 11}">{text(_cut(item.label, 44))} '
            f'<tspan class="ink" dx="4">{text(item.shown)}</tspan></text>'
            f'<path class="axis" d="M{left} {middle}H{right}"/>{_form(item.form, at, middle)}</g>'
        )
    return whole(foot + 34, "dot chart", parts)


def intervals(groups: Sequence[tuple[str, Sequence[Span]]], axis: Axis) -> str:
    """Groups under their titles, a line for each of their spans; empty without groups."""
    if not groups:
        return ""
    left, right = 6, WIDTH - 6
    foot = sum(SPAN_TITLE + SPAN_ROW * len(spans) for _, spans in groups) + 6
    parts, top = ticks_below(axis, left, right, 0, foot), 0

    def x(value: float) -> float:
        return left + axis.place(value) * (right - left)

    for title, spans in groups:
        parts.append(f'<text class="quiet" x="0" y="{top + 15}">{text(_cut(title, 62))}</text>')
        for index, span in enumerate(spans):
            middle, low, high = top + SPAN_TITLE + SPAN_ROW * index + 4, x(span.low), x(span.high)
            words, anchor = (high + 8, "start") if high < WIDTH - 60 else (low - 8, "end")
            if high >= WIDTH - 60 and low < 60:  # no room beside it
                words, anchor = x(span.value) + 8, "start"
            parts.append(
                f'<g class="tone-{span.tone % TONES}"><title>{text(f"{span.label}: {span.shown}")}</title>'
                f'<path class="span" d="M{low:.1f} {middle}H{high:.1f}" stroke="var(--tone)"/>'
                f'<circle cx="{x(span.value):.1f}" cy="{middle}" r="4" fill="var(--tone)"/>'
                f'<text x="{words:.1f}" y="{middle + 4}" text-anchor="{anchor}">{text(span.shown)}</text></g>'
            )
        top += SPAN_TITLE + SPAN_ROW * len(spans)
    return whole(foot + 34, "intervals", parts)


def picture(uri: str, x: Axis, y: Axis, label: str) -> str:
    """A picture that fills the field between two axes; their last numbers have the units."""
    left, right, top, foot = 50, WIDTH - 2, 6, 150
    box = f'x="{left}" y="{top}" width="{right - left}" height="{foot - top}"'
    parts = [f'<image href="{uri}" {box} preserveAspectRatio="none"/>']
    for tick, shown in _with_unit(y):
        at = foot - y.place(tick) * (foot - top)
        parts.append(f'<path class="axis" d="M{left - 4} {at:.1f}H{left}"/>')
        parts.append(f'<text class="quiet" x="{left - 6}" y="{at + 3.5:.1f}" text-anchor="end">{shown}</text>')
    return whole(foot + 20, label, [*parts, *_units_below(x, left, right, foot)])


def colours(uri: str, axis: Axis) -> str:
    """What the colours of pictures stand for: a strip from an axis' low end to its high one."""
    parts = [f'<image href="{uri}" x="2" y="0" width="{WIDTH - 4}" height="10" preserveAspectRatio="none"/>']
    return whole(30, "colours", [*parts, *_units_below(axis, 2, WIDTH - 2, 10)])


def _with_unit(axis: Axis) -> list[tuple[float, str]]:
    labels = axis.labels()
    return [*labels[:-1], *((tick, f"{shown} {text(axis.title)}") for tick, shown in labels[-1:])]


def _units_below(axis: Axis, left: float, right: float, top: float) -> list[str]:
    parts = []
    for tick, shown in _with_unit(axis):
        at = left + axis.place(tick) * (right - left)
        anchor = "start" if at < left + 12 else "end" if at > right - 20 else "middle"
        parts.append(f'<path class="axis" d="M{at:.1f} {top}V{top + 4}"/>')
        parts.append(f'<text class="quiet" x="{at:.1f}" y="{top + 15}" text-anchor="{anchor}">{shown}</text>')
    return parts


def scatter(points: Sequence[Point], x: Axis, y: Axis, line: Sequence[tuple[float, float]] = ()) -> str:
    """Points between two axes and a line; the first lie on top, and are labelled first where there is room.

    Empty without points.
    """
    if not points:
        return ""
    left, right, top, foot = 44, WIDTH - 10, 20, 240
    parts = [*ticks_below(x, left, right, top, foot), f'<text class="quiet" x="0" y="11">{text(y.title)}</text>']
    for tick, label in y.labels():
        at = foot - y.place(tick) * (foot - top)
        parts.append(f'<path class="axis" d="M{left} {at:.1f}H{right}"/>')
        parts.append(f'<text class="quiet" x="{left - 6}" y="{at + 3.5:.1f}" text-anchor="end">{label}</text>')
    corners = [(left + x.place(across) * (right - left), foot - y.place(up) * (foot - top)) for across, up in line]
    parts += [f'<path class="course" d="M{" ".join(f"{px:.1f} {py:.1f}" for px, py in corners)}"/>'] if corners else []
    taken: list[tuple[float, float, float]] = []  # begin, end and height of the labels so far
    signs, labels = [], []
    for point in points:
        px = left + x.place(point.x) * (right - left)
        py = foot - y.place(point.y) * (foot - top)
        sign = f"<title>{text(point.shown)}</title>{_form(point.form, px, py)}"
        signs.append(f'<g class="tone-{point.tone % TONES}">{sign}</g>')
        label = _cut(point.label, 26)
        at_end = px + 8 + LETTER * len(label) > WIDTH
        spot, anchor = (px - 8, "end") if at_end else (px + 8, "start")
        begin, end = (spot - LETTER * len(label), spot) if at_end else (spot, spot + LETTER * len(label))
        if all(end < first or begin > last or abs(py - height) > 13 for first, last, height in taken):
            taken.append((begin, end, py))
            labels.append(f'<text x="{spot:.1f}" y="{py - 6:.1f}" text-anchor="{anchor}">{text(label)}</text>')
    parts += [*reversed(signs), *labels]
    return whole(foot + 34, "scatter", parts)


def course(knots: Sequence[Knot], y: Axis, limits: Sequence[tuple[float, str]] = ()) -> str:
    """Numbers from left to right joined by a line, numbered from 1; limits across. Empty without knots.

    A gap has the sign ∅ at the foot, and the line breaks there and where a knot is `broken`.
    """
    if not knots:
        return ""
    left, right, top, foot = 44, WIDTH - 10, 20, 220
    parts = [f'<text class="quiet" x="0" y="11">{text(y.title)}</text>']

    def up(value: float) -> float:
        return foot - y.place(value) * (foot - top)

    step = min(KNOT_STEP, (right - left - 24) / max(1, len(knots) - 1))
    xs = [left + 12 + index * step for index in range(len(knots))]
    for tick, words in y.labels():
        parts.append(f'<path class="axis" d="M{left} {up(tick):.1f}H{right}"/>')
        parts.append(f'<text class="quiet" x="{left - 6}" y="{up(tick) + 3.5:.1f}" text-anchor="end">{words}</text>')
    says: list[str] = []
    for value, words in limits:
        parts.append(f'<path class="limit" d="M{left} {up(value):.1f}H{right}"/>')
        says.append(f'<text class="quiet" x="{right}" y="{up(value) - 4:.1f}" text-anchor="end">{text(words)}</text>')
    for index, (before, knot) in enumerate(pairwise(knots), 1):
        if knot.broken:
            parts.append(f'<path class="mark" d="M{(xs[index - 1] + xs[index]) / 2:.1f} {top}V{foot}"/>')
        elif knot.joined and before.value is not None and knot.value is not None:
            ends = f"M{xs[index - 1]:.1f} {up(before.value):.1f}L{xs[index]:.1f} {up(knot.value):.1f}"
            parts.append(f'<path class="course" d="{ends}"/>')
    every = math.ceil(14 / step) if step < 14 else 1
    for index, (px, knot) in enumerate(zip(xs, knots, strict=True)):
        if index % every == 0:
            parts.append(f'<text class="quiet" x="{px:.1f}" y="{foot + 14}" text-anchor="middle">{index + 1}</text>')
        sign = f'<text class="quiet" x="{px:.1f}" y="{foot - 4}" text-anchor="middle">∅</text>'
        sign = sign if knot.value is None else _form(knot.form, px, up(knot.value))
        parts.append(f'<g class="tone-0"><title>{text(f"{knot.label}: {knot.shown}")}</title>{sign}</g>')
    return whole(foot + 20, "line chart", [*parts, *says])


def histogram(edges: Sequence[float], counts: Sequence[int], title: str, tone: int = 0) -> str:
    """Counts between edges, empty ends cut off; empty without counts.

    A few outliers far out would leave no room for the rest: the last `TAIL` of the counts is told in words where it
    would take more than half of the axis.
    """
    filled = [index for index, count in enumerate(counts) if count]
    if not filled or len(edges) != len(counts) + 1:
        return ""
    first, last = filled[0], filled[-1]
    common = next(index for index in filled if sum(counts[: index + 1]) >= (1 - TAIL) * sum(counts))
    beyond = ""
    if edges[last + 1] - edges[first] > 2 * (edges[common + 1] - edges[first]):
        beyond = f"{sum(counts[common + 1 :])} more, up to {short(edges[last + 1])}"
        last = common
    kept = range(first, last + 1)
    x = Axis(title, edges[kept[0]], edges[kept[-1] + 1])
    y = linear("frames", [counts[index] for index in kept])
    left, right, top, foot = 44, WIDTH - 10, 20, 150
    parts = [*ticks_below(x, left, right, top, foot), '<text class="quiet" x="0" y="11">frames</text>']
    parts.append(f'<text class="quiet" x="{right}" y="11" text-anchor="end">{text(beyond)}</text>')
    for tick, label in y.labels():
        at = foot - y.place(tick) * (foot - top)
        parts.append(f'<path class="axis" d="M{left} {at:.1f}H{right}"/>')
        parts.append(f'<text class="quiet" x="{left - 6}" y="{at + 3.5:.1f}" text-anchor="end">{label}</text>')
    for index in kept:
        begin, end = (left + x.place(edges[side]) * (right - left) for side in (index, index + 1))
        height = y.place(counts[index]) * (foot - top)
        box = f'x="{begin:.2f}" y="{foot - height:.1f}" width="{max(0.6, end - begin - 0.5):.2f}" height="{height:.1f}"'
        says = f"{counts[index]} frames, {edges[index]:.4g} to {edges[index + 1]:.4g} µs"
        parts.append(f'<rect {box} fill="var(--tone-{tone % TONES})"><title>{says}</title></rect>')
    return whole(foot + 34, "histogram", parts)


def key(items: Sequence[tuple[str, int, str]]) -> str:
    """What colours and forms mean: (words, tone, form) each."""
    parts = []
    for words, tone, form in items:
        sign = f'<svg viewBox="0 0 12 12" aria-hidden="true">{_form(form, 6, 6)}</svg>'
        parts.append(f'<li class="tone-{tone % TONES}">{sign}{text(words)}</li>')
    return f'<ul class="key">{"".join(parts)}</ul>' if parts else ""


def _form(form: str, x: float, y: float) -> str:
    look = 'stroke="var(--tone)" stroke-width="2"'
    if form == "cross":
        return f'<path d="M{x - 4:.1f} {y - 4:.1f}l8 8m0 -8l-8 8" fill="none" {look}/>'
    if form == "diamond":
        return f'<path d="M{x:.1f} {y - 5:.1f}l5 5l-5 5l-5 -5z" fill="var(--panel)" {look}/>'
    fill = "var(--tone)" if form == "full" else "var(--panel)"
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{fill}" {look}/>'


def ticks_below(axis: Axis, left: float, right: float, top: float, foot: float) -> list[str]:
    """Lines down the field at an axis' round numbers, the numbers and the title below."""
    parts = []
    for tick, label in axis.labels():
        at = left + axis.place(tick) * (right - left)
        anchor = "start" if at < left + 12 else "end" if at > right - 12 else "middle"
        parts.append(f'<path class="axis" d="M{at:.1f} {top}V{foot}"/>')
        parts.append(f'<text class="quiet" x="{at:.1f}" y="{foot + 13}" text-anchor="{anchor}">{label}</text>')
    parts.append(f'<text class="quiet" x="{right}" y="{foot + 28}" text-anchor="end">{text(axis.title)}</text>')
    return parts


def _cut(label: str, most: int) -> str:
    return label if len(label) <= most else label[: most - 1] + "…"


def whole(height: float, label: str, parts: Sequence[str]) -> str:
    """The SVG around its parts; `label` says what it is to who cannot see it."""
    return f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{label}">{"".join(parts)}</svg>'
