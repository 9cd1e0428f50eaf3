"""Differences between two runs: what is refused, what is exact, and whether intervals hold what they promise."""

import math
import random
from dataclasses import replace

import numpy as np
import pytest
from sample_runs import BOARD, HOST, INT8, QUIET, clips, make, race
from scipy import stats

from earshot.ci.difference import Difference, Pair, race_difference
from earshot.ci.difference_text import difference_text, remarks_of
from earshot.ci.report import differences
from earshot.ci.statistics import RACE_LEVEL, bootstrap_mean, bootstrap_median, every_pair
from earshot.core.measurement import Provenance


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
    assert (found.dropped, found.dropped_clips) == (1, ("clip000",))
    several = one(make(pesq=[None] * 5 + clips()[5:]), make(), "pesq_wb")
    assert (several.n, several.dropped, several.dropped_clips) == (115, 5, ("clip000", "clip001", "clip002"))
    said = "5 clips left out, scored on one side only: clip000, clip001, clip002, …"
    assert said in difference_text(several)
    assert (
        said in "".join(differences.remarks([several])) and differences.remarks([one(make(), make(), "pesq_wb")]) == []
    )
    both = [None, *clips()[1:]]
    assert one(make(pesq=both), make(pesq=both), "pesq_wb").dropped == 0  # nothing of one side is hidden
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


def test_a_race_of_too_few_rounds_decides_nothing_and_never_falls_back_on_what_was_stored():
    slower = make("candidate", repeats=tuple({"frame_p50_us": 2 * one["frame_p50_us"]} for one in QUIET))
    assert one(make(), slower, "frame_p50_us").outcome == "worse"  # as stored
    few = replace(race(2.0, rounds=7), ended="its 300 s were up")
    found = one(make(), slower, "frame_p50_us", [few])
    assert (found.outcome, found.method, found.n, found.interval) == ("not decidable", "race", 7, None)
    assert found.loss / found.base == pytest.approx(1.0, abs=0.1)
    assert found.open == "7 rounds by turns, an interval needs 8: its 300 s were up"
    none = one(make(), slower, "frame_p50_us", [replace(few, rounds=())])
    assert (none.outcome, none.open) == ("not decidable", "no round by turns: its 300 s were up")
    assert one(make(), slower, "frame_p50_us", [race(2.0, rounds=8)]).outcome == "worse"


def test_a_race_says_nothing_of_what_it_does_not_run():
    graph = Difference("graph_rtf", "1", INT8, INT8, "host", base=1.0, value=1.0)
    assert race_difference(graph, race(1.10)) is None


def changed(evidence, metric, **fields):
    """The evidence with one measurement of its row changed."""
    row = evidence.rows[0]
    found = tuple(replace(one, **fields) if one.metric == metric else one for one in row.measurements)
    return evidence.model_copy(update={"rows": (row.model_copy(update={"measurements": found}),)})


@pytest.mark.parametrize("metric", ["model_bytes", "frame_p50_us", "instructions_per_frame", "pesq_wb"])
def test_measured_against_estimated_is_refused_on_either_side(metric):
    usual = make().rows[0].find(metric)[0].provenance
    other = changed(make(), metric, provenance=Provenance.ESTIMATED)
    assert one(make(), other, metric).refused == f"{usual} in the baseline, estimated here"
    assert one(other, make(), metric).refused == f"estimated in the baseline, {usual} here"
    assert one(other, other, metric).refused is None


def test_what_spoils_a_number_is_shown():
    hot = changed(make(), "frame_p50_us", flags=("throttled",))
    found = one(hot, make(), "frame_p50_us")
    assert (found.refused, found.base_flags, found.flags) == (None, ("throttled",), ())
    assert remarks_of(found) == ["throttled in the baseline"]
    assert remarks_of(one(make(), hot, "frame_p50_us")) == ["throttled here"]
    assert remarks_of(one(hot, hot, "frame_p50_us")) == ["throttled in both"]
    assert "throttled in the baseline" in difference_text(found)
    text = differences.render_markdown(Pair(hot, make()), [found], [])
    assert "5 repeats, weaker; throttled in the baseline" in text
    counted = one(make(), make(), "instructions_per_frame")
    assert difference_text(counted).endswith("the same (emulated)")


def test_a_lower_bound_compares_with_another_but_not_with_a_total():
    low = changed(make(), "instructions_per_frame", flags=("lower-bound",))
    assert "a lower bound in the baseline only" in one(low, make(), "instructions_per_frame").refused
    assert "a lower bound here only" in one(make(), low, "instructions_per_frame").refused
    both = one(low, low, "instructions_per_frame")
    assert both.refused is None and "lower-bound in both" in difference_text(both)


def test_stored_times_of_two_boards_of_one_model_are_refused():
    """Two boards reached over SSH: what the agent tells of each is all that tells them apart."""
    first, second = (HOST | {"device": device} for device in ("a1b2", "c3d4"))

    def board(environment):
        return make("x", host=environment, kind="raspberry-pi", machine="")

    assert one(board(first), board(second), "frame_p50_us").refused == "another machine of the same kind"
    assert one(board(first), board(first), "frame_p50_us").refused is None
    assert (
        one(board(HOST), board(first), "frame_p50_us").refused == "in the baseline it is not known which machine it was"
    )
    assert one(board(first), board(HOST), "frame_p50_us").refused == "here it is not known which machine it was"
    assert "not known" in one(board(HOST), board(HOST), "frame_p50_us").refused
    assert one(board(first), board(second), "frame_p50_us", [race(1.1)]).method == "race"
    phones = [board(HOST | {"serial": serial}) for serial in ("R58", "R59")]
    assert "another device: R58" in one(*phones, "frame_p50_us").refused
    assert one(phones[0], phones[0], "frame_p50_us").refused is None


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
    """300 races of equal models, looked at as `remeasure` does: after 12, 24 and 48 rounds."""
    missed = {RACE_LEVEL: 0, 0.8: 0}
    for seed in range(300):
        chance = random.Random(seed)
        ratios = [chance.gauss(0, 0.03) for _ in range(48)]
        for level in missed:
            bounds = [bootstrap_median(ratios[:look], level) for look in (12, 24, 48)]
            missed[level] += not all(low <= 0 <= high for low, high in bounds)
    assert missed[RACE_LEVEL] <= 15  # one in twenty, all looks together
    assert missed[0.8] >= 45


def test_bootstrap_of_a_mean_is_repeatable_and_as_wide_as_theory_says():
    values = [random.Random(n).gauss(0, 1) for n in range(400)]
    low, high = bootstrap_mean(values)
    assert (low, high) == bootstrap_mean(values)
    assert (high - low) == pytest.approx(2 * 1.96 * np.std(values, ddof=1) / 20, rel=0.1)
    assert bootstrap_mean([0.5, 0.5]) == (0.5, 0.5)
    assert every_pair([2.0], [3.0]) == (1.5, 1.5)
