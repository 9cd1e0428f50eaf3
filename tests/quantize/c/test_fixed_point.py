"""Fixed-point arithmetic: the generator's and the kernels' against exact fractions."""

from __future__ import annotations

import math
import subprocess
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import earshot.quantize.c
from earshot.quantize.c.fixed import Factor, activation_limits, limits, rescale
from earshot.quantize.graph import Quantization, TensorInfo

from .harness import NATIVE, STRICT

KERNELS = Path(earshot.quantize.c.__file__).with_name("kernels")
reals = st.floats(2.0**-30, 2.0**10)


def exact(factor: Factor) -> Fraction:
    return Fraction(factor.multiplier) * Fraction(2) ** (factor.shift - 31)


@given(reals)
def test_a_factor_is_within_half_a_unit_of_its_31_bits(value):
    factor = Factor.of(value)
    assert 1 << 30 <= factor.multiplier < 1 << 31
    assert abs(exact(factor) - Fraction(value)) <= Fraction(2) ** (factor.shift - 32)


def test_factors_known_by_hand():
    assert Factor.of(1.0) == Factor(1 << 30, 1)
    assert Factor.of(0.75) == Factor(3 << 29, 0)
    assert Factor.of(0.0) == Factor.of(2.0**-40) == Factor(0, 0)
    assert Factor.of(math.nextafter(1.0, 0.0)) == Factor(1 << 30, 1), "rounds up to the next power of two"
    assert Factor(0x7FFFFFFF, -3).wide == Factor(0x7FFF, -3), "saturates"


@given(st.integers(-(2**20), 2**20), reals.filter(lambda value: value < 256))
def test_rescaling_is_within_two_roundings_of_the_exact_product(value, real):
    factor = Factor.of(real)
    error = abs(rescale(value, factor) - value * exact(factor))
    assert error <= Fraction(1, 2) + Fraction(2) ** (min(factor.shift, 0) - 1)


def test_rescaling_rounds_twice():
    """Up at a tie of the product, away from zero at a tie of the shift: a quarter of 1 is a half, is 1."""
    quarter = Factor.of(0.25)
    assert [rescale(value, quarter) for value in (2, -2, 6, -6, 1, -1, 3, -3)] == [1, -1, 2, -2, 1, 0, 1, -1]
    assert [rescale(value, Factor(1 << 30, 0)) for value in (1, -1, 3, -3)] == [1, 0, 2, -1]


def test_bounds_are_clipped_to_the_type():
    tensor = TensorInfo(0, "x", (1,), "int8", Quantization(np.float32([0.05]), np.int64([-28])))
    assert limits(tensor, (-math.inf, math.inf)) == (-128, 127)
    assert activation_limits(tensor, 1) == (-28, 127)
    assert activation_limits(tensor, 3) == (-28, 92)
    assert activation_limits(tensor, 2) == (-48, -8)
    assert activation_limits(tensor, 4) is None, "a fused tanh is no clamp"


PROGRAM = """
#include <stdio.h>
#include "requantize.h"
int main(void) {
    int which;
    long long acc;
    int multiplier, shift;
    double scale;
    while (scanf("%d %lld %d %d %la", &which, &acc, &multiplier, &shift, &scale) == 5) {
        printf("%d\\n", which == 0 ? ear_rescale((int32_t)acc, multiplier, shift)
                      : which == 1 ? ear_rescale_wide(acc, multiplier, shift)
                                   : ear_rescale_real(acc, multiplier, shift, scale));
    }
    return 0;
}
"""


@pytest.fixture(scope="module")
def rescaler(tmp_path_factory):
    """Runs the kernels' own rescaling on rows (which, acc, multiplier, shift, scale)."""
    NATIVE.require()
    folder = tmp_path_factory.mktemp("rescale")
    (folder / "main.c").write_text(PROGRAM)
    command = ["gcc", *STRICT, *NATIVE.flags, f"-I{KERNELS}", "main.c", str(KERNELS / "requantize.c"), "-o", "rescale"]
    subprocess.run(command, cwd=folder, check=True)

    def run(rows):
        text = "\n".join(f"{a} {b} {c} {d} {float(e).hex()}" for a, b, c, d, e in rows)
        done = subprocess.run([folder / "rescale"], input=text, capture_output=True, text=True, check=True)
        return [int(line) for line in done.stdout.split()]

    return run


def test_the_kernels_rescale_as_the_generator_does(rescaler):
    draw = np.random.default_rng(0)
    rows = []
    for _ in range(3000):
        factor = Factor.of(float(2.0 ** draw.uniform(-31, 4)))
        largest = 2 ** int(draw.integers(1, 31 - max(factor.shift, 0)))
        rows.append((0, int(draw.integers(-largest, largest)), factor.multiplier, factor.shift, 0.0))
    wanted = [rescale(row[1], Factor(row[2], row[3])) for row in rows]
    assert rescaler(rows) == wanted
    assert rescaler([(0, 1, rows[0][2], rows[0][3], 0.0)]) == [rescale(1, Factor(*rows[0][2:4]))]


def test_wide_sums_are_rounded_once(rescaler):
    draw = np.random.default_rng(1)
    rows = []
    for _ in range(2000):
        factor = Factor.of(float(2.0 ** draw.uniform(-31, 6))).wide
        largest = 2 ** int(draw.integers(1, min(46, 31 - factor.shift + 1)))
        rows.append((1, int(draw.integers(-largest, largest)), factor.multiplier, factor.shift, 0.0))
    wanted = [math.floor(acc * Fraction(m) * Fraction(2) ** (s - 15) + Fraction(1, 2)) for _, acc, m, s, _ in rows]
    assert rescaler(rows) == wanted


def away(value: float) -> int:
    """A double to nearest, ties away from zero."""
    whole = math.trunc(value)
    part = value - whole
    return whole + (part >= 0.5) - (part <= -0.5)


def test_real_scales_give_the_double_product_even_at_ties(rescaler):
    draw = np.random.default_rng(2)
    rows, ties = [], 0
    for number in range(4000):
        scale = float(2.0 ** draw.uniform(-20, 0))
        if number % 2:  # as near to a tie as a sum of 31 bits comes
            scale = float(Fraction(2 * int(draw.integers(0, 300)) + 1, 2 * int(draw.integers(1, 2**22))))
        if scale >= 1:
            continue
        factor = Factor.of(scale)
        near = round((int(draw.integers(-200, 200)) + 0.5) / scale)
        acc = max(min(near, 2**31), -(2**31))
        if number % 7 == 0:  # sums of int16 beyond 32 bits
            scale = scale * 2.0**-12
            acc = round((int(draw.integers(-(2**15), 2**15)) + 0.5) / scale)
            factor = Factor.of(scale)
        ties += abs(abs(acc * scale) % 1 - 0.5) < abs(acc) * 2.0**-31
        rows.append((2, acc, factor.multiplier, factor.shift, scale))
    assert rescaler(rows) == [away(acc * scale) for _, acc, _, _, scale in rows]
    assert ties > 100, "the double never had to decide"
