"""Why budgets were missed, as text: for a terminal, as Markdown, as JSON data."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from earshot.ci.explanation import ClipLoss, Costs, Explanation, Finding, Layer, Layers, WorstClips
from earshot.ci.quantity import quantity
from earshot.ci.report.layout import NOT_MEASURED, clean
from earshot.ci.report.tables import plain_table

CLIP_HEADER = ("clip", "part", "here", "there", "change")
COST_HEADER = ("what", "where", "cost", "share", "runs on")
LAYER_HEADER = (
    *("layer", "output", "SQNR dB", "alone dB", "16 bits, simulated dB", "16 bits, built dB"),
    *("file bytes", "state bytes", "MAC/frame"),
)
LAYER_NUMBERS = range(2, len(LAYER_HEADER))


def render(explanation: Explanation) -> RenderableType:
    """A paragraph a finding: what a person should know, no tables."""
    paragraphs = [_paragraph(finding) for finding in explanation.findings]
    if explanation.layers is not None:
        paragraphs.append(Text("  ".join(layer_notes(explanation.layers)[:1]), style="dim"))
    paragraphs += [Text(clean(one), style="dim") for one in explanation.missing]
    return Group(*paragraphs)


def render_whole(explanation: Explanation) -> RenderableType:
    """All of it, with waterfalls, clips, costs and layers as tables."""
    shown: list[RenderableType] = []
    for finding in explanation.findings:
        shown += [_paragraph(finding), *_tables(finding), ""]
    if explanation.layers is not None:
        shown.append(_layers(explanation.layers))
    return Group(*shown, *(Text(clean(one), style="dim") for one in explanation.missing))


def said(finding: Finding) -> str:
    """A finding's sentences in one line."""
    known = [*finding.sentences, *finding.missing]
    return "; ".join(clean(one) for one in known)


def clip_cells(clips: WorstClips, one: ClipLoss) -> tuple[str, ...]:
    """A clip in the order of `CLIP_HEADER`."""
    change = one.value - one.reference
    return (
        clean(one.clip),
        clean(one.group) or NOT_MEASURED,
        f"{one.value:.3f}",
        f"{one.reference:.3f}",
        f"{change:+.3f}",
    )


def cost_cells(costs: Costs) -> list[tuple[str, ...]]:
    """The parts in the order of `COST_HEADER`."""
    return [
        (
            clean(part.name),
            clean(part.location) or NOT_MEASURED,
            quantity(part.value, costs.unit),
            f"{100 * part.share:.1f} %",
            clean(part.placement) or NOT_MEASURED,
        )
        for part in costs.parts
    ]


def layer_cells(layer: Layer) -> tuple[str, ...]:
    """A layer in the order of `LAYER_HEADER`."""
    return (
        f"{layer.index} {clean(layer.name)}",
        clean(layer.location),
        f"{layer.sqnr_db:.1f}",
        _decibels(layer.own_sqnr_db, ""),
        _decibels(layer.simulated_gain_db, "+"),
        clean(layer.why_not) or _decibels(layer.gain_db, "+"),
        NOT_MEASURED if layer.bytes_more is None else f"{layer.bytes_more:+,d}",
        NOT_MEASURED if layer.state_bytes_more is None else f"{layer.state_bytes_more:+,d}",
        f"{layer.macs:,d}" if layer.macs else NOT_MEASURED,
    )


def _decibels(value: float | None, sign: str) -> str:
    if value is None:
        return NOT_MEASURED
    return f"{value + 0.0:{sign}.2f}" if sign else f"{value:.1f}"


def layer_notes(layers: Layers) -> list[str]:
    """What the layers say, the advice first, and what that stands on."""
    notes = [_advice(layers)]
    low = layers.lowest
    if low.own_sqnr_db is not None:
        gain = (
            "" if low.simulated_gain_db is None else f"; 16 bits for it gain {low.simulated_gain_db:+.2f} dB, simulated"
        )
        notes.append(f"lowest ratio by itself: {low.name} ({low.location}), {low.own_sqnr_db:.1f} dB{gain}")
    notes.append(
        f"masks of {layers.row} against the float file: {layers.mask_snr_db:.1f} dB; "
        f"{layers.wide_snr_db:.1f} dB with all activations on 16 bits"
    )
    together = layers.together
    if together is not None:
        patterns = ", ".join(f"'{one}'" for one in together.patterns)
        notes.append(
            f"all {len(together.patterns)} that gain in one file: {together.gain_db:+.2f} dB, file "
            f"{together.bytes_more:+,d} bytes, states {together.state_bytes_more:+,d} bytes: "
            f"quantize.keep_wide: [{patterns}]"
        )
    simulated = f", gains simulated on {layers.simulated_frames}" if layers.simulated_frames else ""
    notes.append(f"{layers.count} layers, {layers.frames} frames ({layers.seconds:.1f} s) of {layers.sound}{simulated}")
    return [clean(note) for note in (*notes, layers.missing) if note]


def _advice(layers: Layers) -> str:
    best = layers.best
    if best is None:
        return f"no single layer of {layers.row} gains from 16 bits"
    return (
        f"16 bits for {best.name} ({best.location}) gain the masks of {layers.row} {best.gain_db:+.2f} dB, file "
        f"{best.bytes_more or 0:+,d} bytes: quantize.keep_wide: ['{best.pattern}']"
    )


def _paragraph(finding: Finding) -> Text:
    return Text.assemble((clean(finding.budget), "bold"), f": {said(finding)}")


def _tables(finding: Finding) -> list[RenderableType]:
    found: list[RenderableType] = []
    if finding.waterfall is not None:
        fall, table = finding.waterfall, plain_table()
        for title in ("row", f"{fall.metric} ({fall.unit})", "change", *([fall.baseline] if fall.baseline else [])):
            table.add_column(clean(title), justify="left" if title == "row" else "right")
        for level in fall.levels:
            value = clean(level.reason) if level.value is None else quantity(float(f"{level.value:.4g}"))
            change = NOT_MEASURED if level.change is None else f"{level.change:+.3g}"
            mark = "  <- lost most" if fall.worst is level else ""
            beside = [] if not fall.baseline else [NOT_MEASURED if level.base is None else f"{level.base:.4g}"]
            table.add_row(clean(level.row), value, change + mark, *beside)
        found.append(table)
    if finding.costs is not None:
        found.append(_table(COST_HEADER, cost_cells(finding.costs), (2, 3)))
    if finding.clips is not None and finding.clips.clips:
        found.append(_table(CLIP_HEADER, [clip_cells(finding.clips, one) for one in finding.clips.clips], (2, 3, 4)))
    return found


def _layers(layers: Layers) -> RenderableType:
    title = f"layers of {clean(layers.row)}: signal-to-quantisation-noise ratio, and what 16 bits gain the masks"
    table = _table(LAYER_HEADER, [layer_cells(layer) for layer in layers.layers], LAYER_NUMBERS, title)
    return Group(table, *(Text(note) for note in layer_notes(layers)))


def _table(
    header: tuple[str, ...], rows: list[tuple[str, ...]], numbers: Sequence[int], title: str | None = None
) -> RenderableType:
    table = plain_table(title)
    for index, name in enumerate(header):
        table.add_column(name, justify="right" if index in numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table
