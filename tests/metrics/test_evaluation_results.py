"""Means, intervals, breakdowns and JSON of scores written by hand."""

import json

import numpy as np
import pytest
import scipy.stats

from earshot.core.errors import ArtifactError
from earshot.core.measurement import Measurement, Provenance
from earshot.pipeline.metrics.results import ClipScore, Evaluation, confidence_interval


def evaluation() -> Evaluation:
    clips = (
        ClipScore("a", "vbd", -3.0, {"pesq_wb": 1.0, "si_sdr": -3.0}),
        ClipScore("b", "vbd", 0.0, {"pesq_wb": 2.0, "si_sdr": 0.0}),
        ClipScore("c", "ls", 5.0, {"pesq_wb": 3.0}, {"si_sdr": "infinite"}),
        ClipScore("d", "ls", 17.5, {}, {"pesq_wb": "too long", "si_sdr": "silent"}),
        ClipScore("e", "ls", None, {"pesq_wb": 4.0}, {"si_sdr": "silent"}),
    )
    units = {"pesq_wb": "MOS", "si_sdr": "dB"}
    return Evaluation("student.tflite", "abc", 16000, {"pesq_wb": "pesq 0.0.4", "si_sdr": "own"}, units, clips)


def by_metric(measurements: list[Measurement]) -> dict[str, Measurement]:
    return {item.metric: item for item in measurements}


def test_mean_count_failures():
    pesq = by_metric(evaluation().measurements())["pesq_wb"]
    assert (pesq.value, pesq.n, pesq.failed, pesq.unit) == (2.5, 4, 1, "MOS")
    assert pesq.reason == "1 of 5 clips could not be scored: d (too long)"
    half = 3.182446305284263 * np.sqrt(5 / 3) / 2  # t quantile for 3 degrees of freedom, from the table
    assert pesq.interval == pytest.approx((2.5 - half, 2.5 + half), abs=1e-9)


def test_groups():
    groups = evaluation().by_group()
    assert list(groups) == ["vbd", "ls"]
    assert by_metric(groups["vbd"])["si_sdr"].value == -1.5
    nothing = by_metric(groups["ls"])["si_sdr"]
    assert (nothing.value, nothing.n, nothing.failed, nothing.provenance) == (None, 0, 3, Provenance.UNAVAILABLE)
    assert nothing.reason is not None and nothing.reason.startswith("3 of 3 clips")
    assert evaluation().measurements("vbd") == groups["vbd"]
    with pytest.raises(ArtifactError, match="no clip of group 'dns'"):
        evaluation().measurements("dns")


def test_snr_bins_hold_every_clip_once():
    bins = evaluation().by_snr()
    assert list(bins) == ["below 0 dB", "0 to 5 dB", "5 to 10 dB", "10 dB up", "SNR unknown"]
    assert [by_metric(part)["pesq_wb"].value for part in bins.values()] == [1.0, 2.0, 3.0, None, 4.0]


def test_many_failures_are_counted_and_some_named():
    clips = tuple(ClipScore(f"c{i}", "all", None, {}, {"stoi": "silent"}) for i in range(7))
    only = Evaluation("x", "", 16000, {"stoi": ""}, {"stoi": "1"}, clips).measurements()[0]
    assert only.failed == 7
    assert only.reason is not None and only.reason.endswith("c2 (silent); and 4 more")


def test_interval_against_scipy():
    rng = np.random.default_rng(0)
    for count in (2, 3, 10, 120):
        values = rng.normal(2.0, 0.5, count)
        expected = scipy.stats.t.interval(0.95, count - 1, np.mean(values), scipy.stats.sem(values))
        assert confidence_interval(values.tolist()) == pytest.approx(expected, rel=1e-9)


def test_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(1)
    inside = [low <= 0 <= high for low, high in (confidence_interval(rng.normal(size=6).tolist()) for _ in range(2000))]
    assert np.mean(inside) == pytest.approx(0.95, abs=0.02)
    narrow = [
        low <= 0 <= high for low, high in (confidence_interval(rng.normal(size=6).tolist(), 0.8) for _ in range(2000))
    ]
    assert np.mean(narrow) < 0.85


def test_interval_of_too_few():
    assert confidence_interval([]) is None
    assert confidence_interval([1.0]) is None
    assert confidence_interval([1.0, 1.0]) == (1.0, 1.0)


def test_json_round_trip():
    first = evaluation()
    text = json.dumps(first.to_dict(), allow_nan=False)
    again = Evaluation.from_dict(json.loads(text))
    assert again == first
    assert again.measurements() == first.measurements()


@pytest.mark.parametrize(
    "spoil", [{"schema": "earshot.evaluation/9"}, {"clips": [{"id": "a"}]}, {"clips": 3}, {"extra": 1}]
)
def test_foreign_json_is_refused(spoil):
    with pytest.raises(ArtifactError):
        Evaluation.from_dict({**evaluation().to_dict(), **spoil})
