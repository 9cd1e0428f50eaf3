"""From a graph to steps: every operator by the function that knows it, with what can be folded folded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from earshot.quantize.c import convolution, elementwise, functions, movement, reduction
from earshot.quantize.c.fixed import quantization
from earshot.quantize.c.program import Lowering, Step
from earshot.quantize.graph import Graph, Operator

LOWERINGS: dict[str, Callable[[Lowering], Step]] = {
    "ABS": functions.magnitude,
    "ADD": elementwise.add,
    "BROADCAST_TO": movement.broadcast,
    "CONCATENATION": movement.concatenation,
    "CONV_2D": convolution.convolution,
    "DEPTHWISE_CONV_2D": convolution.depthwise,
    "DEQUANTIZE": functions.dequantize,
    "DIV": elementwise.divide,
    "EXPAND_DIMS": movement.reshape,
    "FULLY_CONNECTED": convolution.dense,
    "GATHER": movement.gather,
    "GELU": functions.gelu,
    "HARD_SWISH": functions.hard_swish,
    "LEAKY_RELU": functions.leaky_relu,
    "LOG": functions.logarithm,
    "LOGISTIC": functions.logistic,
    "MAXIMUM": elementwise.maximum,
    "MEAN": reduction.mean,
    "MINIMUM": elementwise.minimum,
    "MUL": elementwise.multiply,
    "PACK": movement.pack,
    "PAD": movement.pad,
    "PADV2": movement.pad,
    "PRELU": elementwise.prelu,
    "QUANTIZE": functions.quantize,
    "RELU": functions.relu,
    "RELU6": functions.relu,
    "RELU_N1_TO_1": functions.relu,
    "RESHAPE": movement.reshape,
    "RESIZE_NEAREST_NEIGHBOR": movement.repeat,
    "REVERSE_V2": movement.reverse,
    "RSQRT": functions.reciprocal_root,
    "SLICE": movement.slice_,
    "SPLIT": movement.split,
    "SPLIT_V": movement.split,
    "SQUARED_DIFFERENCE": elementwise.squared_difference,
    "SQUEEZE": movement.reshape,
    "STRIDED_SLICE": movement.strided_slice,
    "SUB": elementwise.subtract,
    "SUM": reduction.total,
    "TANH": functions.tanh,
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
    readers = _readers(graph)
    pads, chains = _foldable_pads(graph, readers), _foldable_chains(graph, readers)
    inner = {pad.index for pad in pads.values()} | {op.index for chain in chains.values() for op in chain[:-1]}
    steps = []
    for operator in graph.operators:
        context = Lowering(graph, operator)
        if operator.index in inner:
            continue
        if operator.index in pads:
            steps.append(_with_padding(context, pads[operator.index]))
        elif operator.index in chains:
            steps.append(functions.folded(context, chains[operator.index]))
        elif operator.name in LOWERINGS:
            steps.append(LOWERINGS[operator.name](context))
        else:
            raise context.refuse(f"not supported; supported are {', '.join(sorted(LOWERINGS))}")
    return steps


def _readers(graph: Graph) -> dict[int, list[Operator]]:
    """Tensor -> operators that read it."""
    found: dict[int, list[Operator]] = {}
    for operator in graph.operators:
        for index in operator.inputs:
            found.setdefault(index, []).append(operator)
    return found


def _foldable_chains(graph: Graph, readers: Mapping[int, Sequence[Operator]]) -> dict[int, tuple[Operator, ...]]:
    """QUANTIZE -> the way there from a DEQUANTIZE over functions of one element, where nothing else looks at it."""
    found = {}
    for first in graph.operators:
        if first.name != "DEQUANTIZE" or graph.tensors[first.inputs[0]].dtype != "int8":
            continue
        chain = [first]
        while True:
            users = readers.get(chain[-1].outputs[0], [])
            if len(users) != 1 or chain[-1].outputs[0] in graph.outputs.values():
                break
            chain.append(users[0])
            if users[0].name == "QUANTIZE":
                if graph.tensors[users[0].outputs[0]].dtype == "int8":
                    found[users[0].index] = tuple(chain)
                break
            if users[0].name not in functions.FLOAT_FUNCTIONS:
                break
    return found


def _foldable_pads(graph: Graph, readers: Mapping[int, Sequence[Operator]]) -> dict[int, Operator]:
    """Convolution -> the PAD before it, where only it reads the image, padded with zero along rows and columns."""
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
