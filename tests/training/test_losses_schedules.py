"""Task loss and schedules against plain numpy and numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from earshot.core.config import parse
from earshot.core.errors import ConfigError
from earshot.models.frontend import Frontend
from earshot.pipeline.training.config import LossConfig, PruneConfig, TeachingConfig, TrainConfig
from earshot.pipeline.training.losses import si_sdr, task_loss
from earshot.pipeline.training.perceptual import disturbance_loss, intelligibility_loss
from earshot.pipeline.training.schedule import learning_rate, shares

FRONTEND = Frontend(window=64, hop=32, fft=64)
DICE = np.random.default_rng(5)
CLEAN = DICE.standard_normal((2, 320)).astype(np.float32)
NOISY = (CLEAN + 0.4 * DICE.standard_normal((2, 320))).astype(np.float32)
HEARD = (CLEAN + DICE.standard_normal((2, 320))).astype(np.float32)  # what an estimate is made of


def loss(estimate: np.ndarray = NOISY, **weights: float) -> float:
    config = LossConfig(**(dict.fromkeys(("magnitude", "complex", "si_sdr"), 0.0) | weights))
    spectrum, clean, heard = FRONTEND.spectrum(torch.from_numpy(estimate)), torch.from_numpy(CLEAN), HEARD
    return float(task_loss(config, FRONTEND, spectrum, clean, torch.from_numpy(heard)))


def spectra(sound: np.ndarray) -> np.ndarray:
    """Frames from one hop before the signal to one after it, in float64."""
    window = np.sqrt(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(64) / 64))
    padded = np.pad(sound.astype(np.float64), ((0, 0), (32, 32)))
    return np.fft.rfft(np.stack([padded[:, at : at + 64] * window for at in range(0, 321, 32)], 1))


def compressed(spectrum: np.ndarray, exponent: float) -> np.ndarray:
    return np.abs(spectrum) ** exponent * np.exp(1j * np.angle(spectrum))


@pytest.mark.parametrize("exponent", [0.3, 0.5, 1.0])
def test_the_compressed_losses_are_those_of_numpy(exponent: float) -> None:
    estimate, clean = spectra(NOISY), spectra(CLEAN)
    magnitude = np.mean((np.abs(estimate) ** exponent - np.abs(clean) ** exponent) ** 2)
    both = np.mean(np.abs(compressed(estimate, exponent) - compressed(clean, exponent)) ** 2)
    assert loss(magnitude=1, exponent=exponent) == pytest.approx(magnitude, rel=1e-4)
    assert loss(complex=1, exponent=exponent) == pytest.approx(both, rel=1e-4)
    assert loss(magnitude=0.7, complex=0.3, exponent=exponent) == pytest.approx(0.7 * magnitude + 0.3 * both, rel=1e-4)
    assert loss(CLEAN, magnitude=1, complex=1, exponent=exponent) < 1e-9 < loss(magnitude=1, exponent=exponent)
    # A flipped sign is invisible to magnitudes and not to complex spectra.
    assert loss(-CLEAN, magnitude=1, exponent=exponent) < 1e-9 < loss(-CLEAN, complex=1, exponent=exponent)


def test_signal_and_noise_are_judged_alike() -> None:
    """The published sum, its noise estimated with the mask 1 - M, in float64."""
    estimate, clean, heard = spectra(NOISY), spectra(CLEAN), spectra(HEARD)
    mask = estimate / heard
    left = (1 - mask) * heard
    magnitudes = np.abs(np.abs(clean) - np.abs(estimate)).mean()
    noises = np.abs(np.abs(heard - clean) - np.abs(left)).mean()
    assert loss(spectra=1) == pytest.approx(magnitudes + noises, rel=1e-4)
    assert noises > 0.1 * magnitudes
    window = np.sqrt(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(64) / 64))
    frames = np.fft.irfft(left) * window
    noise = (frames[:, 1:, :32] + frames[:, :-1, 32:]).reshape(2, -1)[:, :320]
    samples = np.abs(CLEAN - NOISY).mean() + np.abs((HEARD - CLEAN) - noise).mean()
    assert loss(waveforms=1) == pytest.approx(samples, rel=1e-4)
    assert loss(waveforms=10, spectra=1) == pytest.approx(10 * samples + magnitudes + noises, rel=1e-4)
    # Silence leaves all the noise, and the speech in it.
    silent = np.zeros_like(CLEAN)
    assert loss(silent, waveforms=1) == pytest.approx(2 * np.abs(CLEAN).mean(), rel=1e-4)
    assert loss(CLEAN, waveforms=1, spectra=1) < 1e-4


def test_several_microphones_are_judged_at_the_reference() -> None:
    config = LossConfig(magnitude=0, complex=0, spectra=1)
    spectrum, clean = FRONTEND.spectrum(torch.from_numpy(NOISY)), torch.from_numpy(CLEAN)
    two = torch.from_numpy(np.stack([HEARD, NOISY], axis=1))
    assert float(task_loss(config, FRONTEND, spectrum, clean, two)) == pytest.approx(loss(spectra=1), rel=1e-6)
    assert float(task_loss(config, FRONTEND, spectrum, clean, two.flip(1))) != pytest.approx(loss(spectra=1), rel=1e-2)


def test_weights_of_later_losses_are_named_only_where_used() -> None:
    """Artifacts are known by these settings: a recipe without them is the one it was before they existed."""
    before = {"magnitude", "complex", "si_sdr", "stoi", "pesq", "exponent"}
    assert set(TrainConfig().model_dump(mode="json")["loss"]) == before
    used = TrainConfig(loss=LossConfig(waveforms=10)).model_dump(mode="json")["loss"]
    assert set(used) == before | {"waveforms"}
    assert LossConfig.model_validate(used) == LossConfig(waveforms=10)


def test_si_sdr_of_sounds_whose_error_is_known() -> None:
    time = np.arange(1000) / 1000
    clean, error = np.sin(2 * np.pi * 50 * time), np.cos(2 * np.pi * 50 * time)  # orthogonal, of equal power
    clean, error = (torch.from_numpy(sound.astype(np.float32))[None] for sound in (clean, error))
    for gain, decibels in ((1.0, 0.0), (0.1, 20.0), (10**-0.5, 10.0)):
        assert float(si_sdr(clean + gain * error, clean)) == pytest.approx(decibels, abs=1e-2)
        assert float(si_sdr(-3 * (clean + gain * error), clean)) == pytest.approx(decibels, abs=1e-2)
    # sum(e·s) = 3·1 + 4·1 = 7, sum(s²) = 2: target 3.5 each, power 24.5; error 0.5² + 0.5² = 0.5: 10 log10(49)
    assert float(si_sdr(torch.tensor([[3.0, 4.0]]), torch.tensor([[1.0, 1.0]]))) == pytest.approx(16.902, abs=1e-2)


def test_the_si_sdr_loss_is_its_negative_tenth() -> None:
    expected = -float(si_sdr(torch.from_numpy(NOISY), torch.from_numpy(CLEAN)).mean()) / 10
    assert loss(si_sdr=1) == pytest.approx(expected, rel=1e-4)
    assert loss(si_sdr=0.5, magnitude=1) == pytest.approx(0.5 * expected + loss(magnitude=1), rel=1e-4)


def test_the_perceptual_losses_count_by_their_weights() -> None:
    powers = [spectrum.abs().square() for spectrum in map(FRONTEND.spectrum, map(torch.from_numpy, (NOISY, CLEAN)))]
    stoi, pesq = (float(part(*powers, FRONTEND).mean()) for part in (intelligibility_loss, disturbance_loss))
    assert min(stoi, pesq) > 0.01
    assert abs(stoi - pesq) > 0.01
    assert loss(stoi=0.5) == pytest.approx(0.5 * stoi, rel=1e-4)
    assert loss(pesq=0.1) == pytest.approx(0.1 * pesq, rel=1e-4)
    assert loss(magnitude=1, stoi=2, pesq=3) == pytest.approx(loss(magnitude=1) + 2 * stoi + 3 * pesq, rel=1e-4)


def test_gradients_stay_finite_in_silence() -> None:
    config = LossConfig(magnitude=0.5, complex=0.5, si_sdr=0.1, stoi=0.1, pesq=0.1, waveforms=1, spectra=1)
    for estimate in (torch.zeros(1, 11, 33), 1e-12 * torch.randn(1, 11, 33), torch.randn(1, 11, 33)):
        spectrum = estimate.to(torch.complex64).requires_grad_(True)
        task_loss(config, FRONTEND, spectrum, torch.zeros(1, 320), torch.zeros(1, 320)).backward()
        assert spectrum.grad is not None
        assert bool(torch.view_as_real(spectrum.grad).isfinite().all())


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        # 100 steps, peak 1, floor 0.02; halfway down a half cosine is 0.02 + 0.98 / 2
        ("cosine", {0: 0.1, 4: 0.5 * (0.02 + 0.98 * (1 + np.cos(0.04 * np.pi)) / 2), 50: 0.51, 100: 0.02}),
        ("one_cycle", {0: 0.04, 15: 0.52, 30: 1.0, 65: 0.51, 100: 0.02}),
    ],
)
def test_a_schedule_passes_through_its_marks_without_jumps(schedule: str, expected: dict[int, float]) -> None:
    config = TrainConfig(epochs=4, steps_per_epoch=25, learning_rate=1, schedule=schedule, warmup_steps=10)
    assert {step: learning_rate(config, step) for step in expected} == pytest.approx(expected)
    rates = [learning_rate(config, step) for step in range(101)]
    top = int(np.argmax(rates))
    assert np.all(np.diff(rates[: top + 1]) > 0)
    assert np.all(np.diff(rates[top:]) < 0)
    assert np.max(np.abs(np.diff(rates))) < 0.11
    assert [10 * rate for rate in rates] == pytest.approx(
        [learning_rate(config.model_copy(update={"learning_rate": 10.0}), step) for step in range(101)]
    )


def test_two_step_teaching_follows_the_teacher_first_and_the_task_then() -> None:
    config = TeachingConfig(method="output", weight=0.3, epochs=2, steps_per_epoch=10)
    assert {shares(config, step) for step in range(20)} == {(1.0, 0.3)}
    config = config.model_copy(update={"two_step": 0.25})
    assert [shares(config, step) for step in (0, 4, 5, 19)] == [(0.0, 0.3), (0.0, 0.3), (1.0, 0.0), (1.0, 0.0)]


@pytest.mark.parametrize("schedule", ["cosine", "one_cycle"])
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_the_shortest_schedules_are_positive(schedule: str, steps: int) -> None:
    config = TrainConfig(epochs=1, steps_per_epoch=steps, schedule=schedule, warmup_steps=0)
    assert all(0 < learning_rate(config, step) <= config.learning_rate for step in range(steps))


@pytest.mark.parametrize(
    ("kind", "values", "words"),
    [
        (TrainConfig, {"epochs": 0}, "epochs"),
        (TrainConfig, {"learning_rate": float("nan")}, "finite"),
        (TeachingConfig, {"two_step": 0.5}, "name a method"),
        (TeachingConfig, {"only_where_better": True}, "name a method"),
        (TeachingConfig, {"method": "output", "two_step": 1.0}, "two_step"),
        (TrainConfig, {"schedule": "linear"}, "cosine"),
        (TrainConfig, {"loss": {"magnitude": 0, "complex": 0}}, "at least one weight"),
        (TrainConfig, {"launcher": {"devises": 2}}, "did you mean 'devices'"),
        (PruneConfig, {}, "exactly one of ratio and until"),
        (PruneConfig, {"ratio": 0.5, "until": {"parameters": 5}}, "exactly one of ratio and until"),
        (PruneConfig, {"ratio": 1.0}, "less than 1"),
        (PruneConfig, {"until": {"target": "host"}}, "at least one of parameters"),
    ],
)
def test_settings_that_cannot_be_are_refused(kind: type, values: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse(kind, values, "recipe.yaml")
