"""What giving single layers of an int8 file 16 bits buys: simulated for all of them at once, then built for the best.

Simulated: the int8 file's reference runs one stream as many times side by side as there are layers, each time with one
layer, and all that goes with it (`raised`), on a 16-bit grid. Built: the file is made again with the layer raised
(`quantize.keep_wide`) and run on LiteRT. Both are held against the float file's masks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from earshot.quantize.graph import Graph, Operator, read_graph
from earshot.quantize.integer import quantize_graph
from earshot.quantize.metadata import FRAME, MASK
from earshot.quantize.parity import snr_db
from earshot.quantize.plan import QuantizedPlan
from earshot.quantize.raised import raised
from earshot.quantize.ranges import WEIGHTED
from earshot.quantize.reference import Grid, Reference
from earshot.quantize.sensitivity import Model, masks

_LARGEST = 32767


@dataclass(frozen=True)
class Built:
    """A file with some layers on 16 bits.

    Attributes:
        snr_db: of its masks.
        bytes: its size.
        state_bytes: of one copy of all its states.
    """

    snr_db: float
    bytes: int
    state_bytes: int


def pattern_of(location: str) -> str:
    """The pattern for `quantize.keep_wide` that finds one output and no other."""
    return f"^{re.escape(location)}$"


def macs_of(graph: Graph, operators: Iterable[int]) -> int:
    """Multiplications of weights with activations a frame, of some operators."""
    return sum(_macs(graph, graph.operators[index]) for index in operators)


def _macs(graph: Graph, operator: Operator) -> int:
    """Every output (of a transposed convolution: every input) takes part with one weight of each input or output."""
    if operator.name not in WEIGHTED:
        return 0
    weight, sink = graph.tensors[operator.inputs[1]], graph.tensors[operator.outputs[0]]
    if operator.name == "TRANSPOSE_CONV":
        source = graph.tensors[operator.inputs[2]]
        return source.size // source.shape[-1] * weight.size
    channels = weight.shape[-1] if operator.name == "DEPTHWISE_CONV_2D" else weight.shape[0]
    return sink.size // channels * weight.size


def simulated_snrs(
    floating: Graph,
    integer: Graph,
    locations: Sequence[str],
    wanted: np.ndarray,
    frames: np.ndarray,
    advance: Callable[[], object] | None = None,
) -> tuple[float, dict[str, float]]:
    """Mask SNR in dB of the reference as it is, and with each layer raised, by the name of its output.

    Args:
        floating, integer: the graphs.
        locations: outputs of layers.
        wanted: the float file's masks, `[frames, 1, 1, bins, outputs]`.
        frames: features of one stream, float32 `[frames, 1, 1, bins, channels]`.
        advance: called after every frame.

    Raises:
        ModelError: the reference does not know an operator of the file.
    """
    names = [
        frozenset(floating.tensors[i].name for i in raised(floating, [pattern_of(one)]).tensors) for one in locations
    ]
    reference = _SideBySide(integer, names)
    count = len(locations) + 1
    states = reference.initial_state(count)
    found = []
    for frame in frames:
        shown = torch.from_numpy(frame)[None].expand(count, *frame.shape)
        mask, states = reference.step(shown, states)
        found.append(mask.numpy())
        if advance is not None:
            advance()
    outputs = np.stack(found)
    snrs = [snr_db(wanted, outputs[:, number]) for number in range(count)]
    return snrs[0], dict(zip(locations, snrs[1:], strict=True))


def build_raised(plan: QuantizedPlan, patterns: Sequence[str], wanted: np.ndarray, frames: np.ndarray) -> Built:
    """Makes the int8 file with layers raised, besides those the plan raises already, and runs it.

    Raises:
        ToolError: the quantizer cannot make it.
        ModelError: LiteRT cannot prepare it.
    """
    settled = plan.precisions
    content = quantize_graph(plan.float_path, plan.ranges, "int8", settled.keep_float, (*settled.keep_wide, *patterns))
    return measure(Model(read_graph(content), content), wanted, frames)


def measure(model: Model, wanted: np.ndarray, frames: np.ndarray) -> Built:
    """A file's masks against the wanted ones, and what it takes."""
    tensors = (model.graph.tensors[model.graph.inputs[name]] for name in model.graph.state_pairs)
    held = sum(tensor.size * np.dtype(tensor.dtype).itemsize for tensor in tensors)
    return Built(snr_db(wanted, masks(model, frames)), len(model.content), held)


class _SideBySide(Reference):
    """The reference of an int8 file; from the second clip on, each has other tensors on 16 bits.

    Args:
        graph: of the int8 file.
        raised: names of tensors of the float graph, one set a clip.
    """

    def __init__(self, graph: Graph, raised: Sequence[frozenset[str]]) -> None:
        super().__init__(graph)
        self._rows: dict[int, list[int]] = {}
        named = {tensor.name: tensor.index for tensor in graph.tensors}
        for clip, names in enumerate(raised, 1):
            fine = {named[name] for name in names if name in named}
            for operator in graph.operators:  # a border behind a raised tensor rounds to 16 bits as well
                if operator.name == "QUANTIZE" and operator.inputs[0] in fine:
                    fine.update(operator.outputs)
            fine -= {graph.inputs[FRAME], graph.outputs[MASK]}  # what comes in and goes out stays on 8 bits
            for index in fine:
                self._rows.setdefault(index, []).append(clip)
        self._fine: Mapping[int, Grid] = {index: _sixteen(self._grids[index]) for index in self._rows}

    def _round(self, index: int, value: Tensor) -> Tensor:
        rounded = super()._round(index, value)
        rows = self._rows.get(index)
        if not rows or value.shape[0] <= max(rows):
            return rounded
        rounded = rounded.clone()
        rounded[rows] = self._fine[index].round(value[rows])
        return rounded


def _sixteen(grid: Grid) -> Grid:
    """The symmetric grid of 16 bits over the range of one of 8."""
    if grid.scale is None or grid.high - grid.low > 255:
        return grid
    return Grid(max(-grid.low, grid.high) * grid.scale / _LARGEST, -_LARGEST, _LARGEST)
