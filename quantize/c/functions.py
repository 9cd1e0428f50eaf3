"""Functions of one element. Of an int8 there are 256 values: whatever the arithmetic, it becomes a table."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from earshot.quantize.c.curves import hard_swish_of, inverse_root, line_nodes
from earshot.quantize.c.fixed import Factor, limits, quantization, rescale, to_nearest
from earshot.quantize.c.program import Argument, Call, Lowering, Memory, Step
from earshot.quantize.graph import Operator, TensorInfo

Real = Callable[[np.float32], np.float32]
_ONE = np.float32(1)
# Where the reference's table of the sigmoid is one above the nearest integer.
_ABOVE = (
    4, 8, 12, 14, 15, 16, 17, 19, 20, 21, 22, 25, 27, 28, 29, 30, 31, 33, 34, 35, 37, 39, 40, 41, 43, 44, 45,
    46, 49, 50, 54, 62, 63, 64, 66, 82, 86, 93, 100, 103, 112, 116, 135, 255,
)  # fmt: skip


def _sigmoid(value: np.float32) -> np.float32:
    return _ONE / (_ONE + np.float32(math.exp(-float(value))))


def _reciprocal_root(value: np.float32, largest: np.float32) -> np.float32:
    return _ONE / np.float32(np.sqrt(value)) if value > 0 else largest


def _logarithm(value: np.float32) -> np.float32:
    return np.float32(math.log(float(value))) if value > 0 else np.float32(-1e30)


def _rooted(value: np.float32) -> np.float32:
    return np.float32(math.sqrt(float(value))) if value >= 0 else np.float32("nan")


def _gelu(value: np.float32) -> np.float32:
    return np.float32(0.5) * value * np.float32(math.erfc(float(value * np.float32(-math.sqrt(0.5)))))


def _gelu_by_tanh(value: np.float32) -> np.float32:
    inner = value + np.float32(0.044715) * value * value * value
    return np.float32(0.5) * value * (_ONE + np.float32(math.tanh(float(np.float32(math.sqrt(2 / math.pi)) * inner))))


# Operators on float numbers, by their options.
FLOAT_FUNCTIONS: dict[str, Callable[[Mapping[str, Any]], Real]] = {
    "ABS": lambda _: np.abs,
    "EXP": lambda _: lambda value: np.float32(math.exp(min(float(value), 88.0))),
    "LEAKY_RELU": lambda options: lambda value: value if value > 0 else value * np.float32(options["alpha"]),
    "LOG": lambda _: _logarithm,
    "LOGISTIC": lambda _: _sigmoid,
    "NEG": lambda _: lambda value: -value,
    "RELU": lambda _: lambda value: max(value, np.float32(0)),
    "RELU6": lambda _: lambda value: min(max(value, np.float32(0)), np.float32(6)),
    "RELU_N1_TO_1": lambda _: lambda value: min(max(value, -_ONE), _ONE),
    "RSQRT": lambda _: lambda value: _ONE / _rooted(value) if value > 0 else np.float32("inf"),
    "SQRT": lambda _: _rooted,
    "SQUARE": lambda _: lambda value: value * value,
    "TANH": lambda _: lambda value: np.float32(math.tanh(float(value))),
}
_BOUNDS = {"RELU": (0.0, math.inf), "RELU6": (0.0, 6.0), "RELU_N1_TO_1": (-1.0, 1.0)}


_HALVES = {
    ("int16", "int16"): "earshot_halves_s16",
    ("int16", "int8"): "earshot_halves_s16_s8",
    ("int8", "int16"): "earshot_halves_s8_s16",
}


def logistic(context: Lowering) -> Step:
    """LOGISTIC."""
    return _curve(context, _sigmoid, "logistic", exact=(0,))


def tanh(context: Lowering) -> Step:
    """TANH."""
    return _curve(context, FLOAT_FUNCTIONS["TANH"]({}), "tanh", exact=(0, 1))


def relu(context: Lowering) -> Step:
    """RELU, RELU6 and RELU_N1_TO_1."""
    source, sink = context.input(0), context.output
    bounds = _BOUNDS[context.operator.name]
    if source.dtype == "float32":
        return _slopes(context, 1.0, bounds)
    low, high = limits(sink, bounds)
    factor = _ratio(source, sink)
    return _halves(context, factor, factor, (low, high))


def leaky_relu(context: Lowering) -> Step:
    """LEAKY_RELU."""
    source, sink = context.input(0), context.output
    alpha = float(context.operator.options["alpha"])
    if source.dtype == "float32":
        return _slopes(context, alpha, (-math.inf, math.inf))
    if alpha < 0:
        raise context.refuse("a negative slope is not supported")
    a, x, y = np.float32(alpha), np.float32(quantization(source).scale), np.float32(quantization(sink).scale)
    return _halves(context, _ratio(source, sink), Factor.of(float(x * a / y)), _range(sink))


def quantize(context: Lowering) -> Step:
    """QUANTIZE: from float, or from one scale to another."""
    source, sink = context.input(0), context.output
    if source.dtype == "float32":
        return _converted(context, "quantize", sink)
    factor = Factor.of(quantization(source).scale / quantization(sink).scale)
    return _halves(context, factor, factor, _range(sink))


def dequantize(context: Lowering) -> Step:
    """DEQUANTIZE."""
    return _converted(context, "dequantize", context.input(0))


def magnitude(context: Lowering) -> Step:
    """ABS."""
    source, sink = context.input(0), context.output
    if source.dtype == "float32":
        return _mapped(context, "earshot_magnitude_f32")
    factor = _ratio(source, sink)
    return _tabled(context, lambda value: rescale(abs(value), factor))


def gelu(context: Lowering) -> Step:
    """GELU of int8."""
    source, sink = context.input(0), context.output
    if context.width(source, sink) != "s8":
        raise context.refuse("it is supported on int8 only")
    function = _gelu_by_tanh if context.operator.options.get("approximate") else _gelu
    return _one_to_one(context, source, _lookup(context, source, function_values(source, sink, function)))


def hard_swish(context: Lowering) -> Step:
    """HARD_SWISH of int8."""
    source, sink = context.input(0), context.output
    return _tabled(context, hard_swish_of(quantization(source).scale, quantization(sink).scale))


def reciprocal_root(context: Lowering) -> Step:
    """RSQRT."""
    source, sink = context.input(0), context.output
    if source.dtype == "float32":
        return _mapped(context, "earshot_inverse_root_f32")
    if source.dtype == "int16":
        nodes = line_nodes(quantization(source).scale, quantization(sink).scale, _reciprocal_root)
        arguments = (context.table("table", nodes), math.prod(sink.shape), Memory(source.index), Memory(sink.index))
        context.width(source, sink)
        return _one_to_one(context, source, Call("earshot_lines_s16", arguments))
    scale = 1.0 / (float(np.sqrt(np.float32(quantization(source).scale))) * quantization(sink).scale)
    return _tabled(context, inverse_root(Factor.of(scale), 127 - quantization(sink).zero_point))


def logarithm(context: Lowering) -> Step:
    """LOG of int8; of what is not positive it is the least number."""
    source, sink = context.input(0), context.output
    if context.width(source, sink) != "s8":
        raise context.refuse("it is supported on int8 only")
    return _one_to_one(context, source, _lookup(context, source, function_values(source, sink, _logarithm)))


def raised(context: Lowering) -> Step:
    """ADD of a float tensor and one constant number."""
    numbers = [tensor for position in (0, 1) if (tensor := context.input(position)).data is not None]
    if len(numbers) != 1 or numbers[0].size != 1 or context.option("fusedActivationFunction"):
        raise context.refuse("in float, only the sum of a tensor and one number is supported")
    (source,) = (context.input(position) for position in (0, 1) if context.input(position).data is None)
    arguments = (float(numbers[0].real().item()), source.size, Memory(source.index), Memory(context.output.index))
    return _one_to_one(context, source, Call("earshot_raise_f32", arguments))


def folded(context: Lowering, chain: Sequence[Operator]) -> Step:
    """DEQUANTIZE, functions of one float, QUANTIZE, on int8: one table.

    Args:
        context: of the QUANTIZE.
        chain: all of them, in order.
    """
    source, sink = context.graph.tensors[chain[0].inputs[0]], context.output
    functions = [FLOAT_FUNCTIONS[operator.name](operator.options) for operator in chain[1:-1]]
    grid, wanted = quantization(source), quantization(sink)
    found = []
    with np.errstate(all="ignore"):
        for integer in range(-128, 128):
            value = np.float32(integer - grid.zero_point) * np.float32(grid.scale)
            for function in functions:
                value = function(value)
            # A logarithm of zero and its like are undefined in integers: the end of the range stands for them.
            steps = np.nan_to_num(value / np.float32(wanted.scale), posinf=1e9, neginf=-1e9)
            found.append(_clamped(to_nearest(float(steps)) + wanted.zero_point))
    call = _lookup(context, source, found)
    return Step(tuple(reversed(chain)), (source.index,), (sink.index,), (call,), in_place=(source.index,))


def _clamped(value: int) -> int:
    return min(max(value, -128), 127)


def _range(sink: TensorInfo) -> tuple[int, int]:
    return limits(sink, (-math.inf, math.inf))


def _ratio(source: TensorInfo, sink: TensorInfo) -> Factor:
    """Input scale / output scale, divided in single precision."""
    return Factor.of(float(np.float32(quantization(source).scale) / np.float32(quantization(sink).scale)))


def _lookup(context: Lowering, source: TensorInfo, values: Sequence[int]) -> Call:
    sink = context.output
    table = context.table("table", np.asarray(values, np.int8))
    return Call("earshot_table_s8", (table, math.prod(sink.shape), Memory(source.index), Memory(sink.index)))


def _tabled(context: Lowering, function: Callable[[int], int]) -> Step:
    """A function of integers above the input's zero point to integers above the output's, on int8."""
    source, sink = context.input(0), context.output
    if context.width(source, sink) != "s8":
        raise context.refuse("it is supported on int8 only")
    zero, offset = quantization(source).zero_point, quantization(sink).zero_point
    values = [_clamped(function(value - zero) + offset) for value in range(-128, 128)]
    return _one_to_one(context, source, _lookup(context, source, values))


def _halves(context: Lowering, above: Factor, below: Factor, bounds: tuple[int, int]) -> Step:
    """One factor from zero on, another below."""
    source, sink = context.input(0), context.output
    zero, offset = quantization(source).zero_point, quantization(sink).zero_point
    if (source.dtype, sink.dtype) == ("int8", "int8"):
        values = []
        for integer in range(-128, 128):
            value = integer - zero
            values.append(min(max(rescale(value, above if value >= 0 else below) + offset, bounds[0]), bounds[1]))
        return _one_to_one(context, source, _lookup(context, source, values))
    kernel = _HALVES.get((source.dtype, sink.dtype))
    if kernel is None:
        raise context.refuse(f"from {source.dtype} to {sink.dtype} is not supported")
    halves = context.struct(
        "halves", "earshot_halves",
        {
            "multiplier": above.multiplier, "shift": above.shift, "below_multiplier": below.multiplier,
            "below_shift": below.shift, "low": bounds[0], "high": bounds[1], "x_zero": zero, "zero_point": offset,
        },
    )  # fmt: skip
    arguments = (halves, math.prod(sink.shape), Memory(source.index), Memory(sink.index))
    return _one_to_one(context, source, Call(kernel, arguments))


def _curve(context: Lowering, function: Real, kernel: str, exact: tuple[int, ...]) -> Step:
    """A sigmoid-like function: a table on int8, a table with lines between its nodes on int16.

    Args:
        exact: left shifts that the reference takes from an input scale near a power of two.
    """
    source, sink = context.input(0), context.output
    if context.width(source, sink) == "s8":
        return _one_to_one(context, source, _lookup(context, source, function_values(source, sink, function)))
    scale = quantization(source).scale
    logarithm = math.log2(scale)
    left = 12 + round(logarithm)
    if abs(logarithm - round(logarithm)) < 1e-3 and left in exact:
        multiplier, shift = 3 << left, 0
    else:
        factor, shift = scale * 4096.0 * 3.0, 0
        while factor <= 32767.0 / 2.0 and shift <= 30:
            factor, shift = factor * 2.0, shift + 1
        multiplier = int(factor)
        if multiplier > 0x7FFF:
            raise context.refuse("its input's scale is too large for the int16 kernel")
    nodes = [round(65536.0 / (1.0 + math.exp(-node / 24.0))) + (node in _ABOVE) for node in range(256)]
    table = context.table("table", np.asarray(nodes, np.uint16))
    arguments = (table, multiplier, shift, math.prod(sink.shape), Memory(source.index), Memory(sink.index))
    return _one_to_one(context, source, Call(f"earshot_{kernel}_s16", arguments))


def function_values(source: TensorInfo, sink: TensorInfo, function: Real) -> list[int]:
    """A function's value at every int8, in single precision, times the inverse of the output's scale."""
    grid, wanted = quantization(source), quantization(sink)
    inverse = _ONE / np.float32(wanted.scale)
    found = []
    for integer in range(-128, 128):
        real = np.float32(integer - grid.zero_point) * np.float32(grid.scale)
        found.append(_clamped(to_nearest(float(function(real) * inverse)) + wanted.zero_point))
    return found


def _converted(context: Lowering, kernel: str, integers: TensorInfo) -> Step:
    source, sink = context.input(0), context.output
    width = context.width(integers)
    grid = quantization(integers)
    arguments = (
        float(grid.scale), grid.zero_point, math.prod(sink.shape), Memory(source.index), Memory(sink.index)
    )  # fmt: skip
    call = Call(f"earshot_{kernel}_{width}", arguments)
    return Step((context.operator,), (source.index,), (sink.index,), (call,))


def _slopes(context: Lowering, slope: float, bounds: tuple[float, float]) -> Step:
    largest = float(np.finfo(np.float32).max)
    low, high = (max(min(bound, largest), -largest) for bound in bounds)
    return _mapped(context, "earshot_slopes_f32", slope, low, high)


def _mapped(context: Lowering, kernel: str, *parameters: Argument) -> Step:
    source, sink = context.input(0), context.output
    arguments = (*parameters, math.prod(sink.shape), Memory(source.index), Memory(sink.index))
    return _one_to_one(context, source, Call(kernel, arguments))


def _one_to_one(context: Lowering, source: TensorInfo, call: Call) -> Step:
    """A step whose output may take over its input's memory."""
    return Step((context.operator,), (source.index,), (context.output.index,), (call,), in_place=(source.index,))
