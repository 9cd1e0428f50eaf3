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
        sqnr_db: power of its float output over the power of the integer file's error there, dB; errors of all layers
            before it are in it.
        own_sqnr_db: the same with exact inputs: its own rounding alone.
        raised_snr_db: SNR of the masks, dB, of a file with this layer on 16 bits.
        gain_db: what that is better than the file as it is; None where it was not raised.
        bytes_more: how much larger that file is.
        macs: multiply-accumulates of the layer a frame, on 16-bit activations then.
        why_not: why it cannot be raised.
    """

    index: int
    name: str
    location: str
    sqnr_db: float
    own_sqnr_db: float | None = None
    raised_snr_db: float | None = None
    gain_db: float | None = None
    bytes_more: int | None = None
    macs: int = 0
    why_not: str = ""


@dataclass(frozen=True)
class Layers:
    """The layers of an integer file, lowest signal-to-quantisation-noise ratio first.

    Attributes:
        row: the row whose file it is.
        layers: some of them.
        count: how many operators compute values.
        mask_snr_db: SNR of the file's masks against the float file's, dB.
        all_raised_snr_db: of the file whose activations all have 16 bits (int16x8); None where it was not made.
        frames: streamed through both files.
        seconds: of sound.
        sound: which sound.
        method: how the numbers came to be.
    """

    row: str
    layers: tuple[Layer, ...]
    count: int
    mask_snr_db: float
    all_raised_snr_db: float | None
    frames: int
    seconds: float
    sound: str
    method: str


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
    if isinstance(value, dict):
        return {key: _filled(item) for key, item in value.items() if item is not None and item not in ("", ())}
    if isinstance(value, list | tuple):
        return [_filled(item) for item in value]
    return value
