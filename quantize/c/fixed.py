"""The fixed-point numbers of TensorFlow Lite's reference kernels, as their preparation computes them.

A real factor becomes a 31-bit multiplier and a shift, `multiplier * 2^(shift - 31)`; kernels/requantize.h applies them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from earshot.core.errors import ModelError
from earshot.quantize.graph import Quantization, TensorInfo

RELU, RELU_N1_TO_1, RELU6 = 1, 2, 3  # schema ActivationFunctionType
_BOUNDS: dict[int, tuple[float, float]] = {
    0: (-math.inf, math.inf),
    RELU: (0.0, math.inf),
    RELU_N1_TO_1: (-1.0, 1.0),
    RELU6: (0.0, 6.0),
}


@dataclass(frozen=True)
class Factor:
    """A positive real factor in fixed point."""

    multiplier: int
    shift: int

    @classmethod
    def of(cls, value: float) -> Factor:
        """The nearest factor; those below 2^-32 become zero."""
        if value == 0.0:
            return cls(0, 0)
        fraction, shift = math.frexp(value)
        multiplier = to_nearest(fraction * (1 << 31))
        if multiplier == 1 << 31:
            multiplier, shift = multiplier // 2, shift + 1
        return cls(0, 0) if shift < -31 else cls(multiplier, shift)

    @property
    def wide(self) -> Factor:
        """The same for 64-bit accumulators, which take a 16-bit multiplier."""
        reduced = (self.multiplier + (1 << 15)) >> 16 if self.multiplier < 0x7FFF0000 else 0x7FFF
        return Factor(reduced, self.shift)


def to_nearest(value: float) -> int:
    """To nearest, ties away from zero, as C's round."""
    return math.floor(value + 0.5) if value >= 0 else math.ceil(value - 0.5)


def quantization(tensor: TensorInfo) -> Quantization:
    """A tensor's scale and zero point.

    Raises:
        ModelError: it has none.
    """
    if tensor.quantization is None:
        raise ModelError(f"tensor {tensor.name}: {tensor.dtype} without a scale", "convert the model with earshot")
    return tensor.quantization


def limits(tensor: TensorInfo, bounds: tuple[float, float]) -> tuple[int, int]:
    """The integers that stand for real bounds, within what the tensor's type holds."""
    holds, grid = np.iinfo(tensor.dtype), quantization(tensor)
    scale = np.float32(grid.scale)
    found = []
    for bound, edge in zip(bounds, (int(holds.min), int(holds.max)), strict=True):
        wanted = edge if math.isinf(bound) else grid.zero_point + to_nearest(float(np.float32(bound) / scale))
        found.append(min(max(wanted, int(holds.min)), int(holds.max)))
    return found[0], found[1]


def activation_limits(tensor: TensorInfo, activation: int) -> tuple[int, int] | None:
    """The integers between which a fused activation clamps; None for one that does more than clamp."""
    return limits(tensor, _BOUNDS[activation]) if activation in _BOUNDS else None


def channel_scales(source: TensorInfo, weight: TensorInfo, sink: TensorInfo, channels: int) -> np.ndarray:
    """What a sum of every output channel is multiplied by, `[channels]`: input scale x weight scale / output scale."""
    weights = np.broadcast_to(quantization(weight).scales, (channels,)).astype(np.float64)
    return quantization(source).scale * weights / quantization(sink).scale


def channel_factors(source: TensorInfo, weight: TensorInfo, sink: TensorInfo, channels: int) -> list[Factor]:
    """The same in fixed point."""
    return [Factor.of(float(scale)) for scale in channel_scales(source, weight, sink, channels)]


def high_product(a: int, b: int) -> int:
    """The upper half of twice a product of 32-bit integers, to nearest, ties up."""
    return (a * b + (1 << 30)) >> 31


def halve(value: int, times: int = 1) -> int:
    """value / 2^times, to nearest, ties away from zero."""
    rest, threshold = value & ((1 << times) - 1), (((1 << times) - 1) >> 1) + (value < 0)
    return (value >> times) + (rest > threshold)


def rescale(value: int, factor: Factor) -> int:
    """What kernels/requantize.h makes of a 32-bit sum."""
    shifted = value << max(factor.shift, 0)
    wrapped = (shifted + (1 << 31)) % (1 << 32) - (1 << 31)
    return halve(high_product(wrapped, factor.multiplier), max(-factor.shift, 0))


def strides(shape: Sequence[int]) -> list[int]:
    """Elements between neighbours on every axis."""
    found = [1] * len(shape)
    for axis in reversed(range(len(shape) - 1)):
        found[axis] = found[axis + 1] * shape[axis + 1]
    return found
