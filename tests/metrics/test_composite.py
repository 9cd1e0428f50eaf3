"""CSIG, CBAK and COVL against an independent implementation, MATLAB's own figures, and what can be said beforehand."""

import os
from pathlib import Path

import numpy as np
import pesq
import pytest
import soundfile
import soxr
from scipy.signal import lfilter
from scoring_doubles import RATE, noisy_version, speech_like

from earshot.core.errors import UsageError
from earshot.pipeline.enhancers import Passthrough
from earshot.pipeline.evaluation import evaluate
from earshot.pipeline.metrics.base import Signals, UnscorableError
from earshot.pipeline.metrics.composite import log_likelihood_ratio, segmental_snr, weighted_spectral_slope
from earshot.pipeline.metrics.registry import METRICS

PARTS = (log_likelihood_ratio, weighted_spectral_slope, segmental_snr)
NAMES = ("csig", "cbak", "covl")


def ratings(clean: np.ndarray, enhanced: np.ndarray, rate: int = RATE) -> list[float]:
    signals = Signals.checked(clean, enhanced, rate)
    return [METRICS[name].score(signals) for name in NAMES]


def combined(pesq_wb: float, llr: float, wss: float, snr: float) -> list[float]:
    """Hu and Loizou's regressions, limited."""
    csig = 3.093 - 1.029 * llr + 0.603 * pesq_wb - 0.009 * wss
    cbak = 1.634 + 0.478 * pesq_wb - 0.007 * wss + 0.063 * snr
    covl = 1.594 + 0.805 * pesq_wb - 0.512 * llr - 0.007 * wss
    return [min(max(rating, 1.0), 5.0) for rating in (csig, cbak, covl)]


def recorded(seed: int, seconds: float = 3.0, rate: int = RATE) -> np.ndarray:
    """Speech-like sound whose pauses are not digital silence."""
    return noisy_version(speech_like(seed, seconds, rate), seed + 1, 2e-4)


def muffled(clean: np.ndarray, seed: int) -> np.ndarray:
    return lfilter([0.3, 0.25, 0.15], [1, -0.2], noisy_version(clean, seed, 0.001)).astype(np.float32)


def clipped(clean: np.ndarray, seed: int) -> np.ndarray:
    return np.clip(noisy_version(clean, seed, 0.005), -0.05, 0.05)


# pysepm-evo 0.1.1 (llr with used_for_composite, wss, SNRseg) under numpy 1.26.4, scipy 1.12.0, numba 0.68.1
REFERENCE = [
    (20, 3.0, noisy_version, (1.063042131908549, 24.425605171841106, -3.073286065251956)),
    (21, 4.1, muffled, (0.8234432913749011, 22.219035129638424, -2.058570343907307)),
    (22, 2.5, clipped, (0.7888227888686519, 24.53043892513174, -3.3011842092625505)),
]


@pytest.mark.parametrize(("seed", "seconds", "spoil", "expected"), REFERENCE)
def test_the_parts_are_those_of_pysepm(seed, seconds, spoil, expected):
    clean = recorded(seed, seconds)
    enhanced = spoil(clean, seed)
    pair = clean.astype(float), enhanced.astype(float)
    assert [part(*pair) for part in PARTS] == pytest.approx(expected, rel=1e-7)
    wideband = pesq.pesq(RATE, *pair, "wb")
    assert ratings(clean, enhanced) == pytest.approx(combined(wideband, *expected), abs=1e-6)
    narrowband = pesq.pesq(RATE, *pair, "nb")
    assert ratings(clean, enhanced) != pytest.approx(combined(narrowband, *expected), abs=0.02)


# Noisy clips of VoiceBank-DEMAND as MATLAB's composite.m rates them, not limited: Results/matlab_noisy_metrics.log of
# the repository ruizhecao96/CMGAN. These clips of the corpus are that repository's files, sample by sample.
MATLAB = {
    "p232_003": (4.324, 2.944, 3.568, 2.048),
    "p232_005": (2.566, 1.971, 1.897, -0.011),
    "p232_006": (3.590, 3.205, 2.899, 10.646),
    "p232_011": (4.106, 3.427, 3.431, 9.806),
    "p232_014": (2.223, 1.900, 1.705, -1.104),
    "p232_015": (5.084, 4.100, 4.403, 12.313),
    "p232_016": (4.806, 3.681, 4.124, 7.946),
    "p232_019": (3.550, 2.473, 2.862, -0.288),
    "p232_021": (4.243, 3.278, 3.433, 8.354),
    "p232_022": (3.131, 2.458, 2.378, 3.514),
    "p232_023": (2.612, 1.898, 1.915, -1.285),
    "p232_024": (5.234, 4.202, 4.564, 12.623),
    "p232_052": (1.926, 1.615, 1.465, -3.259),
}


@pytest.mark.corpus
@pytest.mark.skipif("EARSHOT_CORPUS" not in os.environ, reason="needs the development corpus (EARSHOT_CORPUS)")
@pytest.mark.parametrize("clip", MATLAB)
def test_real_clips_are_rated_as_by_matlab(clip):
    pairs = Path(os.environ["EARSHOT_CORPUS"]) / "test_pairs"
    (clean, _), (noisy, _) = (soundfile.read(pairs / kind / f"vbd_{clip}.flac") for kind in ("clean", "noisy"))
    *expected, snr = MATLAB[clip]
    assert ratings(clean, noisy) == pytest.approx([min(rating, 5.0) for rating in expected], abs=0.001)
    assert segmental_snr(clean, noisy) == pytest.approx(snr, abs=0.001)
    assert ratings(clean, clean + 0.99 * (noisy - clean)) != pytest.approx(expected, abs=0.001)


@pytest.mark.parametrize(("gain", "expected"), [(0.9, 20.0), (1.5, 6.0206), (0.999, 35.0), (6.0, -10.0)])
def test_segmental_snr_by_hand(gain, expected):
    clean = 0.1 * np.random.default_rng(0).standard_normal(RATE)
    assert segmental_snr(clean, gain * clean) == pytest.approx(expected, abs=1e-4)  # -20 log10 |1 - gain|, limited


def test_segmental_snr_is_a_mean_over_frames_not_of_energies():
    clean = np.concatenate([np.full(8000, 0.5), np.full(8000, 0.005)])
    enhanced = clean + 0.005
    frames = (16000 - 480) // 120  # of 130, the last is left out; the first 63 are loud, four cross the border
    assert segmental_snr(clean, enhanced) == pytest.approx((63 * 35 + 63 * 0) / frames, abs=1.0)
    assert segmental_snr(clean[::-1], enhanced[::-1]) == pytest.approx(segmental_snr(clean, enhanced), abs=0.5)


@pytest.mark.parametrize("pole", [0.0, 0.5, 0.9, -0.9])
def test_llr_of_white_noise_for_coloured_is_what_prediction_gains(pole):
    rng = np.random.default_rng(1)
    clean = lfilter([1], [1, -pole], 0.01 * rng.standard_normal(20 * RATE))
    white = 0.01 * rng.standard_normal(clean.size)
    # the variance of an autoregressive process over that of its innovation, and what estimating 16 taps costs
    assert log_likelihood_ratio(clean, white) == pytest.approx(-np.log(1 - pole**2), abs=0.2)


def test_llr_and_wss_are_blind_to_gain_and_see_the_spectrum():
    clean = recorded(2).astype(float)
    for part, least in ((log_likelihood_ratio, 0.2), (weighted_spectral_slope, 1.0)):
        assert part(clean, 0.3 * clean) == pytest.approx(0, abs=1e-9)
        assert part(clean, np.diff(clean, prepend=0)) > least


def test_the_worst_twentieth_of_the_frames_does_not_count():
    clean = 0.1 * np.random.default_rng(0).standard_normal(10 * RATE)
    for seconds, counts in ((0.3, False), (1.0, True)):
        burst = clean.copy()
        burst[: round(seconds * RATE)] = np.sin(np.arange(round(seconds * RATE)))
        for part in (log_likelihood_ratio, weighted_spectral_slope):
            assert (part(clean, burst) > 0.01) == counts


@pytest.mark.parametrize(("frames", "counted"), [(20, 19), (30, 29), (50, 48), (52, 49)])
def test_half_a_frame_is_rounded_up_as_in_matlab(frames, counted):
    rng = np.random.default_rng(0)
    clean = 0.1 * rng.standard_normal(480 + 120 * frames)
    enhanced = clean + 0.05 * rng.standard_normal(clean.size)

    def single(start: int) -> float:
        return weighted_spectral_slope(clean[start : start + 600], enhanced[start : start + 600])

    lowest = sorted(single(120 * frame) for frame in range(frames))[:counted]
    assert weighted_spectral_slope(clean, enhanced) == pytest.approx(np.mean(lowest), rel=1e-9)


def test_the_clean_signal_itself_reaches_the_top():
    clean = recorded(4)
    assert ratings(clean, clean) == [5.0, 5.0, 5.0]
    assert max(ratings(clean, noisy_version(clean, 4, 0.1))) < 3


def test_ratings_fall_with_the_snr():
    clean = recorded(5)
    rated = np.array([ratings(clean, noisy_version(clean, 5, level)) for level in (0.001, 0.003, 0.01, 0.03)])
    assert (np.diff(rated, axis=0) < -0.1).all()


def test_llr_of_digital_silence_by_hand():
    rng = np.random.default_rng(2)
    silence, coloured = np.zeros(20 * RATE), lfilter([1], [1, -0.9], 0.01 * rng.standard_normal(20 * RATE))
    assert log_likelihood_ratio(silence, silence) == 0
    # silence stands for white noise: filtered by 1 - 0.9/z it grows by 1 + 0.81, and it predicts nothing of the other
    assert log_likelihood_ratio(silence, coloured) == pytest.approx(np.log(1.81), abs=0.2)
    assert log_likelihood_ratio(coloured, silence) == pytest.approx(-np.log(0.19), abs=0.2)


def test_a_second_of_digital_silence_is_rated():
    clean = recorded(6, 4.0)
    clean[RATE : 2 * RATE] = 0
    rated = ratings(clean, noisy_version(clean, 6, 0.002))
    assert all(1 < rating < 5 for rating in rated)


@pytest.mark.parametrize("hum", [lambda t: 0 * t + 0.1, lambda t: 0.1 * np.sin(2 * np.pi * 50 * t)])
def test_signals_that_predict_themselves_give_numbers(hum):
    clean, other = hum(np.arange(RATE) / RATE), 0.1 * np.random.default_rng(0).standard_normal(RATE)
    for pair in ((clean, other), (other, clean), (clean, clean)):
        assert 0 <= log_likelihood_ratio(*pair) <= np.log(2.0**32 * 1e12)
        assert np.isfinite(weighted_spectral_slope(*pair))


def test_48k_is_rated_at_16k():
    clean = recorded(7, rate=48000)
    noisy = noisy_version(clean, 7)
    at_16k = [soxr.resample(x.astype(float), 48000, RATE, "VHQ") for x in (clean, noisy)]
    assert ratings(clean, noisy, 48000) == pytest.approx(ratings(*at_16k), abs=1e-9)


def test_below_16k_is_refused():
    clean = speech_like(8, rate=8000)
    with pytest.raises(UnscorableError, match="16 kHz only, this is at 8000 Hz"):
        ratings(clean, noisy_version(clean, 8), 8000)
    with pytest.raises(UsageError, match="'covl' needs data at 16000 Hz or more, this is at 8000 Hz"):
        evaluate(Passthrough(), [], ["covl"], 8000)


def test_what_pesq_refuses_is_refused():
    clean = speech_like(9, 0.2)
    with pytest.raises(UnscorableError, match="too short for PESQ"):
        ratings(clean, noisy_version(clean, 9))


def test_pesq_runs_once_a_clip(monkeypatch):
    runs = []
    real = pesq.pesq
    monkeypatch.setattr(pesq, "pesq", lambda *args: runs.append(args) or real(*args))
    clean = recorded(10)
    for expected, level in ((1, 0.01), (2, 0.02)):
        signals = Signals.checked(clean, noisy_version(clean, 10, level), RATE)
        wideband, *rated = [METRICS[name].score(signals) for name in ("pesq_wb", *NAMES)]
        assert len(runs) == expected
        parts = [part(signals.clean, signals.enhanced) for part in PARTS]
        assert rated == pytest.approx(combined(wideband, *parts), abs=1e-12)  # of this clip, not of the one before
