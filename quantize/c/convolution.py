"""Convolutions and fully connected layers.

Zero points leave the inner loops here: acc = bias + Σ w (x - zero) = (bias - zero Σ w) + Σ w x, where padding stands in
for x = zero. A transposed convolution of stride s is s ordinary ones, one for each phase of the output, each with every
s-th tap of the kernel in reverse; so it needs no memory for sums.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from earshot.quantize.c.fixed import Factor, activation_limits, channel_factors, channel_scales, quantization
from earshot.quantize.c.program import Argument, Call, Lowering, Memory, Step, Struct, Table
from earshot.quantize.graph import TensorInfo

SAME = 0  # schema Padding
TAPS = 64  # EARSHOT_TAPS
_INT32 = 1 << 31


def convolution(context: Lowering, padding: tuple[int, int] | None = None) -> Step:
    """CONV_2D, grouped ones included; `padding` (top, left) replaces the operator's own where a PAD was folded in."""
    source, weight = context.input(0), context.input(1)
    values = context.constant(1)
    groups = source.shape[3] // values.shape[3]
    return _windows(context, source, weight, values, groups, padding)


def depthwise(context: Lowering, padding: tuple[int, int] | None = None) -> Step:
    """DEPTHWISE_CONV_2D. With a depth multiplier it is a grouped convolution, and with one channel an ordinary one."""
    source, weight = context.input(0), context.input(1)
    values = context.constant(1)  # [1, H, W, channels * multiplier]
    channels = source.shape[3]
    if values.shape[3] != channels or channels == 1:
        return _windows(context, source, weight, values.transpose(3, 1, 2, 0), channels, padding)
    if values.shape[1] * values.shape[2] > TAPS:
        raise context.refuse(f"a depthwise kernel of {values.shape[1]} x {values.shape[2]}; at most {TAPS} taps")
    fields = _window_fields(context, source, values.shape[1:3], padding)
    width = context.width(source, context.output)
    sums = values.reshape(-1, channels)
    bias, output = _output(context, source, weight, sums.T, 2)
    padded = _padded(fields)
    room = channels * np.dtype(source.dtype).itemsize if padded else 0
    struct = context.struct("window", "earshot_window", fields | {"depth": channels, "rows": channels})
    scratch: Argument = Memory(scratch=True) if padded else 0
    weights = context.table("weights", values)
    arguments = (struct, Memory(source.index), weights, bias, output, scratch, Memory(context.output.index))
    macs = int(np.prod(context.output.shape)) * values.shape[1] * values.shape[2]
    return _step(context, source, (Call(f"earshot_depthwise_{width}", arguments),), room, macs)


def transposed(context: Lowering) -> Step:
    """TRANSPOSE_CONV."""
    source, weight, sink = context.input(2), context.input(1), context.output
    values = context.constant(1)  # [O, H, W, I]
    width = context.width(source, sink)
    depth = values.shape[3]
    steps = context.option("strideH"), context.option("strideW")
    pads = [_transposed_pad(context, sink.shape[1 + axis], values.shape[1 + axis], steps[axis]) for axis in (0, 1)]
    calls, room, macs = [], 0, 0
    for phase in range(steps[0] * steps[1]):
        offsets = divmod(phase, steps[1])
        rows, columns = (
            _Phase.of(offsets[axis], pads[axis], steps[axis], values.shape[1 + axis], sink.shape[1 + axis])
            for axis in (0, 1)
        )
        if not rows.outputs or not columns.outputs:
            continue
        part = values[:, rows.taps][:, :, columns.taps]
        fields = _fields(
            context, source,
            {
                "kernel_height": len(rows.taps), "kernel_width": len(columns.taps), "pad_top": rows.pad,
                "pad_left": columns.pad, "out_height": rows.outputs, "out_width": columns.outputs,
                "y_row": steps[0] * sink.shape[2] * sink.shape[3], "y_column": steps[1] * sink.shape[3],
            },
        )  # fmt: skip
        suffix = f"_{phase}"
        bias, output = _output(context, source, weight, part.reshape(len(part), -1), 3, suffix)
        needs = not _direct(fields, depth)
        count = len(rows.taps) * len(columns.taps) * depth
        room = max(room, count * np.dtype(source.dtype).itemsize if needs else 0)
        macs += rows.outputs * columns.outputs * count * sink.shape[0] * sink.shape[3]
        start = (rows.first * sink.shape[2] + columns.first) * sink.shape[3]
        struct = context.struct(f"window{suffix}", "earshot_window", fields | {"depth": depth, "rows": sink.shape[3]})
        weights = context.table(f"weights{suffix}", part) if part.size else 0
        patch: Argument = Memory(scratch=True) if needs and count else 0
        arguments = (struct, Memory(source.index), weights, bias, output, patch, Memory(sink.index, start))
        calls.append(Call(f"earshot_conv_{width}", arguments))
    return _step(context, source, tuple(calls), room, macs)


def dense(context: Lowering) -> Step:
    """FULLY_CONNECTED. The reference rescales these sums in double precision."""
    source, weight, sink = context.input(0), context.input(1), context.output
    values = context.constant(1)  # [rows, depth]
    width = context.width(source, sink)
    rows, depth = values.shape
    bias, output = _output(context, source, weight, values, 2, real=True)
    batches = int(np.prod(source.shape)) // depth
    weights = context.table("weights", values)
    arguments = (batches, depth, rows, Memory(source.index), weights, bias, output, Memory(sink.index))
    return _step(context, source, (Call(f"earshot_dense_{width}", arguments),), 0, batches * rows * depth)


@dataclasses.dataclass(frozen=True)
class _Phase:
    """One axis of a transposed convolution, at outputs first, first + stride, …"""

    first: int
    outputs: int
    pad: int
    taps: list[int]

    @classmethod
    def of(cls, first: int, pad: int, stride: int, kernel: int, size: int) -> _Phase:
        # Output o takes inputs i with tap o + pad - i * stride: taps `residue`, `residue` + stride, …
        residue, start = (first + pad) % stride, (first + pad) // stride
        taps = list(reversed(range(residue, kernel, stride)))
        return cls(first, max(0, -(-(size - first) // stride)), len(taps) - 1 - start, taps)


def _transposed_pad(context: Lowering, size: int, kernel: int, stride: int) -> int:
    """Padding before the first output: what an ordinary convolution from output to input would have."""
    if context.option("padding") != SAME:
        return 0
    inputs = -(-size // stride)
    return max((inputs - 1) * stride + kernel - size, 0) // 2


def _windows(
    context: Lowering,
    source: TensorInfo,
    weight: TensorInfo,
    values: np.ndarray,
    groups: int,
    padding: tuple[int, int] | None,
) -> Step:
    """Weights `[rows, H, W, depth]`, a call for every group of channels."""
    sink = context.output
    width = context.width(source, sink)
    fields = _window_fields(context, source, values.shape[1:3], padding)
    rows, depth = values.shape[0] // groups, values.shape[3]
    needs = not _direct(fields, depth)
    size = int(np.prod(values.shape[1:]))
    factors = channel_factors(source, weight, sink, len(values))
    calls = []
    for group in range(groups):
        suffix = f"_{group}" if groups > 1 else ""
        mine = slice(group * rows, (group + 1) * rows)
        part = values[mine]
        bias, output = _output(
            context, source, weight, part.reshape(rows, -1), 2, suffix, factors=factors[mine], rows=mine
        )
        struct = context.struct("window", "earshot_window", fields | {"depth": depth, "rows": rows})
        patch: Argument = Memory(scratch=True) if needs else 0
        weights = context.table(f"weights{suffix}", part)
        arguments = (
            struct, Memory(source.index, group * depth), weights, bias, output, patch, Memory(sink.index, group * rows)
        )  # fmt: skip
        calls.append(Call(f"earshot_conv_{width}", arguments))
    room = size * np.dtype(source.dtype).itemsize if needs else 0
    return _step(context, source, tuple(calls), room, int(np.prod(sink.shape[:3])) * values.size)


def _window_fields(
    context: Lowering, source: TensorInfo, kernel: tuple[int, ...], padding: tuple[int, int] | None
) -> dict[str, int]:
    sink = context.output
    strides = context.option("strideH"), context.option("strideW")
    dilations = context.option("dilationHFactor", 1), context.option("dilationWFactor", 1)
    if padding is None:
        padding = (0, 0)
        if context.option("padding") == SAME:
            top, left = (
                max((sink.shape[1 + a] - 1) * strides[a] + (kernel[a] - 1) * dilations[a] + 1 - source.shape[1 + a], 0)
                // 2
                for a in (0, 1)
            )
            padding = (top, left)
    return _fields(
        context, source,
        {
            "kernel_height": kernel[0], "kernel_width": kernel[1], "stride_height": strides[0],
            "stride_width": strides[1], "dilation_height": dilations[0], "dilation_width": dilations[1],
            "pad_top": padding[0], "pad_left": padding[1], "out_height": sink.shape[1], "out_width": sink.shape[2],
            "y_row": sink.shape[2] * sink.shape[3], "y_column": sink.shape[3],
        },
    )  # fmt: skip


def _fields(context: Lowering, source: TensorInfo, given: Mapping[str, int]) -> dict[str, int]:
    """The fields of an earshot_window, those not given at what they are for a plain image."""
    batches, height, width, channels = source.shape
    plain = {
        "batches": batches, "in_height": height, "in_width": width, "channels": channels, "depth": channels,
        "kernel_height": 1, "kernel_width": 1, "stride_height": 1, "stride_width": 1, "dilation_height": 1,
        "dilation_width": 1, "pad_top": 0, "pad_left": 0, "out_height": 1, "out_width": 1, "rows": 0,
        "y_batch": int(np.prod(context.output.shape[1:])), "y_row": 0, "y_column": 0,
        "zero": quantization(source).zero_point,
    }  # fmt: skip
    return plain | dict(given)


def _padded(fields: Mapping[str, int]) -> bool:
    """Whether any window hangs over the image."""
    for axis, before in (("height", "pad_top"), ("width", "pad_left")):
        last = (fields[f"out_{axis}"] - 1) * fields[f"stride_{axis}"] - fields[before]
        if (
            fields[before] > 0
            or last + (fields[f"kernel_{axis}"] - 1) * fields[f"dilation_{axis}"] >= fields[f"in_{axis}"]
        ):
            return True
    return False


def _direct(fields: Mapping[str, int], depth: int) -> bool:
    """Whether every window lies in one piece in the image, as kernels/conv.c decides it."""
    whole = fields["kernel_width"] == fields["in_width"] and fields["dilation_height"] == 1
    narrow = fields["kernel_height"] == 1 or whole
    return not _padded(fields) and depth == fields["channels"] and fields["dilation_width"] == 1 and narrow


def _output(
    context: Lowering,
    source: TensorInfo,
    weight: TensorInfo,
    matrix: np.ndarray,
    bias_position: int,
    suffix: str = "",
    *,
    factors: list[Factor] | None = None,
    rows: slice = slice(None),
    real: bool = False,
) -> tuple[Table, Struct]:
    """Biases with the input's zero point folded in, and how sums over `matrix` `[rows, n]` become outputs."""
    sink, given = context.output, context.optional(bias_position)
    count = len(matrix)
    wide = sink.dtype == "int16"
    if any(quantization(weight).zero_points):
        raise context.refuse("its weights have a zero point; supported are symmetric weights")
    bias = np.zeros(count, np.int64)
    if given is not None:
        bias = context.constant(bias_position).reshape(-1)[rows].astype(np.int64)  # some converters write [1, outputs]
    if wide and given is not None and given.dtype != "int64":
        raise context.refuse(f"{given.dtype} biases under int16 activations; supported are int64 biases")
    sums = matrix.astype(np.int64)
    bias = bias - quantization(source).zero_point * sums.sum(1)
    reach = np.abs(bias) + np.abs(sums).sum(1) * (-int(np.iinfo(source.dtype).min))
    if not wide and (reach >= _INT32).any():
        raise context.refuse("a sum of this layer can exceed 32 bits")
    found = factors if factors is not None else channel_factors(source, weight, sink, count)
    scale = None
    if real:
        scales = channel_scales(source, weight, sink, count)
        scale = context.table(f"scale{suffix}", np.asarray(scales, np.float64))
        if (reach >= 1 << 53).any() or (reach * scales >= _INT32).any():
            raise context.refuse("a sum of this layer exceeds what the kernel rescales")
    elif wide:
        found = [factor.wide for factor in found]
        if (reach >= 1 << 47).any() or any(factor.shift >= 8 for factor in found):
            raise context.refuse("a sum of this layer exceeds what the int16 kernel rescales")
    bounds = activation_limits(sink, context.option("fusedActivationFunction"))
    if bounds is None:
        raise context.refuse("its fused activation is none of NONE, RELU, RELU_N1_TO_1, RELU6")
    multiplier = context.table(f"multiplier{suffix}", np.asarray([factor.multiplier for factor in found], np.int32))
    shift = context.table(f"shift{suffix}", np.asarray([factor.shift for factor in found], np.int8))
    output = context.struct(
        f"output{suffix}", "ear_output",
        {
            "multiplier": multiplier, "shift": shift, "scale": scale, "zero_point": quantization(sink).zero_point,
            "low": bounds[0], "high": bounds[1],
        },
    )  # fmt: skip
    return context.table(f"bias{suffix}", bias.astype(np.int64 if wide else np.int32)), output


def _step(context: Lowering, source: TensorInfo, calls: tuple[Call, ...], room: int, macs: int) -> Step:
    return Step((context.operator,), (source.index,), (context.output.index,), calls, room, macs=macs)
