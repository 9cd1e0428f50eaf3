"""A waterfall as inline SVG: a line for each row, a bar from the value before to its own, and the limit across."""

from __future__ import annotations

from earshot.ci.quantity import quantity
from earshot.ci.report.explanation import signed
from earshot.ci.report.html.axis import Axis, linear
from earshot.ci.report.html.page import text
from earshot.ci.report.html.svg import WIDTH, ticks_below, whole
from earshot.ci.waterfall import Level, Waterfall

LINE, TOP, MARGIN = 36, 16, 6
LONGEST_NAME = 40


def draw(fall: Waterfall, limit: float | None = None) -> str:
    """The waterfall: open circles are the baseline's values; a row without a value has the reason in its place."""
    values = [level.value for level in fall.known if level.value is not None]
    values += [level.base for level in fall.known if level.base is not None and fall.baseline]
    axis = linear(
        f"{fall.metric} ({fall.unit})" if fall.unit != "1" else fall.metric,
        [*values, *([] if limit is None else [limit])],
        zero=fall.unit == "bytes",
    )
    foot = TOP + LINE * len(fall.levels)
    parts = [*ticks_below(axis, MARGIN, WIDTH - MARGIN, TOP, foot), *_limit(axis, limit, foot)]
    before: tuple[Level, int] | None = None
    for index, level in enumerate(fall.levels):
        top = TOP + LINE * index
        parts.append(_line(fall, level, before, axis, top))
        before = (level, top) if level.value is not None else before
    return whole(foot + 34, text(f"waterfall of {fall.metric}"), parts)


def _line(fall: Waterfall, level: Level, before: tuple[Level, int] | None, axis: Axis, top: int) -> str:
    """A row's words, and below them the bar from the value before; `before` is that level with its line's top."""
    name = f'<text class="quiet" x="0" y="{top + 13}">{text(level.row[:LONGEST_NAME])}'
    if level.value is None:
        return f'{name} <tspan class="ink" dx="4">{text(level.reason[:LONGEST_NAME])}</tspan></text>'
    middle, at = top + 24, _x(axis, level.value)
    lost = fall.lost(before[0], level) if before else 0.0
    tone = "var(--bad)" if lost > 0 else "var(--good)" if lost < 0 else "var(--quiet)"
    shown = "  ".join(_words(fall, level))
    drawn = [f'<path class="axis" d="M{MARGIN} {middle}H{WIDTH - MARGIN}"/>']
    if before is not None:
        begin = _x(axis, before[0].value or 0.0)
        left, wide = min(begin, at), max(1.0, abs(begin - at))
        drawn.append(f'<path class="mark" d="M{begin:.1f} {before[1] + 29}V{middle - 4}"/>')
        drawn.append(f'<rect x="{left:.1f}" y="{middle - 4}" width="{wide:.1f}" height="8" rx="2" fill="{tone}"/>')
    drawn.append(f'<circle cx="{at:.1f}" cy="{middle}" r="4.5" fill="{tone}" stroke="var(--panel)"/>')
    if fall.baseline and level.base is not None:
        look = 'fill="var(--panel)" stroke="var(--tone-0)" stroke-width="2"'
        drawn.append(f'<circle cx="{_x(axis, level.base):.1f}" cy="{middle}" r="4" {look}/>')
    drawn.append(f'{name} <tspan class="ink" dx="4">{text(shown)}</tspan></text>')
    return f"<g><title>{text(f'{level.row}: {shown}')}</title>{''.join(drawn)}</g>"


def _words(fall: Waterfall, level: Level) -> list[str]:
    """The value, what the step changed, and whether it lost most."""
    value = level.value or 0.0
    words = [quantity(value if abs(value) >= 10000 else float(f"{value:.4g}"), fall.unit)]
    if level.change:
        words.append(signed(level.change).replace("-", "−"))
    return [*words, fall.worst_word] if fall.worst is level else words


def _limit(axis: Axis, limit: float | None, foot: int) -> list[str]:
    if limit is None:
        return []
    at = _x(axis, limit)
    anchor = "end" if at > WIDTH / 2 else "start"
    return [
        f'<path class="mark" d="M{at:.1f} {TOP - 2}V{foot}"/>',
        f'<text class="quiet" x="{at:.1f}" y="10" text-anchor="{anchor}">limit</text>',
    ]


def _x(axis: Axis, value: float) -> float:
    return MARGIN + axis.place(value) * (WIDTH - 2 * MARGIN)
