"""Scales of metrics against hand-computed values, and scores of clips in memory against the libraries' own."""

from __future__ import annotations

import math

import numpy as np
import pesq
import pytest
import tiny_training as tiny

from earshot.core.errors import UsageError
from earshot.pipeline.data.config import DataConfig
from earshot.pipeline.data.open import open_data
from earshot.pipeline.training.metric_targets import check_targets, open_scorer, scaled


@pytest.mark.parametrize(
    ("metric", "value", "expected"),
    [
        ("pesq_wb", 2.5, 0.5),
        ("pesq_wb", 4.5, 1 / (1 + math.exp(-3))),
        ("pesq_nb", 1.0, 1 / (1 + math.exp(2.25))),
        ("csig", 1.0, 0.0),
        ("covl", 3.0, 0.5),
        ("cbak", 5.0, 1.0),
        ("stoi", 0.7, 0.7),
        ("estoi", -0.1, 0.0),
    ],
)
def test_metrics_are_scaled(metric: str, value: float, expected: float) -> None:
    assert scaled(metric, value) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("metric", "rate", "reason"),
    [
        ("si_sdr", 16000, "no scale from 0"),
        ("tiny_online:DISTORTION", 16000, "no scale from 0"),
        ("pesq_wb", 8000, "needs data at 16000 Hz"),
        ("pesq", 16000, "unknown metric 'pesq'"),
    ],
)
def test_what_cannot_be_trained_towards_is_refused(metric: str, rate: int, reason: str) -> None:
    with pytest.raises(UsageError, match=reason) as caught:
        check_targets(["stoi", metric], rate)
    assert caught.value.hint
    check_targets(["stoi", "pesq_nb", "tiny_online:LIKENESS"], 16000)


def test_real_scores_of_clips_in_memory() -> None:
    pairs = [pair.load() for pair in open_data(DataConfig(), 16000).validation[:2]]
    clean, noisy = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    with open_scorer(16000) as scorer:
        found = scorer.score(["pesq_wb", "csig"], [*clean, clean[0]], [*noisy, clean[0]])
        again = scorer.score(["pesq_wb"], clean[:1], noisy[:1])
    assert found.values.shape == (3, 2)
    assert set(found.means) == {"pesq_wb", "csig"}
    raw = [pesq.pesq(16000, *(one.astype(np.float64) for one in pair), "wb") for pair in (*pairs, (clean[0], clean[0]))]
    assert found.means["pesq_wb"] == pytest.approx(np.mean(raw), abs=1e-6)
    for row, (reference, heard) in enumerate(pairs):
        mos = pesq.pesq(16000, reference.astype(np.float64), heard.astype(np.float64), "wb")
        assert found.values[row, 0] == pytest.approx(1 / (1 + math.exp(-1.5 * (mos - 2.5))), abs=1e-6)
    assert found.values[2].min() > found.values[:2].max(), "clean sound is not the best"
    assert again.values[0, 0] == found.values[0, 0]
    assert not found.reasons


def test_a_worker_that_dies_costs_the_clips_it_died_on() -> None:
    clean, noisy = tiny.sounds(3, 12)
    clean, noisy = clean[:, :400], noisy[:, :400]
    fatal = np.array([int(abs(float(sound[10])) * 1e6) % 3 == 0 for sound in noisy])
    assert 0 < fatal.sum() < len(fatal)
    with open_scorer(16000) as scorer:
        found = scorer.score(["tiny_online:DIES", "tiny_online:LIKENESS"], list(clean), list(noisy))
    assert (np.isnan(found.values[:, 0]) == fatal).all()
    assert np.isfinite(found.values[:, 1]).all()
    assert "SIGSEGV" in found.reasons["tiny_online:DIES"]
    np.testing.assert_array_equal(found.values[~fatal, 0], found.values[~fatal, 1])
