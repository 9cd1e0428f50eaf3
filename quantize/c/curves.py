"""Curves that TensorFlow Lite's reference kernels find in ways of their own, for the tables that stand in for them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from earshot.quantize.c.fixed import Factor, halve, high_product, rescale, to_nearest

_KEPT = 20  # fractional bits of the root before the last rescaling
_HALF_ROOT_OF_TWO = 1518500250  # sqrt(1/2) in Q31


def inverse_root(factor: Factor, largest: int) -> Callable[[int], int]:
    """value -> 1 / sqrt(value) times `factor`, all in integers; `largest` where value is zero or below.

    Newton's method on numbers with three integer bits: x' = x (3 - a x²) / 2, five times from 1.
    """

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


def hard_swish_of(source: float, sink: float) -> Callable[[int], int]:
    """value -> x relu6(x + 3) / 6 with 16-bit products, for int8 of these scales."""
    fine = np.float32(np.float32(1 / 128) * np.float32(source))
    out, gate = (Factor.of(float(fine / np.float32(scale))) for scale in (sink, np.float32(3.0) / np.float32(32768.0)))
    out_multiplier, gate_multiplier = out.wide.multiplier, gate.wide.multiplier

    def function(value: int) -> int:
        scaled = value * 128
        slope = scaled
        if gate.shift > 0:
            slope = _narrow(slope << (gate.shift - 1))
        slope = _product16(slope, gate_multiplier)
        if gate.shift > 0:
            slope = _narrow(slope << 1)
        elif gate.shift < 0:
            slope = halve(slope, -gate.shift)
        slope = (slope + (1 << 15)) >> 1
        product = slope * _product16(scaled, out_multiplier)
        return halve((abs(product) >> 15) * (1 if product >= 0 else -1), -out.shift)

    return function


def _product16(a: int, b: int) -> int:
    """The upper half of twice a product of 16-bit integers, to nearest."""
    return (a * b + (1 << 14)) >> 15


def _narrow(value: int) -> int:
    return min(max(value, -(1 << 15)), (1 << 15) - 1)


def line_nodes(source: float, sink: float, function: Callable[[np.float32, np.float32], np.float32]) -> np.ndarray:
    """Values of a function at every 128th int16, `[513]`, each moved to halve the error in the middle of its line.

    Args:
        source, sink: the scales.
        function: of a real number, and of the largest one the output holds; in single precision.
    """
    x, y, steps = np.float32(source), np.float32(sink), 512
    low, high = x * np.float32(-32768), x * np.float32(32767)
    step = (high - low) / np.float32(steps)
    inverse = np.float32(65536) / (y * np.float32(32767) - y * np.float32(-32768))
    largest = np.float32(32767) * y

    def rounded(value: np.float32) -> np.float32:
        return np.float32(to_nearest(float(value)))

    def at(value: np.float32) -> np.float32:
        return function(value, largest) * inverse

    found = []
    for number in range(steps):
        start = low + np.float32(number) * step
        here, there = at(start), at(low + np.float32(number + 1) * step)
        middle = rounded(at(start + step / np.float32(2)))
        error = rounded((there + rounded(here)) / np.float32(2)) - middle
        found.append(_narrow(int(rounded(here) - rounded(error / np.float32(2)))))
    return np.asarray([*found, _narrow(int(rounded(at(high))))], np.int16)
