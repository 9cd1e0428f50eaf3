"""A waterfall as inline SVG: a line for each row, a bar from the value before to its own, and the limit across."""

from __future__ import annotations

from earshot.ci.quantity import quantity
from earshot.ci.report.html.axis import Axis, linear
from earshot.ci.report.html.page import text
from earshot.ci.report.html.svg import WIDTH
from earshot.ci.waterfall import Level, Waterfall

LINE, TOP, MARGIN = 36, 16, 6


def draw(fall: Waterfall, limit: float | None = None) -> str:
    """The waterfall; a cross in a line says that the row has no value, an open circle is the baseline's value."""
    values = [level.value for level in fall.known if level.value is not None]
    values += [level.base for level in fall.known if level.base is not None and fall.baseline]
    axis = linear(
        f"{fall.metric} ({fall.unit})" if fall.unit != "1" else fall.metric,
        [*values, *([] if limit is None else [limit])],
        zero=fall.unit == "bytes",
    )
    foot = TOP + LINE * len(fall.levels)
    parts = [*_ticks(axis, foot), *_limit(axis, limit, foot)]
    before: Level | None = None
    for index, level in enumerate(fall.levels):
        parts.append(_line(fall, level, before, axis, TOP + LINE * index))
        before = level if level.value is not None else before
    label = f"waterfall of {fall.metric}"
    return f'<svg viewBox="0 0 {WIDTH} {foot + 32}" role="img" aria-label="{text(label)}">{"".join(parts)}</svg>'


def _line(fall: Waterfall, level: Level, before: Level | None, axis: Axis, top: int) -> str:
    middle = top + 24
    label = f'<text class="quiet" x="0" y="{top + 13}">{text(level.row)}'
    if level.value is None:
        return f'{label} <tspan class="ink" dx="4">{text(level.reason[:44])}</tspan></text>'
    lost = fall.lost(before, level) if before is not None else 0.0
    tone = "var(--bad)" if lost > 0 else "var(--good)" if lost < 0 else "var(--quiet)"
    shown = [quantity(float(f"{level.value:.4g}"), fall.unit)]
    if level.change:
        shown.append(f"{'+' if level.change > 0 else '−'}{quantity(float(f'{abs(level.change):.3g}'))}")
    if fall.worst is level:
        shown.append("lost most")
    at = _x(axis, level.value)
    drawn = [
        f'{label} <tspan class="ink" dx="4">{text("  ".join(shown))}</tspan></text>',
        f'<path class="axis" d="M{MARGIN} {middle}H{WIDTH - MARGIN}"/>',
    ]
    if before is not None and before.value is not None:
        left, right = sorted((_x(axis, before.value), at))
        drawn.append(
            f'<rect x="{left:.1f}" y="{middle - 4}" width="{max(1.0, right - left):.1f}" height="8" rx="2" '
            f'fill="{tone}"/>'
        )
        drawn.append(f'<path class="mark" d="M{_x(axis, before.value):.1f} {middle - LINE + 4}V{middle - 4}"/>')
    drawn.append(
        f'<circle cx="{at:.1f}" cy="{middle}" r="4.5" fill="{tone}" stroke="var(--panel)" stroke-width="1.5"/>'
    )
    if fall.baseline and level.base is not None:
        drawn.append(
            f'<circle cx="{_x(axis, level.base):.1f}" cy="{middle}" r="4" fill="var(--panel)" '
            'stroke="var(--tone-0)" stroke-width="2"/>'
        )
    return f"<g><title>{text(level.row)}: {text(', '.join(shown))}</title>{''.join(drawn)}</g>"


def _limit(axis: Axis, limit: float | None, foot: int) -> list[str]:
    if limit is None:
        return []
    at = _x(axis, limit)
    anchor = "end" if at > WIDTH / 2 else "start"
    return [
        f'<path class="mark" d="M{at:.1f} {TOP - 2}V{foot}"/>',
        f'<text class="quiet" x="{at:.1f}" y="10" text-anchor="{anchor}">limit</text>',
    ]


def _ticks(axis: Axis, foot: int) -> list[str]:
    parts = []
    for tick, label in axis.labels():
        at = _x(axis, tick)
        anchor = "start" if at < MARGIN + 12 else "end" if at > WIDTH - MARGIN - 12 else "middle"
        parts.append(f'<path class="axis" d="M{at:.1f} {TOP}V{foot}"/>')
        parts.append(f'<text class="quiet" x="{at:.1f}" y="{foot + 13}" text-anchor="{anchor}">{label}</text>')
    parts.append(
        f'<text class="quiet" x="{WIDTH - MARGIN}" y="{foot + 28}" text-anchor="end">{text(axis.title)}</text>'
    )
    return parts


def _x(axis: Axis, value: float) -> float:
    return MARGIN + axis.place(value) * (WIDTH - 2 * MARGIN)
