"""The task loss: how far an estimate is from the clean signal.

    S, Y            clean and estimated spectra, complex64 [batch, frames, bins]
    magnitude       mean (|Y|^c - |S|^c)²
    complex         mean | |Y|^(c-1) Y - |S|^(c-1) S |²
    si_sdr          mean -SI-SDR(y, s) / 10        (Le Roux et al. 2019, eq. 3)
    stoi, pesq      see `perceptual.py`
    waveforms       mean |y - s| + mean |v' - v|           v = x - s, v' = x - y: the noise, and what y leaves of x
    spectra         mean ||Y| - |S|| + mean ||V'| - |V||   V = X - S, V' = X - Y

Compressed-spectrum losses follow Ephrat et al. 2018 and Braun & Tashev 2021 (arXiv 2009.12286, eq. 5).
Known (system 3, arXiv 2507.19208): waveforms 10, spectra 1, with the noise estimated by the mask 1 - M.
"""

from __future__ import annotations

import torch
from torch import Tensor

from earshot.models.frontend import Frontend
from earshot.pipeline.training.config import LossConfig
from earshot.pipeline.training.perceptual import disturbance_loss, intelligibility_loss

_EPSILON = 1e-6


def task_loss(
    config: LossConfig, frontend: Frontend, estimate: Tensor, clean: Tensor, noisy: Tensor | None = None
) -> Tensor:
    """The weighted sum above.

    Args:
        config: weights and exponent.
        frontend: rebuilds waveforms for SI-SDR.
        estimate: complex64 `[batch, frames, bins]`.
        clean: float32 `[batch, samples]`.
        noisy: what the estimate was made of, likewise, or `[batch, channels, samples]` whose first channel counts; only
            `spectra` needs it.

    Returns:
        A scalar.
    """
    target = frontend.spectrum(clean)
    total = estimate.real.new_zeros(())
    if config.magnitude or config.complex:
        magnitude, wanted = _size(estimate), _size(target)
        squeezed, wanted_squeezed = magnitude**config.exponent, wanted**config.exponent
        if config.magnitude:
            total = total + config.magnitude * (squeezed - wanted_squeezed).square().mean()
        if config.complex:
            error = estimate * (squeezed / magnitude) - target * (wanted_squeezed / wanted)
            total = total + config.complex * (error.real.square() + error.imag.square()).mean()
    if config.si_sdr or config.waveforms:
        signal = frontend.signal(estimate, clean.shape[-1])
        if config.si_sdr:
            total = total - config.si_sdr * si_sdr(signal, clean).mean() / 10
        if config.waveforms:
            total = total + config.waveforms * 2 * (signal - clean).abs().mean()  # v' - v = s - y
    if config.spectra:
        assert noisy is not None
        heard = frontend.spectrum(noisy if noisy.dim() == 2 else noisy[:, 0])
        parts = ((estimate, target), (heard - estimate, heard - target))
        total = total + config.spectra * sum((_size(ours) - _size(theirs)).abs().mean() for ours, theirs in parts)
    if config.stoi or config.pesq:
        power, wanted_power = (spectrum.real.square() + spectrum.imag.square() for spectrum in (estimate, target))
        if config.stoi:
            total = total + config.stoi * intelligibility_loss(power, wanted_power, frontend).mean()
        if config.pesq:
            total = total + config.pesq * disturbance_loss(power, wanted_power, frontend).mean()
    return total


def _size(spectrum: Tensor) -> Tensor:
    """Magnitudes whose gradient at zero is finite."""
    return (spectrum.real.square() + spectrum.imag.square() + _EPSILON**2).sqrt()


def si_sdr(estimate: Tensor, clean: Tensor) -> Tensor:
    """Scale-invariant signal-to-distortion ratio in dB, `[batch]`, of float32 `[batch, samples]`."""
    scale = (estimate * clean).sum(-1, keepdim=True) / (clean.square().sum(-1, keepdim=True) + _EPSILON)
    wanted = scale * clean
    power, error = wanted.square().sum(-1), (estimate - wanted).square().sum(-1)
    return 10 * torch.log10((power + _EPSILON) / (error + _EPSILON))
