"""Differences between two runs: what is refused, what is exact, and whether intervals hold what they promise."""

import math
import random
from dataclasses import replace

import numpy as np
import pytest
from sample_runs import BOARD, HOST, INT8, QUIET, clips, make, race
from scipy import stats

from earshot.ci.difference import Pair, race_difference
from earshot.ci.statistics import bootstrap_mean, bootstrap_median, every_pair


def one(base, candidate, metric, races=()):
    pair = Pair(base, candidate, tuple(races))
    (found,) = [found for found in pair.differences() if found.metric == metric]
    return found


def test_clips_are_paired_and_their_interval_is_that_of_the_mean_difference():
    base, candidate = clips(), clips(shift=-0.05, spread=0.1)
    found = one(make("base", base), make("candidate", candidate), "pesq_wb")
    losses = np.array(base) - np.array(candidate)
    assert found.loss == pytest.approx(losses.mean())
    assert (found.base, found.value) == (pytest.approx(np.mean(base)), pytest.approx(np.mean(candidate)))
    # scipy's own bootstrap of the same differences, other draws: the bounds agree to a tenth of the interval's width.
    theirs = stats.bootstrap((losses,), np.mean, method="percentile", random_state=1).confidence_interval
    width = theirs.high - theirs.low
    assert found.bounds == pytest.approx((theirs.low, theirs.high), abs=0.1 * width)
    assert (found.method, found.n, found.outcome) == ("paired", 120, "worse")
    # Unpaired, the spread between clips (0.29) would hide it.
    assert width < 0.5 * 2 * 1.96 * np.std(base) * math.sqrt(2 / 120)


def test_the_same_scores_differ_by_nothing_and_small_noise_decides_nothing():
    assert one(make(), make(), "pesq_wb").outcome == "same"
    assert one(make(), make(pesq=clips(shift=0.001, spread=0.1, seed=4)), "pesq_wb").outcome == "not decidable"
    assert one(make(), make(pesq=clips(shift=0.05, spread=0.1)), "pesq_wb").outcome == "better"


def test_the_clips_that_lost_most_are_named():
    candidate = clips()
    candidate[7] -= 0.5
    candidate[3] -= 0.2
    candidate[9] += 0.9
    assert [(clip, round(loss, 6)) for clip, loss in one(make(), make(pesq=candidate), "pesq_wb").worst] == [
        ("clip007", 0.5), ("clip003", 0.2),
    ]  # fmt: skip


def test_clips_pair_by_name_and_those_unscored_on_one_side_are_left_out():
    candidate = [None, *clips()[1:]]
    found = one(make(), make(pesq=candidate), "pesq_wb")
    assert (found.n, found.loss) == (119, 0.0)
    shuffled = make()
    scores = shuffled.scores[INT8]
    turned = {"clips": scores.clips[::-1], "values": {"pesq_wb": scores.values["pesq_wb"][::-1]}}
    shuffled = shuffled.model_copy(update={"scores": {INT8: scores.model_copy(update=turned)}})
    assert one(make(), shuffled, "pesq_wb").outcome == "same"


def test_a_group_is_compared_by_its_own_clips():
    base, candidate = make(), make(pesq=[value - 0.1 * (number % 2) for number, value in enumerate(clips())])
    pair = Pair(base, candidate)
    rows = [side.rows[0] for side in (base, candidate)]
    grouped = [
        row.model_copy(update={"measurements": tuple(replace(row.measurements[0], metric=f"pesq_wb[{part}]")
                                                     for part in ("even", "odd"))})
        for row in rows
    ]  # fmt: skip
    even, odd = (pair.difference(f"pesq_wb[{part}]", *grouped, None) for part in ("even", "odd"))
    assert (even.loss, even.n) == (0.0, 60)
    assert odd.loss == pytest.approx(0.1)


def test_counts_compare_exactly():
    found = one(make(), make(instructions=1001.0), "instructions_per_frame")
    assert (found.loss, found.interval, found.outcome, found.method) == (1.0, None, "worse", "counted")
    assert one(make(), make(), "instructions_per_frame").outcome == "same"
    assert one(make(), make(instructions=999.0), "instructions_per_frame").outcome == "better"


@pytest.mark.parametrize(
    ("change", "metric", "reason"),
    [
        ({"dataset": "e" * 64}, "pesq_wb", "another evaluation set: dddddddddddd in the baseline, eeeeeeeeeeee here"),
        ({"protocol": "pesq 0.0.5"}, "pesq_wb", "another protocol: 'pesq 0.0.4' in the baseline, 'pesq 0.0.5' here"),
        ({"kind": "raspberry-pi"}, "frame_p50_us", "another kind of target: host in the baseline, raspberry-pi here"),
        ({"host": HOST | {"runtime_version": "2.4.0"}}, "frame_p50_us", "another engine version: 2.3.0"),
        ({"host": HOST | {"threads": 2}}, "frame_p50_us", "another thread count: 1 in the baseline, 2 here"),
        ({"host": HOST | {"cpu": "other CPU"}}, "frame_p50_us", "another processor"),
        ({"machine": "other"}, "frame_p50_us", "another machine of the same kind"),
        ({"repeats": ()}, "frame_p50_us", "too few repeats"),
        ({"board": BOARD | {"compiler": "gcc 13.1"}}, "instructions_per_frame", "another compiler: gcc 12.2"),
    ],
)
def test_what_cannot_be_compared_is_refused_and_nothing_else_is(change, metric, reason):
    pair = Pair(make(), make("candidate", **change))
    refused = {found.metric: found.refused for found in pair.differences() if found.refused is not None}
    assert list(refused) == [metric]
    assert reason in refused[metric]
    assert [found.metric for found in Pair(make(), make()).differences() if found.refused] == []


def test_what_only_one_side_has_is_refused():
    base, candidate = make(), make()
    bare = candidate.model_copy(update={"scores": {}, "timings": ()})
    reasons = {found.metric: found.refused for found in Pair(base, bare).differences()}
    assert "keeps no scores per clip" in reasons["pesq_wb"]
    assert "does not say what its numbers on the target hold for" in reasons["frame_p50_us"]
    assert reasons["model_bytes"] is None
    fewer = candidate.rows[0].model_copy(update={"measurements": candidate.rows[0].measurements[1:]})
    gone = candidate.model_copy(update={"rows": (fewer,)})
    assert one(base, gone, "pesq_wb").refused == "not measured in this run"
    assert one(gone, base, "pesq_wb").refused == "not measured in the baseline"


def test_a_race_outranks_what_was_stored_and_another_machine_does_not_matter_to_it():
    elsewhere = make("candidate", machine="other", repeats=())
    found = one(make(), elsewhere, "frame_p50_us", [race(1.10)])
    assert found.method == "race"
    assert found.loss / found.base == pytest.approx(0.10, abs=0.02)
    low, high = (bound / found.base for bound in found.bounds)
    assert 0.05 < low < 0.10 < high < 0.15
    assert race_difference(found, race(1.10, rounds=7)) is None  # too few for an interval


def test_stored_times_are_judged_by_every_pair_of_repeats():
    slower = tuple({"frame_p50_us": 1.1 * one["frame_p50_us"]} for one in QUIET)
    found = one(make(), make(repeats=slower), "frame_p50_us")
    assert (found.method, found.n, found.outcome) == ("stored", 5, "worse")
    low, high = found.bounds
    # The extremes by hand: 9.9 · 1.1 against 10.1, and 10.1 · 1.1 against 9.9, less the outer 2.5 % of 25 ratios.
    assert 10 * (9.9 * 1.1 / 10.1 - 1) <= low < 1.0 < high <= 10 * (10.1 * 1.1 / 9.9 - 1)
    wild = tuple({"frame_p50_us": value} for value in (8.0, 9.0, 11.0, 14.0, 16.0))
    assert one(make(repeats=wild), make(repeats=wild), "frame_p50_us").outcome == "not decidable"


def test_intervals_hold_the_truth_as_often_as_they_say():
    """200 races of equal models: the 99 % interval misses zero a few times at most; 80 % would miss it 40 times."""
    missed = {0.99: 0, 0.8: 0}
    for seed in range(200):
        chance = random.Random(seed)
        ratios = [chance.gauss(0, 0.03) for _ in range(12)]
        for level in missed:
            low, high = bootstrap_median(ratios, level)
            missed[level] += not low <= 0 <= high
    assert missed[0.99] <= 8
    assert missed[0.8] >= 20


def test_bootstrap_of_a_mean_is_repeatable_and_as_wide_as_theory_says():
    values = [random.Random(n).gauss(0, 1) for n in range(400)]
    low, high = bootstrap_mean(values)
    assert (low, high) == bootstrap_mean(values)
    assert (high - low) == pytest.approx(2 * 1.96 * np.std(values, ddof=1) / 20, rel=0.1)
    assert bootstrap_mean([0.5, 0.5]) == (0.5, 0.5)
    assert every_pair([2.0], [3.0]) == (1.5, 1.5)
