"""The cross-device page: what models cost on every target, against their quality where it is known."""

from __future__ import annotations

from earshot.ci.comparison import Comparison, Device, ModelResult
from earshot.ci.metrics import QUALITY
from earshot.ci.quantity import quantity
from earshot.ci.report import devices
from earshot.ci.report.html import svg
from earshot.ci.report.html.axis import Axis, linear, logarithmic, short
from earshot.ci.report.html.page import figure, fold, grid, page, section, table, text
from earshot.core.measurement import Measurement

SPEED = ("rtf", "graph_rtf")  # the frontend is not counted in the second: said where it is shown
MEMORY = {"ram_bytes": "RAM", "flash_bytes": "Flash", "peak_rss_bytes": "Resident memory of the process"}
OPERATORS_SHOWN = 12
NOT_MODELLED = (
    "Emulated: the real code ran on an emulated processor; instruction counts and outputs are exact. Estimated: a "
    "model of the device. Neither knows caches, flash wait states, frequency scaling, heat or energy."
)


def render(comparison: Comparison) -> str:
    """The page, one file."""
    title = f"{comparison.title or 'models'} on {_count(len(comparison.devices), 'target')}"
    return page(title, [f"<h1>{text(title)}</h1>", *parts(comparison)])


def parts(comparison: Comparison) -> list[str]:
    """The page's sections, for a page that holds more than these."""
    failed = [device for device in comparison.devices if device.error is not None]
    ran = len(comparison.devices) - len(failed)
    costed = [(device, result) for device, result in _results(comparison) if result.operators]
    outcome = f"{_count(len(comparison.models), 'model')}, {_count(ran, 'target')} profiled"
    outcome += f', <strong class="bad">{len(failed)} failed</strong>' if failed else ""
    return [
        f'<p class="quiet">{outcome}</p>',
        section("Failed targets", *(_failure(device) for device in failed)) if failed else "",
        section("Every target and model", _table(comparison), *_notes(comparison)),
        section("Speed", grid([_speed(comparison), _speed_quality(comparison)]), _key(comparison)),
        section("Memory", grid(_memory(comparison, metric) for metric in MEMORY)),
        section("Operators", *(_operators(*pair, first=pair == costed[0]) for pair in costed)),
        section("Time of one graph step", grid(_histogram(comparison, *pair) for pair in _results(comparison))),
        section("What the numbers hold for", *(_environment(*pair) for pair in _results(comparison))),
        f'<p class="quiet">{NOT_MODELLED}</p>',
    ]


def _results(comparison: Comparison) -> list[tuple[Device, ModelResult]]:
    return [(device, result) for device in comparison.devices for result in device.results]


def _failure(device: Device) -> str:
    fix = f"<p>fix: <code>{text(device.fix)}</code></p>" if device.fix else ""
    return (
        f'<div class="panel failed"><h3>{text(device.target)} <span class="bad">failed</span></h3>'
        f"<p>{text(device.error)}</p>{fix}</div>"
    )


def _table(comparison: Comparison) -> str:
    shown = devices.columns(comparison)
    header = ("target", "model", *(column.header for column in shown), "how")
    rows = [(line.target, line.model, *line.cells, line.how) for line in devices.lines(comparison)]
    return table(header, rows, range(2, 2 + len(shown)))


def _notes(comparison: Comparison) -> list[str]:
    left_out = [f"{d.target} left out {model}: {why}" for d in comparison.devices for model, why in d.left_out.items()]
    return [f'<p class="quiet">{text(note)}</p>' for note in ("; ".join(devices.legend(comparison)), *left_out) if note]


def _speed(comparison: Comparison) -> str:
    items = []
    for device, result in _results(comparison):
        found = result.find(*SPEED)
        if found is not None and found.value:
            part = "" if found.metric == "rtf" else ", graph alone"
            label, tone = f"{device.target}: {result.model}{part}", _tone(comparison, device)
            items.append(svg.Item(label, found.value, _shown(found), tone, svg.FORMS[found.provenance]))
    axis = logarithmic("compute time / real time", [*(item.value for item in items), 1.0])
    caption = "Real-time factor: left of the line a target keeps up with live sound. Each step of the axis is a factor."
    return figure(svg.dots(items, axis, 1.0, "real time"), caption, "Real-time factor")


def _speed_quality(comparison: Comparison) -> str:
    scores = {m.metric: m for scored in comparison.quality.values() for m in scored if m.value is not None}
    metric = next((metric for metric in QUALITY if metric in scores), None)
    if metric is None:
        return ""
    points = []
    for device, result in _results(comparison):
        speed = result.find(*SPEED)
        score = next((m for m in comparison.quality.get(result.model, ()) if m.metric == metric), None)
        if speed is None or not speed.value or score is None or score.value is None:
            continue
        shown = f"{result.model} on {device.target}: {speed.metric} {_shown(speed)}, {metric} {score.value:.3f}"
        tone, form = _tone(comparison, device), svg.FORMS[speed.provenance]
        label = result.model if len(comparison.models) > 1 else device.target
        points.append(svg.Point(label, speed.value, score.value, shown, tone, form))
    unit = scores[metric].unit
    y = linear(metric if unit == "1" else f"{metric} ({unit})", (point.y for point in points), zero=False)
    x: Axis = logarithmic("compute time / real time", (point.x for point in points))
    return figure(svg.scatter(points, x, y), "Up is better, left is faster.", "Quality against speed")


def _memory(comparison: Comparison, metric: str) -> str:
    items = []
    for device, result in _results(comparison):
        found = result.find(metric)
        if found is not None and found.value is not None:
            label, tone = f"{device.target}: {result.model}", _tone(comparison, device)
            shown = _shown(found, f"{found.value / 1000:,.1f} kB")
            items.append(svg.Item(label, found.value, shown, tone, svg.FORMS[found.provenance]))
    return figure(svg.bars(items), f"{metric}, kB of 1000 bytes.", MEMORY[metric])


def _operators(device: Device, result: ModelResult, first: bool) -> str:
    total = sum(operator.value for operator in result.operators) or 1.0
    placements = list(dict.fromkeys(operator.placement for operator in result.operators))
    most = sorted(result.operators, key=lambda operator: -operator.value)[:OPERATORS_SHOWN]
    items = []
    for operator in most:
        where = f", {operator.placement}" if operator.placement else ""
        label = f"{operator.index} {operator.name}{where}  {operator.location}"
        shown = f"{operator.value / total:.1%}, {short(operator.value)}"
        items.append(svg.Item(label, operator.value, shown, placements.index(operator.placement)))
    rest = len(result.operators) - len(most)
    caption = f"{quantity(total, result.operators[0].unit)} a frame in {_count(len(result.operators), 'operator')}"
    caption += f"; the {rest} cheapest are left out here." if rest > 0 else "."
    return fold(f"{result.model} on {device.target}", figure(svg.bars(items), caption), shown=first)


def _histogram(comparison: Comparison, device: Device, result: ModelResult) -> str:
    if result.histogram is None:
        return ""
    drawing = svg.histogram(result.histogram.edges_us, result.histogram.counts, "µs", _tone(comparison, device))
    middle, late = result.find("frame_p50_us"), result.find("frame_p99_us")
    caption = ", ".join(
        f"{name} {quantity(found.value or 0.0, 'us')}" for name, found in (("p50", middle), ("p99", late)) if found
    )
    return figure(drawing, caption, f"{result.model} on {device.target}")


def _environment(device: Device, result: ModelResult) -> str:
    rows = [(name, str(value)) for name, value in result.environment.items() if value not in (None, "", [], {})]
    return fold(f"{result.model} on {device.target}", table(("what", "is"), rows)) if rows else ""


def _key(comparison: Comparison) -> str:
    ran = [device for device in comparison.devices if device.results]
    used = {found.provenance for _, result in _results(comparison) if (found := result.find(*SPEED))}
    forms = [(str(kind).replace("_", " "), 7, svg.FORMS[kind]) for kind in svg.FORMS if kind in used]
    return svg.key([*((device.target, _tone(comparison, device), "full") for device in ran), *forms])


def _shown(found: Measurement, words: str | None = None) -> str:
    """A number in three digits, or the words given, and what spoils it."""
    return (words or f"{found.value or 0.0:.3g}") + (f" ({', '.join(found.flags)})" if found.flags else "")


def _tone(comparison: Comparison, device: Device) -> int:
    return comparison.devices.index(device)


def _count(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
