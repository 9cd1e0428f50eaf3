"""Why budgets were missed: for a terminal, and the cells and sentences that all reports share."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from earshot.ci.explanation import ClipLoss, Costs, Explanation, Finding, Layer, Layers, WorstClips
from earshot.ci.quantity import quantity
from earshot.ci.report.layout import NOT_MEASURED, clean
from earshot.ci.report.tables import plain_table
from earshot.ci.waterfall import Level, Waterfall

CLIP_HEADER = ("clip", "part", "here", "there", "change")
COST_HEADER = ("what", "where", "cost", "share", "runs on")
LAYER_HEADER = (
    *("layer", "output", "SQNR dB", "alone dB", "16 bits, simulated dB", "16 bits, built dB"),
    *("file bytes", "state bytes", "MAC/frame"),
)
WORDS = frozenset({"row", "clip", "part", "what", "where", "runs on", "layer", "output", ""})  # columns of no numbers
LAYER_NUMBERS = range(2, len(LAYER_HEADER))


def render_whole(explanation: Explanation) -> RenderableType:
    """All of it, with waterfalls, clips, costs and layers as tables."""
    shown: list[RenderableType] = []
    for finding in explanation.findings:
        shown += [_paragraph(finding), *(_table(*one) for one in tables(finding)), ""]
    if explanation.layers is not None:
        shown.append(_layers(explanation.layers))
    return Group(*shown, *(Text(clean(one), style="dim") for one in explanation.missing))


def told(finding: Finding) -> str:
    """All that a finding says, in one line."""
    return "; ".join(clean(one) for one in (*finding.sentences, *finding.missing))


def level_header(fall: Waterfall) -> tuple[str, ...]:
    """Titles of a waterfall's columns."""
    unit = "" if fall.unit == "1" else f" ({fall.unit})"
    return ("row", clean(f"{fall.metric}{unit}"), "change", *([clean(fall.baseline)] if fall.baseline else []), "")


def level_cells(fall: Waterfall, level: Level) -> tuple[str, ...]:
    """A row of a waterfall in the order of `level_header`."""
    value = clean(level.reason) if level.value is None else _level(level.value)
    change = NOT_MEASURED if level.change is None else signed(level.change)
    beside = [] if not fall.baseline else [NOT_MEASURED if level.base is None else _level(level.base)]
    return (clean(level.row), value, change, *beside, fall.worst_word if fall.worst is level else "")


def signed(change: float) -> str:
    """A change with its sign, in three digits; bytes and the like whole."""
    return f"{change:+,.0f}" if abs(change) >= 1000 else f"{change:+.3g}"


def _level(value: float) -> str:
    return quantity(value if abs(value) >= 10000 else float(f"{value:.5g}"))


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
            clean(quantity(part.value, costs.unit)),
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
    if low is not None and low.own_sqnr_db is not None:
        gain = (
            "" if low.simulated_gain_db is None else f"; 16 bits for it gain {low.simulated_gain_db:+.2f} dB, simulated"
        )
        notes.append(f"lowest ratio by itself: {low.name} ({low.location}), {low.own_sqnr_db:.1f} dB{gain}")
    notes.append(
        f"masks of {layers.row} against the float file: {layers.mask_snr_db:.1f} dB; "
        f"16 bits for all activations (int16x8) gain {layers.wide_snr_db - layers.mask_snr_db:+.1f} dB"
    )
    together = layers.together
    if together is not None:
        patterns = ", ".join(f"'{one}'" for one in together.patterns)
        whole = layers.wide_snr_db - layers.mask_snr_db
        notes.append(
            f"all {len(together.patterns)} that gain in one file: {together.gain_db:.2f} of these {whole:.1f} dB, file "
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
    return Text.assemble((clean(finding.budget), "bold"), f": {told(finding)}")


def tables(finding: Finding) -> list[tuple[tuple[str, ...], list[tuple[str, ...]]]]:
    """The numbers behind a finding: header and rows of each table."""
    found = []
    if finding.waterfall is not None:
        fall = finding.waterfall
        found.append((level_header(fall), [level_cells(fall, level) for level in fall.levels]))
    if finding.costs is not None:
        found.append((COST_HEADER, cost_cells(finding.costs)))
    if finding.clips is not None and finding.clips.clips:
        found.append((CLIP_HEADER, [clip_cells(finding.clips, one) for one in finding.clips.clips]))
    return found


def _layers(layers: Layers) -> RenderableType:
    title = f"layers of {clean(layers.row)}: signal-to-quantisation-noise ratio, and what 16 bits gain the masks"
    table = _table(LAYER_HEADER, [layer_cells(layer) for layer in layers.layers], title)
    return Group(table, *(Text(note) for note in layer_notes(layers)))


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], title: str | None = None) -> RenderableType:
    table = plain_table(title)
    for name in header:
        table.add_column(Text(name), justify="left" if name in WORDS else "right", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table
