"""Intervals by bootstrap (Efron & Tibshirani 1993): what is drawn again is what the answer shall hold for.

Clips are drawn where other clips shall agree, rounds of a race where other rounds shall. The generator is seeded: the
same numbers give the same interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

RESAMPLES = 2000
LEVEL = 0.95
# A race may be looked at three times before it ends: with one per cent of error at each look, all of them together
# stay above 95 % (Bonferroni).
RACE_LEVEL = 0.99

Interval = tuple[float, float]


def bootstrap_mean(values: Sequence[float] | np.ndarray, level: float = LEVEL) -> Interval:
    """Percentile interval of the mean of `values`, one or more."""
    import numpy as np

    found = np.asarray(values, float)
    return _percentiles(found[_draws(len(found))].mean(1), level)


def bootstrap_median(values: Sequence[float], level: float = LEVEL) -> Interval:
    """Percentile interval of the median of `values`, one or more."""
    import numpy as np

    found = np.asarray(values, float)
    return _percentiles(np.median(found[_draws(len(found))], 1), level)


def every_pair(base: Sequence[float], candidate: Sequence[float]) -> Interval:
    """Where 95 % of the ratios of every candidate to every base lie; positive numbers.

    For repeats that were not taken side by side. Wider than the interval of a median, which would count only what
    wandered within each session, and not what changed between the two.
    """
    import numpy as np

    ratios = np.divide.outer(np.asarray(candidate, float), np.asarray(base, float))
    return _percentiles(ratios.reshape(-1), LEVEL)


def _draws(count: int) -> np.ndarray:
    import numpy as np

    return np.random.default_rng(0).integers(0, count, (RESAMPLES, count))


def _percentiles(values: Any, level: float) -> Interval:
    import numpy as np

    outside = 50 * (1 - level)
    low, high = np.percentile(values, (outside, 100 - outside))
    return float(low), float(high)
