"""Says for every operator which precision it got, and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from earshot.core.config import Config
from earshot.quantize.graph import Graph, Operator
from earshot.quantize.integer import IntegerPrecision
from earshot.quantize.raised import matching, raised
from earshot.quantize.ranges import MOVES, PRESCRIBED
from earshot.quantize.wide import coarse_operators

OperatorKind = Literal["float32", "int8", "int16x8", "index"]
_REWRITES = {
    "LEAKY_RELU": "write torch.maximum(x, slope * x)",
    "ELU": "use ReLU or hard-swish",
    "EXP": "use sigmoid, tanh or hard-swish",
    "POW": "take powers outside the graph",
    "ABS": "write torch.maximum(x, -x)",
}
_WIDE = "it computes a running mean or with one; on 8 bits its updates would round to nothing"
_COARSE = "inverse roots and logarithms on 16 bits join 512 values by straight lines, too few near zero"


class OperatorPrecision(Config):
    """One operator's line: `operator` and `output` name it, `reason` says why."""

    index: int
    operator: str
    output: str
    precision: OperatorKind
    reason: str


def precision_report(
    graph: Graph,
    precision: Literal["float32"] | IntegerPrecision,
    keep_float: Sequence[str] = (),
    keep_wide: Sequence[str] = (),
) -> tuple[OperatorPrecision, ...]:
    """The precision every operator of `graph` has, read off its tensors.

    Args:
        graph: the file as written.
        precision: what was asked for.
        keep_float, keep_wide: the patterns it was made with.
    """
    why_float = dict.fromkeys(coarse_operators(graph), _COARSE)
    why_float |= {i: f"kept by quantize.keep_float: {pattern}" for i, pattern in matching(graph, keep_float).items()}
    why_wide = {
        i: f"raised by quantize.keep_wide: {pattern}" for i, pattern in raised(graph, keep_wide).operators.items()
    }
    lines = []
    for operator in graph.operators:
        got, reason = _judge(graph, operator, precision, why_float, why_wide)
        output = graph.tensors[operator.outputs[0]].name if operator.outputs else ""
        lines.append(
            OperatorPrecision(index=operator.index, operator=operator.name, output=output, precision=got, reason=reason)
        )
    return tuple(lines)


def float_operators(report: Sequence[OperatorPrecision]) -> tuple[OperatorPrecision, ...]:
    """The operators that compute in float."""
    return tuple(line for line in report if line.precision == "float32")


def _judge(
    graph: Graph,
    operator: Operator,
    asked: Literal["float32"] | IntegerPrecision,
    why_float: dict[int, str],
    why_wide: dict[int, str],
) -> tuple[OperatorKind, str]:
    tensors = [graph.tensors[index] for index in graph.activations(operator)]
    if not tensors:
        return "index", "works on indices and shapes, not on values"
    types = {tensor.dtype for tensor in tensors}
    if asked == "float32":
        return "float32", "the float variant"
    if operator.name in ("QUANTIZE", "DEQUANTIZE"):
        return asked, f"converts between {_border(types)}"
    if "float32" in types:
        return "float32", why_float.get(operator.index, _no_integer_form(operator))
    if asked == "int8" and "int16" in types:
        return "int16x8", f"16 bits: {why_wide.get(operator.index, _WIDE)}"
    return asked, _why_integer(graph, operator, asked)


def _border(types: set[str]) -> str:
    if "float32" in types:
        return "integer and float parts"
    return "two ranges that cannot be one" if len(types) == 1 else "8 and 16 bits"


def _no_integer_form(operator: Operator) -> str:
    advice = _REWRITES.get(operator.name)
    return "the static quantizer has no integer form of it" + (f"; {advice}" if advice else "")


def _why_integer(graph: Graph, operator: Operator, asked: IntegerPrecision) -> str:
    if operator.name in MOVES:
        return "only moves values: one range on both sides"
    if operator.name in PRESCRIBED:
        return "table look-up; the kernel prescribes the output's scale"
    activations = "int8 activations with a zero point" if asked == "int8" else "int16 symmetric activations"
    constants = (graph.tensors[index] for index in operator.inputs if index >= 0)
    weighted = any(tensor.data is not None and tensor.quantization is not None for tensor in constants)
    return f"int8 weights, {activations}" if weighted else activations
