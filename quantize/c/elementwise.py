"""Operators on two tensors that broadcast."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from earshot.quantize.c.fixed import Factor, activation_limits, quantization, strides
from earshot.quantize.c.functions import raised
from earshot.quantize.c.program import Argument, Call, Field, Lowering, Memory, Step, Struct
from earshot.quantize.graph import TensorInfo

_LEFT = {"s8": 20, "s16": 15}  # headroom of sums


def add(context: Lowering) -> Step:
    """ADD."""
    if context.output.dtype == "float32":
        return raised(context)
    return _sum(context, subtract=False)


def subtract(context: Lowering) -> Step:
    """SUB."""
    return _sum(context, subtract=True)


def multiply(context: Lowering) -> Step:
    """MUL; the reference multiplies the scales in single precision."""
    left, right, sink = context.input(0), context.input(1), context.output
    a, b, y = (np.float32(quantization(tensor).scale) for tensor in (left, right, sink))
    factor = Factor.of(float(a * b / y))
    binary = _binary(context, {"multiplier": factor.multiplier, "shift": factor.shift})
    return _broadcast(context, "mul", binary)


def divide(context: Lowering) -> Step:
    """DIV."""
    left, right, sink = context.input(0), context.input(1), context.output
    a, b, y = (np.float32(quantization(tensor).scale) for tensor in (left, right, sink))
    factor = Factor.of(float(a / (b * y)))
    return _broadcast(context, "div", _binary(context, {"multiplier": factor.multiplier, "shift": factor.shift}))


def squared_difference(context: Lowering) -> Step:
    """SQUARED_DIFFERENCE of int8."""
    left, right, sink = context.input(0), context.input(1), context.output
    if context.width(left, right, sink) != "s8":
        raise context.refuse("it is supported on int8 only")
    scales = [np.float32(quantization(tensor).scale) for tensor in (left, right)]
    twice = 2.0 * float(max(scales))
    a, b = (Factor.of(float(scale) / twice) for scale in scales)
    y = Factor.of(twice * twice / float(np.float32(1 << 14) * np.float32(quantization(sink).scale)))
    if y.shift > 0:
        raise context.refuse("its output's scale is too small for the scales of its inputs")
    fields = {
        "a_multiplier": a.multiplier, "a_shift": a.shift, "b_multiplier": b.multiplier, "b_shift": b.shift, "left": 7,
        "multiplier": y.multiplier, "shift": y.shift,
    }  # fmt: skip
    return _broadcast(context, "squared_difference", _binary(context, fields))


def prelu(context: Lowering) -> Step:
    """PRELU of int8."""
    source, slope, sink = context.input(0), context.input(1), context.output
    if context.width(source, slope, sink) != "s8":
        raise context.refuse("it is supported on int8 only")
    x, s, y = (np.float32(quantization(tensor).scale) for tensor in (source, slope, sink))
    above, below = Factor.of(float(x / y)), Factor.of(float(x * s / y))
    fields = {
        "a_multiplier": above.multiplier, "a_shift": above.shift, "multiplier": below.multiplier, "shift": below.shift,
    }  # fmt: skip
    return _broadcast(context, "prelu", _binary(context, fields))


def maximum(context: Lowering) -> Step:
    """MAXIMUM."""
    return _pick(context, "maximum")


def minimum(context: Lowering) -> Step:
    """MINIMUM."""
    return _pick(context, "minimum")


def _pick(context: Lowering, kernel: str) -> Step:
    """An operator that compares integers as they are: all scales must be alike."""
    sink = quantization(context.output)
    if not all(quantization(context.input(position)).same_as(sink) for position in (0, 1)):
        raise context.refuse("its tensors have different scales or zero points")
    return _broadcast(context, kernel, None)


def _sum(context: Lowering, *, subtract: bool) -> Step:
    left, right, sink = context.input(0), context.input(1), context.output
    width = context.width(left, right, sink)
    if width == "s16" and context.operator.options.get("potScaleInt16") and _powers_of_two(left, right, sink):
        raise context.refuse("all its scales are powers of two, for which the int16 kernels know another rule")
    headroom = _LEFT[width]
    twice = 2.0 * max(quantization(left).scale, quantization(right).scale)
    a, b = (Factor.of(quantization(tensor).scale / twice) for tensor in (left, right))
    y = Factor.of(twice / ((1 << headroom) * quantization(sink).scale))
    if y.shift > 0:
        raise context.refuse("its output's scale is too small for the scales of its inputs")
    fields = {
        "a_multiplier": a.multiplier, "a_shift": a.shift, "b_multiplier": b.multiplier, "b_shift": b.shift,
        "left": headroom, "subtract": int(subtract), "multiplier": y.multiplier, "shift": y.shift,
    }  # fmt: skip
    return _broadcast(context, "add", _binary(context, fields))


def _powers_of_two(*tensors: TensorInfo) -> bool:
    """As the reference decides it: within 1e-3 of an integer logarithm."""
    logs = [math.log2(quantization(tensor).scale) for tensor in tensors]
    return all(abs(value - round(value)) < 1e-3 for value in logs)


def _binary(context: Lowering, given: dict[str, int]) -> Struct:
    left, right, sink = context.input(0), context.input(1), context.output
    bounds = activation_limits(sink, context.option("fusedActivationFunction"))
    if bounds is None:
        raise context.refuse("its fused activation is none of NONE, RELU, RELU_N1_TO_1, RELU6")
    names = (
        "a_zero", "a_multiplier", "a_shift", "b_zero", "b_multiplier", "b_shift", "left", "subtract", "multiplier",
        "shift", "zero_point", "low", "high",
    )  # fmt: skip
    known = given | {
        "a_zero": quantization(left).zero_point,
        "b_zero": quantization(right).zero_point,
        "zero_point": quantization(sink).zero_point,
        "low": bounds[0],
        "high": bounds[1],
    }
    return context.struct("binary", "ear_binary", {name: known.get(name, 0) for name in names})


def _broadcast(context: Lowering, kernel: str, binary: Struct | None) -> Step:
    left, right, sink = context.input(0), context.input(1), context.output
    width = context.width(left, right, sink)
    shape = broadcast_shape(context, left.shape, right.shape, sink.shape)
    operands, reads, in_place = [], [], []
    for position, tensor in enumerate((left, right)):
        operands.append(operand(context, tensor, f"constant_{'ab'[position]}"))
        if tensor.data is None:
            reads.append(tensor.index)
            if tensor.shape == sink.shape:
                in_place.append(tensor.index)
    scales = () if binary is None else (binary,)
    call = Call(f"earshot_{kernel}_{width}", (shape, *scales, *operands, Memory(sink.index)))
    return Step((context.operator,), tuple(reads), (sink.index,), (call,), in_place=tuple(in_place))


def operand(context: Lowering, tensor: TensorInfo, kind: str) -> Argument:
    """A tensor in memory, or a constant in flash."""
    return Memory(tensor.index) if tensor.data is None else context.table(kind, tensor.data)


def broadcast_shape(context: Lowering, left: Sequence[int], right: Sequence[int], sink: Sequence[int]) -> Struct:
    """The walk over an output whose operands broadcast, with neighbouring axes joined where both walk on alike."""
    walks = []
    for shape in (left, right):
        padded = [1] * (len(sink) - len(shape)) + list(shape)
        steps = strides(padded)
        walks.append([0 if size == 1 else step for size, step in zip(padded, steps, strict=True)])
    axes: list[list[int]] = []  # [extent, a's stride, b's stride], outermost first
    for extent, a, b in zip(sink, *walks, strict=True):
        if extent == 1:
            continue
        if axes and all(axes[-1][1 + side] == step * extent for side, step in enumerate((a, b))):
            axes[-1] = [axes[-1][0] * extent, a, b]
        else:
            axes.append([extent, a, b])
    if len(axes) > 4:
        raise context.refuse("its operands broadcast along more than four axes")
    axes = [[1, 0, 0]] * (4 - len(axes)) + axes
    fields: dict[str, Field] = {
        "extent": tuple(axis[0] for axis in axes[:3]),
        "a_stride": tuple(axis[1] for axis in axes[:3]),
        "b_stride": tuple(axis[2] for axis in axes[:3]),
        "n": axes[3][0],
        "a_step": axes[3][1],
        "b_step": axes[3][2],
    }
    return context.struct("shape", "earshot_broadcast", fields)
