"""How much memory a graph needs at once, counted from its operators alone: nothing here knows how C is generated.

A tensor lives from the operator that makes it to the last one that reads it. What only names the same elements anew is
the same tensor: a reshape, a window, the padding in front of a convolution, a part of an outermost concatenation, a
number on its way through float. An operator on single elements writes over what it reads for the last time. The caller
holds the frame and the mask; states have their place, and a next value waits elsewhere while the old one is read. A
convolution whose windows do not lie in one piece lays out one at a time.
"""

from __future__ import annotations

import math

import numpy as np

from earshot.quantize.graph import Graph, Operator

RENAMED = {"RESHAPE", "SQUEEZE", "EXPAND_DIMS", "SLICE", "STRIDED_SLICE", "SPLIT", "PAD"}
ELEMENTWISE = {"ADD", "SUB", "MUL", "RELU", "RELU6", "LEAKY_RELU", "LOGISTIC", "TANH", "QUANTIZE"}


def largest_live_set(graph: Graph) -> int:
    """Bytes of the tensors that live at the operator where most do."""
    spans = _spans(graph)
    kept = _held_elsewhere(graph, spans)
    same = _renamings(graph)

    def owner(tensor: int) -> int:
        while tensor in same:
            tensor = same[tensor]
        return tensor

    lives: dict[int, tuple[int, int]] = {}
    for tensor, (first, last) in spans.items():
        if owner(tensor) not in kept:
            before = lives.get(owner(tensor), (first, last))
            lives[owner(tensor)] = min(first, before[0]), max(last, before[1])

    def reused(operator: Operator) -> int:
        """Bytes that its output takes over."""
        sink = operator.outputs[0]
        if operator.name not in ELEMENTWISE or sink not in lives:
            return 0
        ends = (lives.get(owner(tensor), (0, -1))[1] == operator.index for tensor in operator.inputs)
        sizes = (_bytes(graph, tensor) == _bytes(graph, sink) for tensor in operator.inputs)
        return _bytes(graph, sink) if any(map(all, zip(ends, sizes, strict=True))) else 0

    return max(
        sum(_bytes(graph, tensor) for tensor, (first, last) in lives.items() if first <= operator.index <= last)
        - reused(operator)
        + _window_bytes(graph, operator)
        for operator in graph.operators
    )


def _bytes(graph: Graph, tensor: int) -> int:
    return math.prod(graph.tensors[tensor].shape) * np.dtype(graph.tensors[tensor].dtype).itemsize


def _window_bytes(graph: Graph, operator: Operator) -> int:
    """One window of a convolution: a transposed one's is what one output sees, a depthwise one's a pixel."""
    if operator.name not in ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV"):
        return 0
    source = graph.tensors[operator.inputs[2 if operator.name == "TRANSPOSE_CONV" else 0]]
    rows, columns = graph.tensors[operator.inputs[1]].shape[1:3]
    pixel = source.shape[3] * np.dtype(source.dtype).itemsize
    if operator.name == "TRANSPOSE_CONV":
        return -(-rows // operator.options["strideH"]) * -(-columns // operator.options["strideW"]) * pixel
    return pixel if operator.name == "DEPTHWISE_CONV_2D" and source.shape[3] > 1 else rows * columns * pixel


def _spans(graph: Graph) -> dict[int, tuple[int, int]]:
    """Computed tensor -> the operator that makes it, the last one that needs it."""
    spans = {tensor: (operator.index, operator.index) for operator in graph.operators for tensor in operator.outputs}
    for operator in graph.operators:
        for tensor in operator.inputs:
            if tensor in spans:
                spans[tensor] = spans[tensor][0], operator.index
    for name in graph.state_pairs:
        old, leaving = _last_reader(graph, graph.inputs[name]), graph.outputs[name]
        spans[leaving] = spans[leaving][0], max(spans[leaving][1], old)
    return spans


def _last_reader(graph: Graph, tensor: int) -> int:
    return max((operator.index for operator in graph.operators if tensor in operator.inputs), default=-1)


def _held_elsewhere(graph: Graph, spans: dict[int, tuple[int, int]]) -> set[int]:
    """What the caller holds, and states: a next value only where no one reads the old one when it is made."""
    found = {*graph.inputs.values(), graph.outputs["mask"]}
    for name in graph.state_pairs:
        if _last_reader(graph, graph.inputs[name]) <= spans[graph.outputs[name]][0]:
            found.add(graph.outputs[name])
    return found


def _renamings(graph: Graph) -> dict[int, int]:
    """Tensor -> the one whose elements it names."""
    same: dict[int, int] = {}
    leaving = {*graph.outputs.values()}
    for operator in graph.operators:
        inputs = [tensor for tensor in operator.inputs if tensor >= 0 and graph.tensors[tensor].data is None]
        sinks = [graph.tensors[tensor] for tensor in operator.outputs if tensor not in leaving]
        same |= {sink.index: inputs[0] for sink in sinks if operator.name in RENAMED or sink.dtype == "float32"}
        if operator.name == "CONCATENATION" and math.prod(sinks[0].shape[: operator.options["axis"]]) == 1:
            parts = (tensor for tensor in inputs if tensor not in same and tensor not in graph.inputs.values())
            same |= dict.fromkeys(parts, sinks[0].index)
    return same
