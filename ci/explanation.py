"""Why budgets were missed, as plain data: one finding a budget, and what the layers of the integer file do."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from earshot.ci.waterfall import Waterfall


@dataclass(frozen=True)
class ClipLoss:
    """One clip: its value, and what it is compared with."""

    clip: str
    group: str
    value: float
    reference: float


@dataclass(frozen=True)
class WorstClips:
    """The clips that lost most, worst first.

    Attributes:
        metric, unit: what.
        row: whose clips.
        against: what they are compared with: a row, or the baseline's name.
        clips: the worst.
        lost: how many clips are worse than what they are compared with.
        n: how many clips both have.
    """

    metric: str
    unit: str
    row: str
    against: str
    clips: tuple[ClipLoss, ...]
    lost: int
    n: int


@dataclass(frozen=True)
class Share:
    """A part of a whole: an operator of a graph, or a part of memory.

    Attributes:
        name: what it is.
        value: in the whole's unit.
        share: of the whole, 0 to 1.
        location: where in the graph, for an operator.
        placement: what runs it, where a device has several processors.
    """

    name: str
    value: float
    share: float
    location: str = ""
    placement: str = ""


@dataclass(frozen=True)
class Costs:
    """What something costs on a target, part by part.

    Attributes:
        what: `operators` or `memory`.
        target, row: where, and of which file.
        total, unit: of all parts; of operators, the graph's.
        parts: dearest first; of operators, at most five.
        count: how many parts there are in all.
        remark: what the parts do not say.
    """

    what: str
    target: str
    row: str
    total: float
    unit: str
    parts: tuple[Share, ...]
    count: int
    remark: str = ""


@dataclass(frozen=True)
class Finding:
    """Why one budget was missed.

    Attributes:
        budget, status: the verdict's.
        metric, row, target: what was judged, where.
        sentences: why, for people; the first one says most.
        limit: the least or largest value that passes, where there is one.
        waterfall: where the metric was lost.
        clips: the clips that lost most.
        costs: the operators or the parts of memory.
        missing: what could not be looked at, and why.
    """

    budget: str
    status: str
    metric: str
    row: str | None
    target: str | None
    sentences: tuple[str, ...] = ()
    limit: float | None = None
    waterfall: Waterfall | None = None
    clips: WorstClips | None = None
    costs: Costs | None = None
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Layer:
    """One operator of an integer file.

    Attributes:
        index: its place in the float graph.
        name, location: operator, and the name of its first output.
        pattern: what names it in `quantize.keep_wide`, and no other.
        sqnr_db: power of its float output over the power of the integer file's error there, dB; errors of all layers
            before it are in it.
        own_sqnr_db: the same with exact inputs: its own rounding alone, simulated.
        simulated_gain_db: what 16 bits for it would gain the masks, in the reference.
        gain_db: what they gain them in a file that was made so and run; None where none was.
        bytes_more, state_bytes_more: how much larger that file is, and its states.
        operators: how many operators have 16 bits in it, the layer and those that read it.
        macs: multiply-accumulates of these a frame.
        why_not: why no such file could be made.
    """

    index: int
    name: str
    location: str
    pattern: str
    sqnr_db: float
    own_sqnr_db: float | None = None
    simulated_gain_db: float | None = None
    gain_db: float | None = None
    bytes_more: int | None = None
    state_bytes_more: int | None = None
    operators: int = 0
    macs: int = 0
    why_not: str = ""


@dataclass(frozen=True)
class Together:
    """Several layers on 16 bits in one file: what that gains, and what it takes more of.

    Attributes:
        patterns: of the layers, for `quantize.keep_wide`.
        gain_db: of the masks.
        bytes_more, state_bytes_more: of the file, of its states.
    """

    patterns: tuple[str, ...]
    gain_db: float
    bytes_more: int
    state_bytes_more: int


@dataclass(frozen=True)
class Layers:
    """The layers of an int8 file: those that lose most to rounding, and those for which 16 bits would gain most.

    Attributes:
        row: the row whose file it is.
        layers: some of them, largest gain first.
        count: how many compute on integers.
        mask_snr_db: SNR of the file's masks against the float file's, dB.
        wide_snr_db: the same of the file whose activations all have 16 bits (int16x8).
        together: all layers that gain, in one file; None where no two do.
        frames: streamed.
        seconds: of sound.
        sound: which sound.
        simulated_frames: of these, how many the simulated gains stand on; 0 where there are none.
        missing: what could not be measured, and why.
    """

    row: str
    layers: tuple[Layer, ...]
    count: int
    mask_snr_db: float
    wide_snr_db: float
    together: Together | None
    frames: int
    seconds: float
    sound: str
    simulated_frames: int = 0
    missing: str = ""

    @property
    def lowest(self) -> Layer | None:
        """The layer with the lowest ratio of its own; where none is known, the lowest of all; None without layers."""
        own = [layer for layer in self.layers if layer.own_sqnr_db is not None]
        if own:
            return min(own, key=lambda one: one.own_sqnr_db or 0.0)
        return min(self.layers, key=lambda one: one.sqnr_db, default=None)

    @property
    def best(self) -> Layer | None:
        """The layer that was built on 16 bits and gained most; None where none gained anything."""
        built = [layer for layer in self.layers if (layer.gain_db or 0.0) > 0]
        return max(built, key=lambda one: one.gain_db or 0.0, default=None)


def read_layers(data: Any) -> Layers:
    """Layers from plain JSON data. Raises TypeError or KeyError where it is of another form."""
    together = data.get("together")
    return Layers(
        **{
            **data,
            "layers": tuple(Layer(**one) for one in data["layers"]),
            "together": Together(**{**together, "patterns": tuple(together["patterns"])}) if together else None,
        }
    )


@dataclass(frozen=True)
class Explanation:
    """Why a run missed its budgets.

    Attributes:
        run: its name.
        findings: one for each budget that was missed, not decided or warned about, in their order.
        layers: of the int8 file; None until `earshot explain` has measured them.
        missing: what could not be looked at for the whole run, and why.
    """

    run: str
    findings: tuple[Finding, ...] = ()
    layers: Layers | None = None
    missing: tuple[str, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether there is nothing to say."""
        return not (self.findings or self.layers or self.missing)

    def of(self, budget: str) -> Finding | None:
        """The finding on a budget."""
        return next((finding for finding in self.findings if finding.budget == budget), None)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data, without the fields that hold nothing."""
        plain: dict[str, Any] = _filled(asdict(self))
        return plain


def _filled(value: Any) -> Any:
    """Data of dataclasses as JSON has it, without what holds nothing."""
    if isinstance(value, dict):
        return {key: _filled(item) for key, item in value.items() if item is not None and item not in ("", ())}
    if isinstance(value, list | tuple):
        return [_filled(item) for item in value]
    return value
