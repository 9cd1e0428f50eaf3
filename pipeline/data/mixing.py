"""The arithmetic of mixing: active speech level, SNR, level, room responses and random filters."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    from earshot.pipeline.data.base import Audio, Pcm

    Sound = TypeVar("Sound", Audio, Pcm)

FRAME_SECONDS = 0.02
ACTIVE_RANGE_DB = 35.0  # frames this far below the loudest one are pauses
EARLY_SECONDS = 0.05  # reflections up to here help intelligibility and stay in the target
PEAK = 0.99
INAUDIBLE = 1e-5  # RMS of -100 dBFS


def rms(sound: Audio) -> float:
    """Root mean square of `[samples]`, full scale 1."""
    # einsum: one thread, so that equal draws give equal bits on any machine load, and no temporary.
    return float(np.sqrt(np.einsum("s,s->", sound, sound) / max(len(sound), 1)))


def active_rms(speech: Audio, rate: int) -> float:
    """RMS over the 20 ms frames within 35 dB of the loudest: the level of speech without its pauses.

    A simple stand-in for the active speech level of ITU-T P.56.
    """
    size = max(1, int(FRAME_SECONDS * rate))
    frames = speech[: len(speech) // size * size].reshape(-1, size)
    if not len(frames):
        return rms(speech)
    power = np.einsum("fs,fs->f", frames, frames) / size
    return float(np.sqrt(power[power >= power.max() * 10 ** (-ACTIVE_RANGE_DB / 10)].mean()))


def mix(
    speech: Audio, noise: Audio, rate: int, *, snr_db: float, level_dbfs: float, target: Audio | None = None
) -> tuple[Audio, Audio]:
    """Adds noise to speech.

    Args:
        speech: what is heard, `[samples]`, or of several microphones `[microphones, samples]`.
        noise: likewise. Levels are those of the first microphone.
        rate: Hz.
        snr_db: active level of the speech over the RMS of the noise.
        level_dbfs: RMS of the mixture; less where a peak would clip.
        target: the clean reference, where it is not `speech` itself (reverberation).

    Returns:
        (clean, noisy), float32, shaped like target and speech. Inaudible noise or speech is left at its level.
    """
    clean = speech if target is None else target
    loud, quiet = active_rms(_reference(speech), rate), rms(_reference(noise))
    if loud > INAUDIBLE and quiet > INAUDIBLE:
        noise = noise * np.float32(loud / quiet * 10 ** (-snr_db / 20))
    noisy = speech + noise
    gain = 10 ** (level_dbfs / 20) / max(rms(_reference(noisy)), INAUDIBLE)
    peak = max(float(np.abs(noisy).max()), float(np.abs(clean).max()), INAUDIBLE)
    scale = np.float32(min(gain, PEAK / peak))
    return clean * scale, noisy * scale


def _reference(sound: Audio) -> Audio:
    """The first microphone's sound."""
    return sound if sound.ndim == 1 else sound[0]


def reverberate(speech: Audio, response: Audio, rate: int) -> tuple[Audio, Audio]:
    """(early, whole): speech in a room, `[samples]` as long as `speech`, aligned with it.

    The target keeps the direct sound and 50 ms of reflections, as in the DNS Challenge's dereverberating set-up.
    """
    from scipy.signal import oaconvolve

    direct = int(np.abs(response).argmax())
    response = response[direct:] / response[direct]
    early = response[: int(EARLY_SECONDS * rate)]
    size = len(speech)
    return oaconvolve(speech, early)[:size], oaconvolve(speech, response)[:size]


def random_filter(sound: Audio, rng: np.random.Generator) -> Audio:
    """A random second-order filter, so that a network does not learn one microphone's colour.

    H(z) = (1 + r1 z^-1 + r2 z^-2) / (1 + r3 z^-1 + r4 z^-2) with r drawn evenly from ±3/8: Valin, "A Hybrid
    DSP/Deep Learning Approach to Real-Time Full-Band Speech Enhancement", 2018, eq. 7. Always stable.
    """
    from scipy.signal import lfilter

    zeros, poles = rng.uniform(-3 / 8, 3 / 8, (2, 2)).astype(np.float32)
    one = np.ones(1, np.float32)
    return lfilter(np.concatenate([one, zeros]), np.concatenate([one, poles]), sound).astype(np.float32, copy=False)


def loop(sound: Sound, start: int, size: int) -> Sound:
    """`size` samples from `start`, begun again at the end."""
    if start + size <= len(sound):
        return sound[start : start + size]
    return np.take(sound, np.arange(start, start + size), mode="wrap")
