"""Says for every operator which precision it got, and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from earshot.core.config import Config
from earshot.quantize.graph import Graph, Operator
from earshot.quantize.integer import IntegerPrecision, kept_float
from earshot.quantize.ranges import MOVES, PRESCRIBED

OperatorKind = Literal["float32", "int8", "int16x8", "index"]
_REWRITES = {
    "LEAKY_RELU": "write torch.maximum(x, slope * x)",
    "ELU": "use ReLU or hard-swish",
    "EXP": "use sigmoid, tanh or hard-swish",
    "LOG": "take logarithms outside the graph",
    "POW": "take powers outside the graph",
    "ABS": "write torch.maximum(x, -x)",
}


class OperatorPrecision(Config):
    """One operator's line: `operator` and `output` name it, `reason` says why."""

    index: int
    operator: str
    output: str
    precision: OperatorKind
    reason: str


def precision_report(
    graph: Graph, precision: Literal["float32"] | IntegerPrecision, keep_float: Sequence[str] = ()
) -> tuple[OperatorPrecision, ...]:
    """The precision every operator of `graph` has, read off its tensors.

    Args:
        graph: the file as written.
        precision: what was asked for.
        keep_float: the patterns it was made with.
    """
    kept = kept_float(graph, keep_float)
    lines = []
    for operator in graph.operators:
        got, reason = _judge(graph, operator, precision, kept)
        output = graph.tensors[operator.outputs[0]].name if operator.outputs else ""
        lines.append(
            OperatorPrecision(
                index=operator.index, operator=operator.name, output=output, precision=got, reason=reason
            )
        )
    return tuple(lines)


def float_operators(report: Sequence[OperatorPrecision]) -> tuple[OperatorPrecision, ...]:
    """The operators that compute in float."""
    return tuple(line for line in report if line.precision == "float32")


def _judge(
    graph: Graph, operator: Operator, asked: Literal["float32"] | IntegerPrecision, kept: dict[int, str]
) -> tuple[OperatorKind, str]:
    tensors = [graph.tensors[index] for index in graph.activations(operator)]
    if not tensors:
        return "index", "works on indices and shapes, not on values"
    if asked == "float32":
        return "float32", "the float variant"
    floating = [tensor for tensor in tensors if tensor.dtype == "float32"]
    if operator.name in ("QUANTIZE", "DEQUANTIZE"):
        if floating:
            return asked, "converts between the integer part and a float operator"
        return asked, "rescales between two ranges that cannot be one"
    if floating:
        if operator.index in kept:
            return "float32", f"kept by quantize.keep_float: {kept[operator.index]}"
        advice = _REWRITES.get(operator.name)
        return "float32", "the static quantizer has no integer form of it" + (f"; {advice}" if advice else "")
    if operator.name in MOVES:
        return asked, "only moves values: one range on both sides"
    if operator.name in PRESCRIBED:
        return asked, "table look-up; the kernel prescribes the output's scale"
    activation = "int8 activations with a zero point" if asked == "int8" else "int16 symmetric activations"
    if any(index >= 0 and graph.tensors[index].quantization and graph.tensors[index].data is not None
           for index in operator.inputs):
        return asked, f"int8 weights, {activation}"
    return asked, activation
