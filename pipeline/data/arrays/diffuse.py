"""Diffuse noise: as it comes from all sides at once, with the coherence of a spherically isotropic field.

    coherence of microphones p, q at f      sin(2 pi f d_pq / c) / (2 pi f d_pq / c)
    X(t, f) = G(f)^(1/2) N(t, f)            N: independent noises of equal spectrum, G: the coherence matrix

E. Habets, I. Cohen, S. Gannot, "Generating nonstationary multisensor signals under a spatial coherence constraint",
JASA 2008, section II; the symmetric square root in place of Cholesky's factor keeps every microphone's sound nearest to
the noise that went in.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from earshot.pipeline.data.arrays.geometry import Positions
from earshot.pipeline.data.arrays.rooms import SPEED_OF_SOUND

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from earshot.pipeline.data.base import Audio

WINDOW_SECONDS = 0.064


def coherence(microphones: Positions, frequencies: NDArray[np.float64]) -> NDArray[np.float64]:
    """Spatial coherence `[frequencies, microphones, microphones]` of a diffuse field, for frequencies in Hz."""
    places = np.array(microphones)
    distance = np.linalg.norm(places[:, None] - places[None], axis=-1)
    return np.sinc(2 * frequencies[:, None, None] * distance / SPEED_OF_SOUND)


@lru_cache(maxsize=512)  # every room of a training has an array of its own; 51 kB for five microphones at 16 kHz
def _roots(microphones: Positions, rate: int, size: int) -> NDArray[np.float32]:
    wanted: Any = coherence(microphones, np.arange(size // 2 + 1) * rate / size)
    values, vectors = np.linalg.eigh(wanted)
    # Close microphones are all but one at low frequencies: rounding makes the smallest eigenvalues negative.
    roots = (vectors * np.sqrt(values.clip(0))[:, None]) @ vectors.transpose(0, 2, 1)
    return np.ascontiguousarray(roots.transpose(1, 2, 0), np.float32)


def diffuse(noises: Audio, microphones: Positions, rate: int) -> Audio:
    """Gives independent noises the coherence of a diffuse field.

    Args:
        noises: float32 `[microphones, samples]`, independent of each other and alike in spectrum.
        microphones: places in metres.
        rate: Hz.

    Returns:
        float32 `[microphones, samples]`.
    """
    hop = round(WINDOW_SECONDS * rate / 2)
    size, samples = 2 * hop, noises.shape[-1]
    window = np.sqrt(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)).astype(np.float32)
    frames = -(-samples // hop) + 1
    padded = np.pad(noises, ((0, 0), (hop, frames * hop - samples)))
    framed = np.lib.stride_tricks.sliding_window_view(padded, size, axis=-1)[:, ::hop] * window
    spectra, roots = np.fft.rfft(framed, axis=-1), _roots(microphones, rate, size)  # roots [p, q, f]
    shaped = np.zeros_like(spectra)
    for other, spectrum in enumerate(spectra):  # what einsum gives, to the bit, in half the time
        shaped += roots[:, other, None] * spectrum
    parts = np.fft.irfft(shaped, size, axis=-1) * window
    whole = np.zeros((len(noises), (frames + 1) * hop))
    whole[:, :-hop] += parts[..., :hop].reshape(len(noises), -1)
    whole[:, hop:] += parts[..., hop:].reshape(len(noises), -1)
    return whole[:, hop : hop + samples].astype(np.float32)
