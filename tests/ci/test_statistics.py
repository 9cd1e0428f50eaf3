"""Intervals: against SciPy, and by simulation how often they hold the truth."""

import numpy as np
import pytest
from scipy import stats

from earshot.ci.statistics import bootstrap_mean, mean_interval, student_quantile

TRIALS = 800


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 5, 7, 8, 19, 30, 119, 1000])
@pytest.mark.parametrize("level", [0.5, 0.95, 0.99])
def test_students_quantiles_are_scipys(freedom, level):
    assert student_quantile(freedom, level) == pytest.approx(stats.t.ppf((1 + level) / 2, freedom), rel=1e-9)


def holds(interval, draw, clips):
    """How often an interval of so many clips holds the true mean of the differences, which is zero."""
    chance = np.random.default_rng(clips)
    found = [interval(draw(chance, clips)) for _ in range(TRIALS)]
    return np.mean([low <= 0 <= high for low, high in found])


NORMAL = np.random.Generator.standard_normal


def skewed(chance, clips):
    return chance.exponential(1, clips) - 1


# A share of 0.95 of 800 has a standard error of 0.008.
@pytest.mark.parametrize("clips", [2, 3, 5, 8])
def test_the_interval_of_few_clips_holds_as_often_as_it_says(monkeypatch, clips):
    monkeypatch.setattr("earshot.ci.statistics.RESAMPLES", 200)  # of few clips Student's t is the wider one
    assert holds(mean_interval, NORMAL, clips) >= 0.93
    assert holds(bootstrap_mean, NORMAL, clips) < 0.92  # what was used before: the control


def test_of_skewed_differences_it_holds_less_often_and_more_often_than_the_bootstrap(monkeypatch):
    monkeypatch.setattr("earshot.ci.statistics.RESAMPLES", 200)
    few, more = holds(mean_interval, skewed, 5), holds(mean_interval, skewed, 30)
    assert 0.85 <= few <= 0.92 and more >= 0.92
    assert holds(bootstrap_mean, skewed, 5) < 0.82


def test_of_many_clips_it_is_the_interval_of_either():
    values = np.random.default_rng(3).normal(0.1, 1, 400)
    low, high = mean_interval(values)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=0.01)
    assert low <= min(expected.low, bootstrap_mean(values)[0]) + 1e-12
    assert high >= max(expected.high, bootstrap_mean(values)[1]) - 1e-12
    assert mean_interval([0.0, 0.0, 0.0]) == (0.0, 0.0)


def test_two_clips_by_hand():
    # Mean 2, standard error 1, and Student's t with one degree of freedom: tan(0.475 pi) = 12.706.
    assert mean_interval([1.0, 3.0]) == pytest.approx((2 - 12.7062, 2 + 12.7062), abs=1e-4)
