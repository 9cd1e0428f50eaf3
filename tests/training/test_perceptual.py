"""Differentiable STOI and PESQ against the metrics themselves, on speech in noise from the embedded pack."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import pytest
import torch
from pesq import pesq
from pystoi import stoi
from scipy.stats import spearmanr
from torch import Tensor

from earshot.models.frontend import Frontend
from earshot.pipeline.data.config import DataConfig, EmbeddedConfig
from earshot.pipeline.data.open import open_data
from earshot.pipeline.training.perceptual import disturbance_loss, intelligibility_loss

RATE = 16000
FRONTEND = Frontend(rate=RATE)
Loss = Callable[[Tensor, Tensor, Frontend], Tensor]
LOSSES = pytest.mark.parametrize("loss", [intelligibility_loss, disturbance_loss])


@lru_cache
def pairs() -> list[tuple[np.ndarray, np.ndarray]]:
    data = open_data(DataConfig(validation=EmbeddedConfig()), RATE)
    return [pair.load() for pair in data.validation[::2]]


def power(sound: np.ndarray, frontend: Frontend = FRONTEND) -> Tensor:
    spectrum = frontend.spectrum(torch.from_numpy(np.asarray(sound, np.float32))[None])
    return spectrum.real.square() + spectrum.imag.square()


def lost(loss: Loss, estimate: np.ndarray, clean: np.ndarray) -> float:
    return float(loss(power(estimate), power(clean), FRONTEND))


def noisier_and_cleaner() -> list[tuple[np.ndarray, np.ndarray]]:
    """(clean, degraded): every mix at its own noise level, at half of it, and low-passed by a moving mean."""
    ways = [lambda c, n: n, lambda c, n: c + 0.5 * (n - c), lambda c, n: np.convolve(n, np.ones(6) / 6, "same")]
    return [(clean, way(clean, noisy)) for clean, noisy in pairs() for way in ways]


def pesq_wb(clean: np.ndarray, degraded: np.ndarray) -> float:
    return float(pesq(RATE, clean, degraded.astype(np.float32), "wb"))


def test_the_intelligibility_loss_is_one_minus_stoi() -> None:
    cases = noisier_and_cleaner()
    expected = np.array([stoi(clean, degraded, RATE) for clean, degraded in cases])
    found = np.array([1 - lost(intelligibility_loss, degraded, clean) for clean, degraded in cases])
    assert len(cases) >= 20
    assert np.abs(found - expected).mean() < 0.03
    assert spearmanr(found, expected)[0] > 0.93
    others = np.array([1 - lost(intelligibility_loss, np.roll(degraded, RATE), clean) for clean, degraded in cases])
    assert others.max() < 0.6, "a sound that is a second late is understood as well"


def test_the_disturbance_falls_where_pesq_rises() -> None:
    cases = noisier_and_cleaner()
    expected = [pesq_wb(clean, degraded) for clean, degraded in cases]
    found = [lost(disturbance_loss, degraded, clean) for clean, degraded in cases]
    assert spearmanr(found, expected)[0] < -0.9
    # SI-SDR is what a loss that only knew the noise's level would follow; it ranks worse.
    error = [10 * np.log10(np.sum((d - c) ** 2) / np.sum(c**2)) for c, d in cases]
    assert spearmanr(found, expected)[0] < spearmanr(error, expected)[0]


@LOSSES
def test_a_perfect_estimate_loses_nothing_at_any_level(loss: Loss) -> None:
    for clean, noisy in pairs()[:3]:
        degraded = lost(loss, noisy, clean)
        assert lost(loss, clean, clean) < 0.02 * degraded
        for gain in (0.25, 2.0):
            assert lost(loss, gain * noisy, clean) == pytest.approx(degraded, rel=0.02)
            assert lost(loss, gain * noisy, gain * clean) == pytest.approx(degraded, rel=0.02)


def test_noise_that_is_added_disturbs_more_than_speech_that_is_missing() -> None:
    """P.862's asymmetry: the same band 12 dB too loud or too quiet."""
    clean = power(pairs()[0][0])
    bins = slice(40, 80)
    louder, quieter = clean.clone(), clean.clone()
    louder[..., bins] *= 16
    quieter[..., bins] /= 16
    # The mean gain of a band is forgiven, so the change comes and goes.
    for changed in (louder, quieter):
        changed[:, ::2] = clean[:, ::2]
    assert float(disturbance_loss(louder, clean, FRONTEND)) > 1.2 * float(disturbance_loss(quieter, clean, FRONTEND))


@pytest.mark.parametrize(
    ("loss", "metric", "gain"),
    [
        (intelligibility_loss, lambda clean, sound: stoi(clean, sound, RATE), 0.03),
        (disturbance_loss, pesq_wb, 0.3),
    ],
)
def test_a_mask_that_descends_the_loss_raises_the_metric(loss: Loss, metric: Callable, gain: float) -> None:
    clean, noisy = min(pairs(), key=lambda pair: pesq_wb(*pair))
    spectrum, wanted = FRONTEND.spectrum(torch.from_numpy(noisy)[None]), power(clean)
    reached = {}
    for direction in (1, -1):
        logits = torch.full(spectrum.shape, 2.0, requires_grad=True)
        optimiser = torch.optim.Adam([logits], lr=0.2)
        for _ in range(25):
            masked = spectrum * torch.sigmoid(logits)
            value = direction * loss(masked.real.square() + masked.imag.square(), wanted, FRONTEND).sum()
            optimiser.zero_grad()
            value.backward()
            optimiser.step()
        enhanced = FRONTEND.signal(spectrum * torch.sigmoid(logits.detach()), len(noisy))[0].numpy()
        reached[direction] = metric(clean, enhanced)
    before = metric(clean, noisy)
    assert reached[1] > before + gain
    assert reached[-1] < before


@LOSSES
@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_mixed_precision_changes_nothing(loss: Loss, precision: torch.dtype) -> None:
    clean, noisy = pairs()[0]
    with torch.autocast("cpu", precision):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == precision
        found = lost(loss, noisy, clean)
    assert found == lost(loss, noisy, clean)


@LOSSES
@pytest.mark.parametrize("estimate", [0.0, 1e-12, 1.0])
@pytest.mark.parametrize("clean", [0.0, 1e-12, 1.0])
def test_values_and_gradients_stay_finite_in_silence(loss: Loss, estimate: float, clean: float) -> None:
    torch.manual_seed(0)
    found = (estimate * torch.rand(2, 40, FRONTEND.bins)).requires_grad_(True)
    values = loss(found, clean * torch.rand(2, 40, FRONTEND.bins), FRONTEND)
    assert values.shape == (2,)
    assert bool(values.isfinite().all())
    values.sum().backward()
    assert found.grad is not None
    assert bool(found.grad.isfinite().all())


@LOSSES
@pytest.mark.parametrize(("rate", "window"), [(8000, 256), (48000, 1024)])
def test_other_rates_rank_alike(loss: Loss, rate: int, window: int) -> None:
    frontend = Frontend(rate=rate, window=window, hop=window // 2, fft=window)
    dice = np.random.default_rng(3)
    time = np.arange(rate) / rate
    clean, noise = 0.1 * np.sin(2 * np.pi * 4 * time) * dice.standard_normal(rate), dice.standard_normal(rate)
    scores = [
        float(loss(power(clean + level * noise, frontend), power(clean, frontend), frontend))
        for level in (0.001, 0.01, 0.1)
    ]
    assert scores == sorted(scores)
    assert scores[0] < 0.5 * scores[2]
