"""Differentiable stand-ins for STOI and PESQ, so that a network can be trained towards what its output is judged by.

Both work on power spectra of the frontend's own frames and return one value per sound.

    intelligibility   1 - STOI                         Taal et al. 2011, eq. 1-5, without the removal of silent frames:
                                                       a segment counts by the part of its frames that are not silent
    disturbance       0.1 D + 0.0309 A                 ITU-T P.862, section 10.2: what is taken off 4.5 MOS, with the
                                                       symmetric and the asymmetric disturbance D and A; bands of half a
                                                       Bark and an analytic threshold of hearing in place of its tables,
                                                       and no time alignment: estimate and clean sound are aligned

As losses for training: Fu et al. 2018 (arXiv 1709.03658), Martín-Doñas et al. 2018 (10.1109/LSP.2018.2871419).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from earshot.models.frontend import Frontend

_EPSILON = 1e-9  # of power; a full-scale tone has about 1e4
_ROUNDING = 1e-6  # under square roots of disturbances, whose slope at zero would have no end

_THIRD_OCTAVES, _LOWEST_HZ = 15, 150.0
_SEGMENT_SECONDS = 0.384
_SEGMENTS_EVERY = 2  # frames; neighbours share 23 of 24, so every second one says as much at half the cost
_CLIP = 1 + 10 ** (15 / 20)  # an envelope counts up to a signal-to-distortion ratio of -15 dB
_SILENT = 1e-4  # 40 dB below the loudest frame

_BARK = 0.5  # width of a band
_SPEECH_BAND_HZ = (350.0, 3250.0)  # which is brought to the same level in both sounds
_LEVEL = 1e7  # mean power of that band where 1 is 0 dB SPL
_AUDIBLE = 1e4  # power of a frame that counts in the mean spectra
_ZWICKER = 0.23
_FRAME_LIMIT = 45.0
_SYLLABLE_SECONDS = 0.32  # within it the loudest disturbance rules (L6), over the whole sound the square mean


def intelligibility_loss(estimate: Tensor, clean: Tensor, frontend: Frontend) -> Tensor:
    """1 - STOI, `[batch]`, between about 0 and 1.

    Args:
        estimate: power spectra, float32 `[batch, frames, bins]`.
        clean: of the clean sound, alike; at least 0.384 s.
        frontend: rate and hop of the frames.
    """
    bands = torch.from_numpy(_third_octaves(frontend)).to(clean.device)
    length = min(max(2, round(_SEGMENT_SECONDS / frontend.hop_seconds)), clean.shape[1])
    level = clean.sum(-1)
    heard = (level > level.amax(1, keepdim=True) * _SILENT).float().unfold(1, length, _SEGMENTS_EVERY).mean(-1)
    found, wanted = (
        (_banded(power, bands) + _EPSILON).sqrt().unfold(1, length, _SEGMENTS_EVERY) for power in (estimate, clean)
    )
    scale = (wanted.square().sum(-1, keepdim=True) / (found.square().sum(-1, keepdim=True) + _EPSILON)).sqrt()
    found = torch.minimum(found * scale, wanted * _CLIP)
    found, wanted = (envelope - envelope.mean(-1, keepdim=True) for envelope in (found, wanted))
    norms = [(envelope.square().sum(-1) + _EPSILON).sqrt() for envelope in (found, wanted)]
    correlation = ((found * wanted).sum(-1) / (norms[0] * norms[1])).mean(-1)
    return 1 - (correlation * heard).sum(1) / (heard.sum(1) + _EPSILON)


def disturbance_loss(estimate: Tensor, clean: Tensor, frontend: Frontend) -> Tensor:
    """What P.862 takes off its best score, `[batch]`, in MOS before the mapping to MOS-LQO.

    Args:
        estimate: power spectra, float32 `[batch, frames, bins]`.
        clean: of the clean sound, alike.
        frontend: rate and hop of the frames.
    """
    scale = _bark_scale(frontend)
    bands, speech, threshold = (torch.from_numpy(part).to(clean.device) for part in scale)
    found, wanted = (_banded(_levelled(power, speech), bands) / _BARK for power in (estimate, clean))
    # What is a matter of the channel is forgiven: the mean gain of a band, then the gain of a frame.
    heard = (wanted.sum(-1, keepdim=True) > _AUDIBLE).float()
    spectra = [
        (power * heard).sum(1, keepdim=True) / heard.sum(1, keepdim=True).clamp(min=1) for power in (found, wanted)
    ]
    wanted = wanted * ((spectra[0] + 1e3) / (spectra[1] + 1e3)).clamp(0.01, 100)
    audible = [(power * (power > threshold)).sum(-1, keepdim=True) for power in (found, wanted)]
    found = found * ((audible[1] + 5e3) / (audible[0] + 5e3)).clamp(3e-4, 5)
    loudness, wanted_loudness = _loudness(found, threshold), _loudness(wanted, threshold)
    error = loudness - wanted_loudness
    masked = 0.25 * torch.minimum(loudness, wanted_loudness)
    error = torch.relu(error.abs() - masked)
    # Noise that is added disturbs more than speech that is missing.
    added = ((found + 50) / (wanted + 50)).detach() ** 1.2
    added = torch.where(added < 3, torch.zeros_like(added), added.clamp(max=12))
    width = _BARK * len(threshold)
    quiet = (((wanted.sum(-1) * _BARK) + 1e5) / 1e7) ** 0.04
    symmetric = (width * (error.square().mean(-1) + _ROUNDING).sqrt() / quiet).clamp(max=_FRAME_LIMIT)
    asymmetric = (width * (error * added).mean(-1) / quiet).clamp(max=_FRAME_LIMIT)
    frames = round(_SYLLABLE_SECONDS / frontend.hop_seconds)
    return 0.1 * _over_time(symmetric, frames) + 0.0309 * _over_time(asymmetric, frames)


def _banded(power: Tensor, bands: Tensor) -> Tensor:
    """Power of every band, in full precision: half floats end at 65504."""
    with torch.autocast(power.device.type, enabled=False):
        return power.float() @ bands


def _levelled(power: Tensor, speech: Tensor) -> Tensor:
    """Spectra whose mean power in the speech band is that of 70 dB SPL."""
    return power * (_LEVEL / ((power * speech).sum(-1).mean(-1) + _EPSILON))[:, None, None]


def _loudness(power: Tensor, threshold: Tensor) -> Tensor:
    """Sone per Bark (Zwicker), with P.862's scale."""
    gain = 0.1866 * (threshold / 0.5) ** _ZWICKER
    return gain * ((0.5 + 0.5 * power / threshold) ** _ZWICKER - 1).clamp(min=0)


def _over_time(disturbance: Tensor, frames: int) -> Tensor:
    """One value per sound of `[batch, frames]`: L6 within half-overlapping stretches of `frames`, L2 over them."""
    frames = min(frames, disturbance.shape[1])
    stretches = disturbance.unfold(1, frames, max(1, frames // 2))
    loudest = ((stretches + _ROUNDING**0.5) ** 6).mean(-1) ** (1 / 6)
    return (loudest.square().mean(1) + _ROUNDING).sqrt()


@lru_cache
def _third_octaves(frontend: Frontend) -> np.ndarray:
    """Which bin belongs to which third-octave band below half the rate, float32 `[bins, bands]`."""
    hertz = np.arange(frontend.bins) * frontend.rate / frontend.fft
    centres = _LOWEST_HZ * 2 ** (np.arange(_THIRD_OCTAVES) / 3)
    centres = centres[centres * 2 ** (1 / 6) <= frontend.rate / 2]
    member = (hertz[:, None] >= centres * 2 ** (-1 / 6)) & (hertz[:, None] < centres * 2 ** (1 / 6))
    nearest = np.abs(hertz[:, None] - centres).argmin(0)
    member[nearest, np.arange(len(centres))] = True  # a band narrower than a bin has the nearest one
    return member.astype(np.float32)


@lru_cache
def _bark_scale(frontend: Frontend) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bins to bands, float32 `[bins, bands]`; bins of the speech band, `[bins]`; threshold of hearing, `[bands]`.

    Bark after Zwicker & Terhardt 1980, threshold in quiet after Terhardt 1979. The lowest bin is left out.
    """
    hertz = np.arange(frontend.bins) * frontend.rate / frontend.fft
    bark = 13 * np.arctan(7.6e-4 * hertz) + 3.5 * np.arctan((hertz / 7500) ** 2)
    band = np.floor(bark / _BARK)
    used = np.unique(band[1:])
    member = (band[:, None] == used) & (hertz[:, None] > 0)
    kilohertz = np.maximum((member * hertz[:, None]).sum(0) / member.sum(0), 60) / 1000
    decibels = 3.64 * kilohertz**-0.8 - 6.5 * np.exp(-0.6 * (kilohertz - 3.3) ** 2) + 1e-3 * kilohertz**4
    speech = (hertz > _SPEECH_BAND_HZ[0]) & (hertz < _SPEECH_BAND_HZ[1])
    return member.astype(np.float32), speech.astype(np.float32), (10 ** (decibels / 10)).astype(np.float32)
