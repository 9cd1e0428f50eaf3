"""Operators that only move elements. Where the output lies in one piece within its input, nothing is moved at all."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from earshot.quantize.c.fixed import quantization, strides
from earshot.quantize.c.program import Call, Field, Lowering, Memory, Part, Step
from earshot.quantize.graph import TensorInfo


def reshape(context: Lowering) -> Step:
    """RESHAPE, SQUEEZE, EXPAND_DIMS: the same elements in the same order."""
    source, sink = context.input(0), context.output
    context.width(source, sink)
    return _part(context, source, 0)


def slice_(context: Lowering) -> Step:
    """SLICE."""
    source, sink = context.input(0), context.output
    begin = [int(value) for value in context.constant(1).reshape(-1)]
    return _window(context, source, begin, [1] * len(begin), sink.shape)


def strided_slice(context: Lowering) -> Step:
    """STRIDED_SLICE without ellipses and new axes."""
    source, sink = context.input(0), context.output
    if context.option("ellipsisMask") or context.option("newAxisMask"):
        raise context.refuse("ellipsis and new-axis masks are not supported")
    begins, ends, steps = (context.constant(position).reshape(-1).tolist() for position in (1, 2, 3))
    begin, extents = [], []
    for axis, size in enumerate(source.shape):
        bit, step = 1 << axis, int(steps[axis])
        if context.option("shrinkAxisMask") & bit:
            begin.append(int(begins[axis]) % size)
            extents.append(1)
            steps[axis] = 1
            continue
        first = None if context.option("beginMask") & bit else int(begins[axis])
        last = None if context.option("endMask") & bit else int(ends[axis])
        taken = range(*slice(first, last, step).indices(size))
        begin.append(taken.start)
        extents.append(len(taken))
    if math.prod(extents) != math.prod(sink.shape):
        raise context.refuse("its ranges do not give its output's shape")
    return _window(context, source, begin, [int(step) for step in steps], extents)


def transpose(context: Lowering) -> Step:
    """TRANSPOSE."""
    source, sink = context.input(0), context.output
    order = [int(axis) for axis in context.constant(1)]
    steps = strides(source.shape)
    return _copies(context, source, [(source, 0, [steps[axis] for axis in order], 0, strides(sink.shape), sink.shape)])


def reverse(context: Lowering) -> Step:
    """REVERSE_V2: the elements along some axes from the last to the first."""
    source, sink = context.input(0), context.output
    context.width(source, sink)
    _same_scale(context, source)
    axes = {int(axis) % len(source.shape) for axis in context.constant(1).reshape(-1)}
    steps = strides(source.shape)
    start = sum((source.shape[axis] - 1) * steps[axis] for axis in axes)
    walk = [-step if axis in axes else step for axis, step in enumerate(steps)]
    return _copies(context, source, [(source, start, walk, 0, strides(sink.shape), sink.shape)])


def broadcast(context: Lowering) -> Step:
    """BROADCAST_TO."""
    source, sink = context.input(0), context.output
    context.width(source, sink)
    _same_scale(context, source)
    padded = (1,) * (len(sink.shape) - len(source.shape)) + source.shape
    walk = [0 if size == 1 else step for size, step in zip(padded, strides(padded), strict=True)]
    return _copies(context, source, [(source, 0, walk, 0, strides(sink.shape), sink.shape)])


def repeat(context: Lowering) -> Step:
    """RESIZE_NEAREST_NEIGHBOR by whole numbers: every row and column again and again."""
    source, sink = context.input(0), context.output
    context.width(source, sink)
    _same_scale(context, source)
    batches, height, width, channels = source.shape
    rows, columns = sink.shape[1] // height, sink.shape[2] // width
    if sink.shape != (batches, rows * height, columns * width, channels) or context.option("alignCorners"):
        raise context.refuse("only whole multiples of rows and columns, without aligned corners, are supported")
    steps = strides(source.shape)
    extents = (batches, height, rows, width, columns, channels)
    walk = (steps[0], steps[1], 0, steps[2], 0, 1)
    return _copies(context, source, [(source, 0, walk, 0, strides(extents), extents)])


def concatenation(context: Lowering) -> Step:
    """CONCATENATION: every input has the scale of the output, as the reference wants it."""
    sink = context.output
    if context.option("fusedActivationFunction"):
        raise context.refuse("a fused activation is not supported here")
    return _join(context, context.option("axis") % len(sink.shape))


def pack(context: Lowering) -> Step:
    """PACK: inputs become the entries of a new axis."""
    return _join(context, context.option("axis") % len(context.output.shape), extent=1)


def split(context: Lowering) -> Step:
    """SPLIT and SPLIT_V: equal or given parts of one axis."""
    position = 1 if context.operator.name == "SPLIT" else 0
    axis_position = 0 if context.operator.name == "SPLIT" else 2
    source = context.input(position)
    axis = int(context.constant(axis_position).reshape(-1)[0]) % len(source.shape)
    return _divide(context, source, axis)


def unpack(context: Lowering) -> Step:
    """UNPACK: the entries of one axis."""
    source = context.input(0)
    return _divide(context, source, context.option("axis") % len(source.shape), extent=1)


def gather(context: Lowering) -> Step:
    """GATHER with constant indices along one axis."""
    source, sink = context.input(0), context.output
    if context.option("batchDims"):
        raise context.refuse("batch dimensions are not supported")
    indices = context.constant(1).reshape(-1).tolist()
    axis = context.option("axis") % len(source.shape)
    steps, size = strides(source.shape), math.prod(source.shape[axis + 1 :])
    outer = math.prod(source.shape[:axis])
    shape = (outer, size)
    blocks = [
        (
            source,
            int(index) * steps[axis],
            [source.shape[axis] * size, 1],
            place * size,
            [len(indices) * size, 1],
            shape,
        )
        for place, index in enumerate(indices)
    ]
    context.width(source, sink)
    return _copies(context, source, blocks)


def pad(context: Lowering) -> Step:
    """PAD and PADV2: zero, or a constant of the output's scale, around the input."""
    source, sink = context.input(0), context.output
    width = context.width(source, sink)
    value = quantization(sink).zero_point
    if context.optional(2) is not None:
        value = int(context.constant(2).reshape(-1)[0])
    _same_scale(context, source)
    before = context.constant(1).reshape(-1, 2)[:, 0].tolist()
    steps = strides(sink.shape)
    start = sum(int(amount) * step for amount, step in zip(before, steps, strict=True))
    fill = Call(f"earshot_fill_{width}", (value, math.prod(sink.shape), Memory(sink.index)))
    moved = _copies(context, source, [(source, 0, strides(source.shape), start, steps, source.shape)])
    return Step(moved.operators, moved.reads, moved.writes, (fill, *moved.calls))


Block = tuple[TensorInfo, int, Sequence[int], int, Sequence[int], Sequence[int]]


def _same_scale(context: Lowering, source: TensorInfo) -> None:
    if not quantization(source).same_as(quantization(context.output)):
        raise context.refuse(f"{source.name} has another scale or zero point than its output")


def _window(context: Lowering, source: TensorInfo, begin: list[int], step: list[int], extents: Sequence[int]) -> Step:
    """Every `step`-th element from `begin` on."""
    sink = context.output
    context.width(source, sink)
    _same_scale(context, source)
    steps = strides(source.shape)
    start = sum(first * stride for first, stride in zip(begin, steps, strict=True))
    walk = [stride * count for stride, count in zip(steps, step, strict=True)]
    if _in_one_piece(extents, walk):
        return _part(context, source, start)
    return _copies(context, source, [(source, start, walk, 0, strides(extents), extents)])


def _in_one_piece(extents: Sequence[int], walk: Sequence[int]) -> bool:
    """Whether a walk takes neighbouring elements in order."""
    wanted = strides(extents)
    return all(size == 1 or walk[axis] == wanted[axis] for axis, size in enumerate(extents))


def _join(context: Lowering, axis: int, extent: int | None = None) -> Step:
    """Inputs side by side along an axis; as parts of the output where that axis is outermost."""
    sink = context.output
    steps = strides(sink.shape)
    blocks, place = [], 0
    for position, index in enumerate(context.operator.inputs):
        source = context.graph.tensors[index]
        context.width(source, sink)
        _same_scale(context, source)
        if source.data is not None:
            raise context.refuse(f"input {position} ({source.name}) is a constant")
        taken = extent or source.shape[axis]
        shape = (*sink.shape[:axis], taken, *sink.shape[axis + 1 :])
        blocks.append((source, 0, strides(shape), place * steps[axis], steps, shape))
        place += taken
    parts: tuple[Part, ...] = ()
    if math.prod(sink.shape[:axis]) == 1:
        parts = tuple(Part(block[0].index, sink.index, block[3]) for block in blocks)
    step = _copies(context, None, blocks)
    return Step(step.operators, step.reads, step.writes, step.calls, parts=parts)


def _divide(context: Lowering, source: TensorInfo, axis: int, extent: int | None = None) -> Step:
    """Outputs side by side along an axis of the input; parts of it where that axis is outermost."""
    steps, place = strides(source.shape), 0
    blocks, parts, writes = [], [], []
    for index in context.operator.outputs:
        sink = context.graph.tensors[index]
        context.width(source, sink)
        taken = extent or sink.shape[axis]
        shape = (*source.shape[:axis], taken, *source.shape[axis + 1 :])
        parts.append(Part(index, source.index, place * steps[axis]))
        blocks.append((index, place * steps[axis], shape))
        writes.append(index)
        place += taken
    calls = tuple(
        _copy(context, source, Memory(source.index, start), Memory(index), steps, strides(shape), shape, f"blocks_{k}")
        for k, (index, start, shape) in enumerate(blocks)
    )
    outermost = math.prod(source.shape[:axis]) == 1
    return Step((context.operator,), (source.index,), tuple(writes), calls, parts=tuple(parts) if outermost else ())


def _part(context: Lowering, source: TensorInfo, start: int) -> Step:
    sink = context.output
    copy = _copies(context, source, [(source, start, strides(sink.shape), 0, strides(sink.shape), sink.shape)])
    return Step(copy.operators, copy.reads, copy.writes, copy.calls, parts=(Part(sink.index, source.index, start),))


def _copies(context: Lowering, source: TensorInfo | None, blocks: Sequence[Block]) -> Step:
    """A call for every (source, its start and walk, the output's start and walk, extents)."""
    sink = context.output
    calls, reads = [], []
    for number, (tensor, from_start, from_walk, to_start, to_walk, extents) in enumerate(blocks):
        kind = "blocks" if len(blocks) == 1 else f"blocks_{number}"
        memory = Memory(tensor.index, from_start), Memory(sink.index, to_start)
        calls.append(_copy(context, tensor, *memory, from_walk, to_walk, extents, kind))
        reads.append(tensor.index)
    wanted = reads if source is None else [source.index]
    return Step((context.operator,), tuple(dict.fromkeys(wanted)), (sink.index,), tuple(calls))


def _copy(
    context: Lowering,
    tensor: TensorInfo,
    source: Memory,
    sink: Memory,
    from_walk: Sequence[int],
    to_walk: Sequence[int],
    extents: Sequence[int],
    kind: str,
) -> Call:
    """One copy, with neighbouring axes joined and the contiguous inner ones copied as runs."""
    size = np.dtype(tensor.dtype).itemsize
    axes: list[list[int]] = []  # [extent, source stride, sink stride], outermost first
    for extent, a, b in zip(extents, from_walk, to_walk, strict=True):
        if extent == 1:
            continue
        if axes and axes[-1][1] == a * extent and axes[-1][2] == b * extent:
            axes[-1] = [axes[-1][0] * extent, a, b]
        else:
            axes.append([extent, a, b])
    run = size
    if axes and axes[-1][1] == axes[-1][2] == 1:
        run = axes.pop()[0] * size
    if not axes:
        return Call("memcpy", (sink, source, run))
    if len(axes) > 4:
        raise context.refuse("it walks along more than four axes")
    axes = [[1, 0, 0]] * (4 - len(axes)) + axes
    fields: dict[str, Field] = {
        "extent": tuple(axis[0] for axis in axes),
        "x_stride": tuple(axis[1] * size for axis in axes),
        "y_stride": tuple(axis[2] * size for axis in axes),
        "run": run,
    }
    return Call("earshot_copy", (context.struct(kind, "earshot_blocks", fields), sink, source))
