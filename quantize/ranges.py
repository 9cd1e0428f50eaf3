"""Decides which tensors share one range, so that integers pass between them unchanged.

A state must enter with the scale it left with, or it is rounded anew every frame. Two tensors are tied when they are
the two ends of a state, or joined by an operator that only moves values; union-find makes groups of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from earshot.quantize.calibration import Range
from earshot.quantize.graph import Graph

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
# Operators whose kernels prescribe their output's scale: 1/256 and zero point -128, or 1/128 and 0, at int8.
PRESCRIBED = {
    "LOGISTIC": Range(0.0, 255 / 256),
    "SOFTMAX": Range(0.0, 255 / 256),
    "TANH": Range(-1.0, 127 / 128),
}


@dataclass(frozen=True)
class RangePlan:
    """Range of every activation, by tensor index, and the groups of tied tensors that share theirs."""

    ranges: Mapping[int, Range]
    groups: tuple[tuple[int, ...], ...]

    def group_of(self, index: int) -> tuple[int, ...]:
        """The tensors that share a tensor's range, itself among them."""
        return next((group for group in self.groups if index in group), (index,))


def tie(graph: Graph, measured: Mapping[int, Range]) -> RangePlan:
    """Groups the tensors and gives every group the range that holds all its members.

    A group with a sigmoid's or tanh's output takes the prescribed range when all its values fit; otherwise that output
    stays apart, and the quantizer rescales between the two.

    Args:
        graph: the float graph; states are paired by their signature names.
        measured: range of every activation, by tensor index.
    """
    prescribed = {
        output: PRESCRIBED[operator.name]
        for operator in graph.operators
        if operator.name in PRESCRIBED
        for output in operator.outputs
    }
    groups = []
    for group in _groups(graph, apart=frozenset()):
        fixed = {prescribed[index] for index in group if index in prescribed}
        held = _joined(group, measured)
        fits = len(fixed) == 1 and next(iter(fixed)).join(held) == next(iter(fixed))
        groups.append((group, not fixed or fits))
    apart = frozenset(index for group, whole in groups if not whole for index in group if index in prescribed)
    ranges: dict[int, Range] = {}
    settled = _groups(graph, apart) if apart else [group for group, _ in groups]
    for group in settled:
        fixed = {prescribed[index] for index in group if index in prescribed}
        shared = fixed.pop() if fixed else _joined(group, measured)
        ranges.update(dict.fromkeys(group, shared))
    alone = {index: prescribed.get(index, found) for index, found in measured.items() if index not in ranges}
    return RangePlan({**alone, **ranges}, tuple(settled))


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
        if operator.name in MOVES:
            join([index for index in graph.activations(operator) if index not in apart])
    for entry, leaving in graph.state_pairs.items():
        join([index for index in (graph.inputs[entry], graph.outputs[leaving]) if index not in apart])
    sets: dict[int, list[int]] = {}
    for index in sorted(parent):
        sets.setdefault(root(index), []).append(index)
    return [tuple(members) for members in sets.values() if len(members) > 1]
