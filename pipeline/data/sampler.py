"""Training batches: segments cut from pairs, or mixed on the fly from speech, noise and room responses."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from earshot.pipeline.data.audio import read_audio
from earshot.pipeline.data.mixing import INAUDIBLE, loop, mix, random_filter, reverberate, rms

if TYPE_CHECKING:
    from earshot.pipeline.data.audio import Channel
    from earshot.pipeline.data.base import Audio, EvalPair, Pcm
    from earshot.pipeline.data.ingredients import Ingredients

FULL_SCALE = 32768.0
TRIES = 8  # draws before a segment without sound is accepted
LONGEST_GAP_SECONDS = 0.3
SECOND_NOISE_DB = (-10.0, 0.0)


def to_pcm(sound: Audio) -> Pcm:
    """Float32 to 16 bit, half the memory."""
    return np.clip(np.rint(sound * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)


def to_float(pcm: Pcm) -> Audio:
    """16 bit to float32, full scale ±1."""
    return pcm.astype(np.float32) * np.float32(1 / FULL_SCALE)


def quarter_of_memory() -> int:
    """Bytes."""
    import psutil

    return psutil.virtual_memory().total // 4


class _Sized(Protocol):
    @property
    def nbytes(self) -> int:
        """Memory it takes."""


Kept = TypeVar("Kept", bound=_Sized)


class PcmCache:
    """Decoded sound and the like, kept up to `limit` bytes; the longest unused goes first. Thread-safe."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._size = 0
        self._kept: OrderedDict[Hashable, Any] = OrderedDict()
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type[PcmCache], tuple[int]]:
        """A process that is handed a sampler begins with an empty cache."""
        return PcmCache, (self._limit,)

    def get(self, key: Hashable, load: Callable[[], Kept]) -> Kept:
        """The sound under `key`, loaded when it is not there."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                found: Kept = self._kept[key]
                return found
        fresh = load()  # outside the lock: two threads may load the same file, none waits
        with self._lock:
            if key not in self._kept:
                self._kept[key] = fresh
                self._size += fresh.nbytes
            while self._size > self._limit and len(self._kept) > 1:
                self._size -= self._kept.popitem(last=False)[1].nbytes
        return fresh


class MixSampler:
    """Mixes speech with noise as the DNS Challenge does: drawn SNR, level, filters, a second noise, a room.

    Args:
        ingredients: files, ranges and probabilities.
        rate: Hz.
        seed: with step and index it decides every draw.
        seconds: length of a segment.
    """

    def __init__(self, ingredients: Ingredients, rate: int, seed: int, seconds: float) -> None:
        self._files = ingredients
        self._mixing = ingredients.mixing
        self._rate = rate
        self._seed = seed
        self._samples = round(seconds * rate)
        self._cache = PcmCache(quarter_of_memory())

    def batch(self, step: int, size: int) -> tuple[Audio, Audio]:
        """(clean, noisy), float32 `[size, samples]` each. Raises DataError that names a file that is not sound."""
        items = [self._item(np.random.default_rng([self._seed, step, index])) for index in range(size)]
        return np.stack([clean for clean, _ in items]), np.stack([noisy for _, noisy in items])

    def _item(self, rng: np.random.Generator) -> tuple[Audio, Audio]:
        mixing = self._mixing
        speech, noise = self._speech(rng), self._noise(rng)
        if rng.random() < mixing.second_noise:
            second = self._noise(rng)
            relative = rms(noise) / max(rms(second), INAUDIBLE) * 10 ** (rng.uniform(*SECOND_NOISE_DB) / 20)
            noise = noise + second * np.float32(relative)
        if rng.random() < mixing.filters:
            speech = random_filter(speech, rng)
        if rng.random() < mixing.filters:
            noise = random_filter(noise, rng)
        target = None
        if self._files.rir and rng.random() < mixing.reverb:
            target, speech = reverberate(speech, to_float(self._draw(self._files.rir, rng, "first")), self._rate)
        snr, level = rng.uniform(*mixing.snr_db), rng.uniform(*mixing.level_dbfs)
        return mix(speech, noise, self._rate, snr_db=snr, level_dbfs=level, target=target)

    def _speech(self, rng: np.random.Generator) -> Audio:
        """A segment full of speech: a cut from a long file, or several short ones with small gaps."""
        for _ in range(TRIES):
            segment = join(lambda: self._draw(self._files.speech, rng), self._samples, self._rate, rng)
            if rms(segment) > INAUDIBLE:
                break
        return segment

    def _noise(self, rng: np.random.Generator) -> Audio:
        """A segment of noise; short files go round."""
        for _ in range(TRIES):
            pcm = self._draw(self._files.noise, rng)
            segment = to_float(loop(pcm, int(rng.integers(len(pcm))), self._samples))
            if rms(segment) > INAUDIBLE:
                break
        return segment

    def _draw(self, files: Sequence[Path], rng: np.random.Generator, channel: Channel = "mean") -> Pcm:
        path = files[int(rng.integers(len(files)))]
        return self._cache.get(path, lambda: to_pcm(read_audio(path, self._rate, "HQ", channel)))


class PairSampler:
    """Cuts the same segment from the clean and the noisy recording of a pair, of all its microphones.

    Args:
        pairs: what to cut from.
        rate: Hz.
        seed: with step and index it decides every draw.
        seconds: length of a segment.
    """

    def __init__(self, pairs: Sequence[EvalPair], rate: int, seed: int, seconds: float) -> None:
        self._pairs = pairs
        self._rate = rate
        self._seed = seed
        self._samples = round(seconds * rate)
        self._cache = PcmCache(quarter_of_memory())

    def batch(self, step: int, size: int) -> tuple[Audio, Audio]:
        """(clean, noisy), float32 `[size, samples]`, noisy of several microphones `[size, microphones, samples]`.

        Raises DataError that names a file that is not sound.
        """
        items = []
        for index in range(size):
            rng = np.random.default_rng([self._seed, step, index])
            items.append(join(partial(self._draw, rng), self._samples, self._rate, rng))
        stacked = np.stack(items)
        noisy = stacked[:, 1] if stacked.shape[1] == 2 else stacked[:, 1:]  # clean and one microphone, or several
        return np.ascontiguousarray(stacked[:, 0]), np.ascontiguousarray(noisy)

    def _draw(self, rng: np.random.Generator) -> Pcm:
        pair = self._pairs[int(rng.integers(len(self._pairs)))]
        return self._cache.get(pair.id, lambda: to_pcm(np.vstack(pair.load())))


def join(draw: Callable[[], Pcm], samples: int, rate: int, rng: np.random.Generator) -> Audio:
    """Float32 `[..., samples]`: a random cut of one drawn sound, or of several with short gaps when they are short."""
    sound = draw()
    segment = np.zeros((*sound.shape[:-1], samples), np.float32)
    position = 0
    while True:
        length = sound.shape[-1]
        start = int(rng.integers(max(length - samples + 1, length // 4)))
        part = sound[..., start : start + samples - position]
        segment[..., position : position + part.shape[-1]] = to_float(part)
        position += part.shape[-1] + int(rng.uniform(0, LONGEST_GAP_SECONDS) * rate)
        if position >= samples:
            return segment
        sound = draw()
