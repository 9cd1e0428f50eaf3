"""The reciprocal square root of an int8 in fixed point, as TensorFlow Lite's reference kernel finds it.

Newton's method on numbers with three integer bits: x' = x (3 - a x²) / 2, five times from 1.
"""

from __future__ import annotations

from collections.abc import Callable

from earshot.quantize.c.fixed import Factor, halve, high_product, rescale

_KEPT = 20  # fractional bits of the root before the last rescaling
_HALF_ROOT_OF_TWO = 1518500250  # sqrt(1/2) in Q31


def inverse_root(factor: Factor, largest: int) -> Callable[[int], int]:
    """value -> 1 / sqrt(value) times `factor`, all in integers; `largest` where value is zero or below."""

    def function(value: int) -> int:
        if value <= 0:
            return largest
        root, shift = _root(value)
        data = rescale(1, Factor(root, shift + _KEPT))
        return rescale(data, Factor(factor.multiplier, factor.shift - _KEPT))

    return function


def _root(value: int) -> tuple[int, int]:
    """Multiplier and shift of 1 / sqrt(value)."""
    if value == 1:
        return (1 << 31) - 1, 0
    pairs = (32 - value.bit_length() - 1) // 2 - 1
    right = 11 - pairs
    scaled = value << (2 * pairs)
    argument = scaled >> 1
    half_argument = halve(argument)
    x = 1 << 28
    for _ in range(5):
        cube = _saturated(high_product(high_product(x, x), x) << 6)
        step = high_product((1 << 28) + (1 << 27), x) - high_product(half_argument, cube)
        x = _saturated(step << 3)
    x = high_product(x, _HALF_ROOT_OF_TWO)
    if right < 0:
        return x << -right, 0
    return x, -right


def _saturated(value: int) -> int:
    return min(max(value, -(1 << 31)), (1 << 31) - 1)
