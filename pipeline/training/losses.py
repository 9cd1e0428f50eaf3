"""The task loss: how far an estimate is from the clean signal.

    S, Y            clean and estimated spectra, complex64 [batch, frames, bins]
    magnitude       mean (|Y|^c - |S|^c)²
    complex         mean | |Y|^(c-1) Y - |S|^(c-1) S |²
    si_sdr          mean -SI-SDR(y, s) / 10        (Le Roux et al. 2019, eq. 3)
    stoi, pesq      see `perceptual.py`

Compressed-spectrum losses follow Ephrat et al. 2018 and Braun & Tashev 2021 (arXiv 2009.12286, eq. 5).
"""

from __future__ import annotations

import torch
from torch import Tensor

from earshot.models.frontend import Frontend
from earshot.pipeline.training.config import LossConfig
from earshot.pipeline.training.perceptual import disturbance_loss, intelligibility_loss

_EPSILON = 1e-6


def task_loss(config: LossConfig, frontend: Frontend, estimate: Tensor, clean: Tensor) -> Tensor:
    """The weighted sum above.

    Args:
        config: weights and exponent.
        frontend: rebuilds waveforms for SI-SDR.
        estimate: complex64 `[batch, frames, bins]`.
        clean: float32 `[batch, samples]`.

    Returns:
        A scalar.
    """
    target = frontend.spectrum(clean)
    total = estimate.real.new_zeros(())
    if config.magnitude or config.complex:
        magnitude = (estimate.real.square() + estimate.imag.square() + _EPSILON**2).sqrt()
        wanted = (target.real.square() + target.imag.square() + _EPSILON**2).sqrt()
        squeezed, wanted_squeezed = magnitude**config.exponent, wanted**config.exponent
        if config.magnitude:
            total = total + config.magnitude * (squeezed - wanted_squeezed).square().mean()
        if config.complex:
            error = estimate * (squeezed / magnitude) - target * (wanted_squeezed / wanted)
            total = total + config.complex * (error.real.square() + error.imag.square()).mean()
    if config.si_sdr:
        signal = frontend.signal(estimate, clean.shape[-1])
        total = total - config.si_sdr * si_sdr(signal, clean).mean() / 10
    if config.stoi or config.pesq:
        power, wanted_power = (spectrum.real.square() + spectrum.imag.square() for spectrum in (estimate, target))
        if config.stoi:
            total = total + config.stoi * intelligibility_loss(power, wanted_power, frontend).mean()
        if config.pesq:
            total = total + config.pesq * disturbance_loss(power, wanted_power, frontend).mean()
    return total


def si_sdr(estimate: Tensor, clean: Tensor) -> Tensor:
    """Scale-invariant signal-to-distortion ratio in dB, `[batch]`, of float32 `[batch, samples]`."""
    scale = (estimate * clean).sum(-1, keepdim=True) / (clean.square().sum(-1, keepdim=True) + _EPSILON)
    wanted = scale * clean
    power, error = wanted.square().sum(-1), (estimate - wanted).square().sum(-1)
    return 10 * torch.log10((power + _EPSILON) / (error + _EPSILON))
