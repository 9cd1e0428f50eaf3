"""From a graph to steps: every operator by the function that knows it, with what can be folded folded."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from earshot.quantize.c import convolution, elementwise, movement
from earshot.quantize.c.fixed import quantization
from earshot.quantize.c.program import Lowering, Step
from earshot.quantize.graph import Graph, Operator

LOWERINGS: dict[str, Callable[[Lowering], Step]] = {
    "ADD": elementwise.add,
    "CONCATENATION": movement.concatenation,
    "CONV_2D": convolution.convolution,
    "DEPTHWISE_CONV_2D": convolution.depthwise,
    "EXPAND_DIMS": movement.reshape,
    "FULLY_CONNECTED": convolution.dense,
    "GATHER": movement.gather,
    "LOGISTIC": elementwise.table_function(elementwise.sigmoid),
    "MUL": elementwise.multiply,
    "PACK": movement.pack,
    "PAD": movement.pad,
    "PADV2": movement.pad,
    "RESHAPE": movement.reshape,
    "SLICE": movement.slice_,
    "SPLIT": movement.split,
    "SPLIT_V": movement.split,
    "SQUEEZE": movement.reshape,
    "STRIDED_SLICE": movement.strided_slice,
    "SUB": elementwise.subtract,
    "TANH": elementwise.table_function(math.tanh),
    "TRANSPOSE": movement.transpose,
    "TRANSPOSE_CONV": convolution.transposed,
    "UNPACK": movement.unpack,
}
_PADDED = {"CONV_2D": convolution.convolution, "DEPTHWISE_CONV_2D": convolution.depthwise}
VALID = 1  # schema Padding


def lower(graph: Graph) -> list[Step]:
    """The steps of a graph, in its order.

    Raises:
        ModelError: an operator, its type or one of its options is not supported; names the operator, its output and
            what is supported.
    """
    folded = _foldable_pads(graph)
    steps = []
    for operator in graph.operators:
        if operator.index in {pad.index for pad in folded.values()}:
            continue
        context = Lowering(graph, operator)
        pad = folded.get(operator.index)
        if pad is not None:
            steps.append(_with_padding(context, pad))
        elif operator.name in LOWERINGS:
            steps.append(LOWERINGS[operator.name](context))
        else:
            raise context.refuse(f"not supported; supported are {', '.join(sorted(LOWERINGS))}")
    return steps


def _foldable_pads(graph: Graph) -> dict[int, Operator]:
    """Convolution -> the PAD before it, where only it reads the image, padded with zero along rows and columns."""
    readers: dict[int, list[Operator]] = {}
    for operator in graph.operators:
        for index in operator.inputs:
            readers.setdefault(index, []).append(operator)
    found = {}
    for pad in graph.operators:
        if pad.name != "PAD" or pad.outputs[0] in graph.outputs.values():
            continue
        source, sink = graph.tensors[pad.inputs[0]], graph.tensors[pad.outputs[0]]
        amounts = graph.tensors[pad.inputs[1]].data
        users = readers.get(sink.index, [])
        if amounts is None or len(users) != 1 or users[0].name not in _PADDED or len(source.shape) != 4:
            continue
        plain = not np.any(amounts[[0, 3]]) and users[0].options.get("padding") == VALID
        alike = source.quantization is not None and source.quantization.same_as(sink.quantization)
        if plain and alike and source.data is None and users[0].inputs[0] == sink.index:
            found[users[0].index] = pad
    return found


def _with_padding(context: Lowering, pad: Operator) -> Step:
    """A convolution that reads the image in front of a PAD."""
    amounts = context.graph.tensors[pad.inputs[1]].data
    assert amounts is not None
    operator = context.operator
    direct = Operator(
        operator.index, operator.name, (pad.inputs[0], *operator.inputs[1:]), operator.outputs, operator.options
    )
    assert quantization(context.graph.tensors[pad.inputs[0]])
    padding = int(amounts[1][0]), int(amounts[2][0])
    step = _PADDED[operator.name](Lowering(context.graph, direct), padding)
    return Step(
        (operator, pad), step.reads, step.writes, step.calls, step.scratch, step.in_place, step.parts, step.macs
    )
