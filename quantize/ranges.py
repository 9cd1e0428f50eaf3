"""Decides which tensors share one range, so that integers pass between them unchanged.

A state must enter with the scale it left with, or it is rounded anew every frame. Two tensors are tied when they are
the two ends of a state, or joined by an operator that only moves values; union-find makes groups of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from earshot.quantize.calibration import Range
from earshot.quantize.graph import Graph, Operator

# Operators whose output values are input values, so that both sides can keep one scale.
MOVES = frozenset(
    {
        "CONCATENATION",
        "SLICE",
        "STRIDED_SLICE",
        "PAD",
        "RESHAPE",
        "TRANSPOSE",
        "SPLIT",
        "SPLIT_V",
        "GATHER",
        "GATHER_ND",
        "PACK",
        "UNPACK",
        "EXPAND_DIMS",
        "SQUEEZE",
        "MAX_POOL_2D",
        "RESIZE_NEAREST_NEIGHBOR",
        "SPACE_TO_DEPTH",
        "DEPTH_TO_SPACE",
        "BROADCAST_TO",
        "MIRROR_PAD",
        "REVERSE_V2",
    }
)
WEIGHTED = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED"})
# Operators whose kernels want one scale on all sides, though they compute.
SHARES = MOVES | {"MAXIMUM", "MINIMUM"}
# Operators whose kernels prescribe their output's scale, and what they can put out.
PRESCRIBED = {"LOGISTIC": Range(0.0, 1.0), "SOFTMAX": Range(0.0, 1.0), "TANH": Range(-1.0, 1.0)}
# The ranges that give the prescribed scales: 1/256 from 0 and 1/128 around 0 at int8, 1/32768 at int16.
_UNIT_16 = Range(-32767 / 32768, 32767 / 32768)
_PRESCRIBED_RANGES = {
    "int8": {Range(0.0, 1.0): Range(0.0, 255 / 256), Range(-1.0, 1.0): Range(-1.0, 127 / 128)},
    "int16x8": {Range(0.0, 1.0): _UNIT_16, Range(-1.0, 1.0): _UNIT_16},
}


# A kernel multiplies what it has summed by (scales of what goes in) / (scale of what comes out). XNNPACK takes factors
# below 256 and fails, or crashes, on others: on outputs that stayed at zero while calibrating.
LARGEST_FACTOR = 128.0
_STEPS = 255  # of int8
_WEIGHT_STEPS = 127
_WEIGHT_AND_BIAS = 2
_FINE_STEPS = 32767  # of int16, whose biases are the larger integers
# Biases are clipped to 32 bits, and sums beside them need room: of inputs that stayed at zero, a ReLU's that is dead.
LARGEST_BIAS = 2.0**28


@dataclass(frozen=True)
class RangePlan:
    """What the integer files are made from.

    Attributes:
        ranges: range of every activation, by tensor index.
        groups: tied tensors, which share theirs.
        prescribed: tensors whose scale a kernel prescribes; their range here is what the kernel can put out.
    """

    ranges: Mapping[int, Range]
    groups: tuple[tuple[int, ...], ...]
    prescribed: frozenset[int] = frozenset()

    def at(self, precision: Literal["int8", "int16x8"]) -> dict[int, Range]:
        """The ranges that give every tensor its scale at a precision."""
        exact = _PRESCRIBED_RANGES[precision]
        return {index: exact[found] if index in self.prescribed else found for index, found in self.ranges.items()}


def tie(graph: Graph, measured: Mapping[int, Range]) -> RangePlan:
    """Groups the tensors and gives every group the range that holds all its members.

    A group with a sigmoid's or tanh's output takes the scale prescribed for it when all its values fit; otherwise that
    output stays apart, and the quantizer rescales between the two.

    Args:
        graph: the float graph; states are paired by their signature names.
        measured: range of every activation, by tensor index.
    """
    measured = widened(graph, _with_bounds(graph, measured))
    outputs = {
        output: PRESCRIBED[operator.name]
        for operator in graph.operators
        if operator.name in PRESCRIBED
        for output in operator.outputs
    }
    misfits = [group for group in _groups(graph, frozenset()) if not _fits(group, outputs, measured)]
    apart = frozenset(index for group in misfits for index in group if index in outputs)
    groups = _groups(graph, apart)
    ranges, prescribed = {**measured, **outputs}, set(outputs)
    for group in groups:
        wanted = {outputs[index] for index in group if index in outputs}
        prescribed.update(group if wanted else ())
        ranges.update(dict.fromkeys(group, wanted.pop() if wanted else _joined(group, measured)))
    return RangePlan(ranges, tuple(groups), frozenset(prescribed))


def _with_bounds(graph: Graph, measured: Mapping[int, Range]) -> dict[int, Range]:
    """The ranges, with room for the constants of MAXIMUM and MINIMUM: a bound that nothing reached yet still holds."""
    ranges = dict(measured)
    for operator in graph.operators:
        if operator.name in SHARES - MOVES:
            constants = [graph.tensors[index].real() for index in operator.inputs if not graph.is_activation(index)]
            for index, bound in itertools.product(operator.outputs, constants):
                ranges[index] = ranges[index].join(Range(float(bound.min()), float(bound.max())))
    return ranges


def widened(graph: Graph, measured: Mapping[int, Range]) -> dict[int, Range]:
    """The ranges, where one is far too narrow for biases or for what it is computed from made just wide enough."""
    ranges = dict(measured)
    for operator in graph.operators:
        if operator.name in WEIGHTED:
            source = operator.inputs[2 if operator.name == "TRANSPOSE_CONV" else 0]
            found, least = ranges.get(source), _room_for_bias(graph, operator)
            if found is not None and found.high - found.low < least:
                ranges[source] = Range(found.low, found.low + least)
        widths = [ranges[index].high - ranges[index].low for index in operator.inputs if index in ranges]
        if not widths or operator.name in MOVES:
            continue
        factor = max(widths)
        if operator.name == "MUL" and len(widths) == 2:
            factor = widths[0] * widths[1] / _STEPS
        elif operator.name in WEIGHTED:
            factor *= _largest_weight(graph, operator) / 127
        least = factor / LARGEST_FACTOR
        for index in operator.outputs:
            found = ranges.get(index)
            if found is not None and found.high - found.low < least:
                ranges[index] = Range(found.low, found.low + least)
    return ranges


def _room_for_bias(graph: Graph, operator: Operator) -> float:
    """The least range of a layer's input with which its biases, whole steps of input scale x weight scale, fit."""
    constants = [graph.tensors[index] for index in operator.inputs if index >= 0]
    given = [tensor.real() for tensor in constants if tensor.data is not None and tensor.dtype == "float32"]
    if len(given) < _WEIGHT_AND_BIAS:
        return 0.0
    weight, bias = given
    outputs = -1 if operator.name == "DEPTHWISE_CONV_2D" else 0
    peaks = np.moveaxis(np.abs(weight), outputs, 0).reshape(bias.size, -1).max(1)
    # A channel without weights has no step to count its bias in.
    steps = np.divide(np.abs(bias) * _WEIGHT_STEPS, peaks, out=np.zeros_like(peaks), where=peaks > 0)
    return float(steps.max()) * _FINE_STEPS / LARGEST_BIAS


def _largest_weight(graph: Graph, operator: Operator) -> float:
    constants = [graph.tensors[index] for index in operator.inputs if index >= 0]
    return max(
        (float(abs(tensor.real()).max()) for tensor in constants if tensor.data is not None and tensor.data.ndim > 1),
        default=1.0,
    )


def _fits(group: tuple[int, ...], outputs: Mapping[int, Range], measured: Mapping[int, Range]) -> bool:
    """Whether a group can take the scale prescribed for one of its members, if one is."""
    wanted = {outputs[index] for index in group if index in outputs}
    return not wanted or (len(wanted) == 1 and wanted == {_joined(group, measured).join(*wanted)})


def _joined(group: tuple[int, ...], measured: Mapping[int, Range]) -> Range:
    joined = measured[group[0]]
    for index in group[1:]:
        joined = joined.join(measured[index])
    return joined


def _groups(graph: Graph, apart: frozenset[int]) -> list[tuple[int, ...]]:
    """Connected sets of two tensors or more; tensors in `apart` join nothing."""
    parent: dict[int, int] = {}

    def root(index: int) -> int:
        while parent.setdefault(index, index) != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    def join(indices: list[int]) -> None:
        for index in indices[1:]:
            parent[root(index)] = root(indices[0])

    for operator in graph.operators:
        if operator.name in SHARES:
            join([index for index in graph.activations(operator) if index not in apart])
    for entry, leaving in graph.state_pairs.items():
        join([index for index in (graph.inputs[entry], graph.outputs[leaving]) if index not in apart])
    sets: dict[int, list[int]] = {}
    for index in sorted(parent):
        sets.setdefault(root(index), []).append(index)
    return [tuple(members) for members in sets.values() if len(members) > 1]
