"""Scales of charts: where a value lies, and the round numbers beside the axis."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

LEAST_SPAN = 0.04  # of the largest value


@dataclass(frozen=True)
class Axis:
    """A scale from `low` to `high`, linear or logarithmic, drawn from 0 to 1.

    Attributes:
        title: what is measured, with its unit.
        low, high: ends, `low < high`; positive when logarithmic.
        log: equal steps are equal factors.
    """

    title: str
    low: float
    high: float
    log: bool = False

    def place(self, value: float) -> float:
        """Where a value lies between the ends, 0 to 1; values outside lie at the nearer end."""
        if self.log:
            share = (math.log10(max(value, self.low)) - math.log10(self.low)) / math.log10(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return min(1.0, max(0.0, share))

    def labels(self) -> list[tuple[float, str]]:
        """The round numbers and how each is written, so that no two look alike."""
        ticks = self.ticks()
        if self.log or len(ticks) < 2 or max(map(abs, ticks)) >= 1000:
            return [(tick, short(tick)) for tick in ticks]
        digits = max(0, math.ceil(-math.log10(ticks[1] - ticks[0]) - 1e-9))
        return [(tick, f"{tick + 0.0:.{digits}f}") for tick in ticks]

    def ticks(self) -> list[float]:
        """At most seven round numbers on the axis."""
        if not self.log:
            step = _round_step((self.high - self.low) / 5)
            first = math.ceil(self.low / step - 1e-9)
            return [index * step for index in range(first, math.floor(self.high / step + 1e-9) + 1)]
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        for factors in ((1, 2, 5), (1,)):
            found = [factor * 10.0**decade for decade in decades for factor in factors]
            inside = [tick for tick in found if self.low * 0.999 <= tick <= self.high * 1.001]
            if len(inside) <= 7:
                return inside
        return inside[:: math.ceil(len(inside) / 7)]


def linear(title: str, values: Iterable[float], zero: bool = True) -> Axis:
    """A linear axis with room for all values, from zero unless told otherwise."""
    found = list(values)
    low, high = (min(found, default=0.0), max(found, default=1.0))
    if zero:
        low, high = min(0.0, low), max(0.0, high)
    least = LEAST_SPAN * max(abs(low), abs(high)) or 1.0
    if high - low < least:  # what differs by next to nothing shall not look far apart
        low, high = (low + high - least) / 2, (low + high + least) / 2
    room = (high - low) * 0.08
    return Axis(title, low - room * (low != 0), high + room)


def logarithmic(title: str, values: Iterable[float]) -> Axis:
    """A logarithmic axis over at least one decade; values that are not positive are left to its low end."""
    found = [value for value in values if value > 0] or [1.0]
    low, high = min(found) / 1.3, max(found) * 1.3
    if high / low < 10:
        middle = math.sqrt(low * high)
        low, high = middle / math.sqrt(10), middle * math.sqrt(10)
    return Axis(title, low, high, log=True)


def short(value: float) -> str:
    """A number in three digits, as it fits beside an axis: `0.02`, `150`, `57.3k`, `1.2M`."""
    for factor, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor * 0.9995:
            return f"{value / factor:.3g}{letter}"
    return f"{value:.3g}"


def _round_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough)) if rough > 0 else 1.0
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
