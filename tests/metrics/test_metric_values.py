"""Each metric against hand-computed values or the library it stands on."""

import numpy as np
import pesq
import pystoi
import pytest
import soxr
from scoring_doubles import RATE, noisy_version, speech_like

from earshot.core.errors import UsageError
from earshot.pipeline.metrics.base import Metric, Signals, UnscorableError
from earshot.pipeline.metrics.registry import METRICS, resolve


def made(seed: int = 0, seconds: float = 3.0, level: float = 0.02, rate: int = RATE) -> Signals:
    clean = speech_like(seed, seconds, rate)
    return Signals.checked(clean, noisy_version(clean, seed, level), rate)


def score(name: str, signals: Signals) -> float:
    return METRICS[name].score(signals)


def test_si_sdr_by_hand():
    # projection of (2,2,1,-1) on (1,1,0,0) is (2,2,0,0): power 8; the rest (0,0,1,-1): power 2; 10 log10 4
    signals = Signals.checked(np.array([1, 1, 0, 0]), np.array([2, 2, 1, -1]), RATE)
    assert score("si_sdr", signals) == pytest.approx(6.020599913279624, abs=1e-12)


@pytest.mark.parametrize("snr_db", [-20.0, 0.0, 7.5, 60.0])
def test_si_sdr_of_orthogonal_noise_is_its_snr_at_any_scale(snr_db):
    rng = np.random.default_rng(3)
    clean, noise = rng.standard_normal((2, 4000))
    noise -= clean * (noise @ clean) / (clean @ clean)
    noise *= np.linalg.norm(clean) / np.linalg.norm(noise) * 10 ** (-snr_db / 20)
    for scale in (1.0, 0.01, -30.0):
        assert score("si_sdr", Signals.checked(clean, scale * (clean + noise), RATE)) == pytest.approx(snr_db, abs=1e-6)
    shifted = Signals.checked(clean, np.roll(clean + noise, 1), RATE)
    assert score("si_sdr", shifted) < snr_db  # one sample out of line is not forgiven


def test_si_sdr_infinite_is_no_number():
    clean = speech_like(0)
    with pytest.raises(UnscorableError, match="infinite"):
        score("si_sdr", Signals.checked(clean, clean, RATE))
    with pytest.raises(UnscorableError, match="minus infinity"):
        score("si_sdr", Signals.checked(np.array([1.0, 0.0]), np.array([0.0, 1.0]), RATE))


@pytest.mark.parametrize("mode", ["wb", "nb"])
def test_pesq_is_the_librarys(mode):
    signals = made(level=0.01)
    expected = pesq.pesq(RATE, signals.clean, signals.enhanced, mode)
    assert score(f"pesq_{mode}", signals) == pytest.approx(expected, abs=1e-6)
    assert score(f"pesq_{mode}", made(level=0.1)) < expected
    other = {"wb": "nb", "nb": "wb"}[mode]
    assert abs(score(f"pesq_{other}", signals) - expected) > 0.05  # the mode matters


def test_narrow_band_pesq_stays_at_8k():
    signals = made(rate=8000)
    expected = pesq.pesq(8000, signals.clean, signals.enhanced, "nb")
    assert score("pesq_nb", signals) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("name", "extended"), [("stoi", False), ("estoi", True)])
def test_intelligibility_is_the_librarys(name, extended, seed):
    signals = made(seed, level=0.01 * 4**seed)
    expected = pystoi.stoi(signals.clean, signals.enhanced, RATE, extended=extended)
    other = pystoi.stoi(signals.clean, signals.enhanced, RATE, extended=not extended)
    assert score(name, signals) == pytest.approx(expected, abs=1e-9)
    assert abs(other - expected) > 1e-4


def test_48k_is_resampled_to_16k():
    signals = made(rate=48000)
    clean, enhanced = (soxr.resample(x, 48000, 16000, "VHQ") for x in (signals.clean, signals.enhanced))
    assert score("pesq_wb", signals) == pytest.approx(pesq.pesq(16000, clean, enhanced, "wb"), abs=1e-6)
    assert score("stoi", signals) == pytest.approx(pystoi.stoi(clean, enhanced, 16000), abs=1e-9)
    native = 10 * np.log10(np.var(signals.clean) / np.var(signals.enhanced - signals.clean))
    assert score("si_sdr", signals) == pytest.approx(native, abs=0.1)


@pytest.mark.parametrize(
    ("clean", "enhanced", "reason"),
    [
        (np.zeros(RATE), speech_like(0), "clean signal is silent"),
        (speech_like(0), np.zeros(3 * RATE), "enhanced signal is silent"),
        (speech_like(0), np.full(3 * RATE, np.nan), "enhanced signal holds NaN"),
        (np.full(RATE, np.inf), speech_like(0), "clean signal holds NaN or infinity"),
        (speech_like(0), speech_like(0)[:-1], "unequal lengths: clean 48000, enhanced 47999"),
        (np.zeros(0), np.zeros(0), "shape"),
        (speech_like(0), speech_like(0)[None], "shape"),
    ],
)
def test_signals_that_cannot_be_scored(clean, enhanced, reason):
    with pytest.raises(UnscorableError, match=reason):
        Signals.checked(clean, enhanced, RATE)


@pytest.mark.parametrize("name", ["pesq_wb", "pesq_nb", "stoi", "estoi"])
def test_too_short(name):
    with pytest.raises(UnscorableError, match=r"too (short|little)"):
        score(name, made(seconds=0.2))
    assert score(name, made(seconds=1.5)) > 0


@pytest.mark.parametrize("name", ["stoi", "estoi"])
def test_hardly_any_length_is_no_crash(name):
    with pytest.raises(UnscorableError, match="too short"):
        score(name, Signals.checked(np.ones(100), np.ones(100), RATE))


def test_no_speech_for_pesq():
    nothing = 1e-30 * np.random.default_rng(0).standard_normal(RATE)  # not silent, but far below 16 bits
    with pytest.raises(UnscorableError, match="no speech"):
        score("pesq_wb", Signals.checked(nothing, noisy_version(nothing, 0), RATE))


def test_pesq_refuses_what_would_overflow_its_arrays():
    with pytest.raises(UnscorableError, match=r"20\.1 s is too long"):
        score("pesq_wb", made(seconds=20.1))


def bursts(seconds: float) -> Signals:
    """As many utterances as PESQ can tell apart: 0.22 s of sound, 0.22 s of silence."""
    time_axis = np.arange(round(seconds * RATE)) / RATE
    clean = 0.1 * np.random.default_rng(0).standard_normal(time_axis.size) * (time_axis % 0.44 < 0.22)
    return Signals.checked(clean, noisy_version(clean, 0, 0.003), RATE)


def test_pesq_is_sound_up_to_its_limit():
    # a stationary signal scores alike at any length; the bare library is 0.5 off at 24 s and crashes at 26 s
    assert score("pesq_nb", bursts(20.0)) == pytest.approx(score("pesq_nb", bursts(8.0)), abs=0.05)


def test_registry():
    for name, metric in METRICS.items():
        assert resolve(name) is metric
        assert metric.higher_is_better
        assert metric.name == name
    assert resolve("scoring_doubles:NAN").name == "nan"
    assert "pesq 0.0.4" in METRICS["pesq_wb"].describe()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("pesq_bw", "unknown metric"),
        ("no_such_module_here:X", "No module named"),
        ("scoring_doubles:ABSENT", "no attribute"),
        ("scoring_doubles:RATE", "is a int, not an earshot Metric"),
    ],
)
def test_registry_refuses(name, message):
    with pytest.raises(UsageError, match=message):
        resolve(name)


def test_did_you_mean():
    with pytest.raises(UsageError) as caught:
        resolve("si_sdrr")
    assert caught.value.hint == "did you mean 'si_sdr'?"


def test_metric_without_library_describes_itself():
    assert Metric("m", "1", True, "made up", lambda _: 0.0).describe() == "made up"
