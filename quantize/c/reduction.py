"""MEAN and SUM."""

from __future__ import annotations

import math

import numpy as np

from earshot.quantize.c.fixed import Factor, quantization, strides
from earshot.quantize.c.program import Call, Lowering, Memory, Step


def mean(context: Lowering) -> Step:
    """MEAN: the number of elements goes into the multiplier, cut off, not rounded."""
    count = _count(context)
    factor = _factor(context)
    shift = min(count.bit_length() - 1, 32, 31 + factor.shift)
    return _reduce(context, Factor((factor.multiplier << shift) // count, factor.shift - shift))


def total(context: Lowering) -> Step:
    """SUM."""
    return _reduce(context, _factor(context))


def _factor(context: Lowering) -> Factor:
    return Factor.of(quantization(context.input(0)).scale / quantization(context.output).scale)


def _axes(context: Lowering) -> set[int]:
    rank = len(context.input(0).shape)
    return {int(axis) % rank for axis in np.asarray(context.constant(1)).reshape(-1)}


def _count(context: Lowering) -> int:
    return math.prod(context.input(0).shape[axis] for axis in _axes(context))


def _reduce(context: Lowering, factor: Factor) -> Step:
    source, sink = context.input(0), context.output
    width, axes = context.width(source, sink), _axes(context)
    kept: list[tuple[int, int]] = []
    summed: list[tuple[int, int]] = []
    for axis, (size, step) in enumerate(zip(source.shape, strides(source.shape), strict=True)):
        walk = summed if axis in axes else kept
        if size == 1:
            continue
        if walk and walk[-1][1] == step * size:
            walk[-1] = (walk[-1][0] * size, step)
        else:
            walk.append((size, step))
    if max(len(kept), len(summed)) > 3:
        raise context.refuse("it walks along more than three axes")
    zero, count = quantization(source).zero_point, _count(context)
    if count * (1 << (8 if width == "s8" else 16)) >= 1 << 31:
        raise context.refuse("its sums can exceed 32 bits")
    kept, summed = ([(1, 0)] * (3 - len(walk)) + walk for walk in (kept, summed))
    sums = context.struct(
        "sums", "earshot_sums",
        {
            "extent": tuple(size for size, _ in kept), "stride": tuple(step for _, step in kept),
            "sum_extent": tuple(size for size, _ in summed), "sum_stride": tuple(step for _, step in summed),
            "bias": -zero * count, "multiplier": factor.multiplier, "shift": factor.shift,
            "zero_point": quantization(sink).zero_point,
        },
    )  # fmt: skip
    call = Call(f"earshot_sum_{width}", (sums, Memory(source.index), Memory(sink.index)))
    return Step((context.operator,), (source.index,), (sink.index,), (call,))
