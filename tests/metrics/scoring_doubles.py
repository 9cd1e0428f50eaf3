"""Clips, metrics and enhancers that misbehave for real; worker processes import them by name."""

import os
import signal
import time
from dataclasses import dataclass

import numpy as np

from earshot.core.errors import DataError, ModelError
from earshot.pipeline.metrics.base import Metric, Signals

RATE = 16000
MARK = 0.123  # a clip that starts with this value triggers the doubles


def speech_like(seed: int, seconds: float = 3.0, rate: int = RATE) -> np.ndarray:
    """Noise with syllables and pauses: enough for PESQ to find utterances."""
    rng = np.random.default_rng(seed)
    time_axis = np.arange(round(seconds * rate)) / rate
    envelope = np.clip(np.sin(2 * np.pi * 3.1 * time_axis), 0, 1) * (np.sin(2 * np.pi * 0.45 * time_axis + 1) > -0.6)
    coloured = np.convolve(rng.standard_normal(time_axis.size), np.hanning(9) / 4, mode="same")
    return (0.2 * envelope * coloured).astype(np.float32)


def noisy_version(clean: np.ndarray, seed: int, level: float = 0.02) -> np.ndarray:
    return (clean + level * np.random.default_rng(seed + 1000).standard_normal(clean.size)).astype(np.float32)


@dataclass(frozen=True)
class MadeClip:
    id: str
    seed: int = 0
    group: str = "all"
    snr_db: float | None = None
    marked: bool = False
    seconds: float = 3.0
    broken: bool = False

    def load(self) -> tuple[np.ndarray, np.ndarray]:
        if self.broken:
            raise DataError(f"{self.id}.wav: not a sound file", "replace it")
        clean = speech_like(self.seed, self.seconds)
        noisy = noisy_version(clean, self.seed)
        if self.marked:
            clean[0] = noisy[0] = MARK
        return clean, noisy


def _is_marked(signals: Signals) -> bool:
    return abs(signals.clean[0] - MARK) < 1e-6


def _crash(signals: Signals) -> float:
    if _is_marked(signals):
        os.kill(os.getpid(), signal.SIGSEGV)
    return 1.0


def _hang(signals: Signals) -> float:
    if _is_marked(signals):
        time.sleep(600)
    return 1.0


def _nan(signals: Signals) -> float:
    return float("nan") if _is_marked(signals) else 1.0


def _raise(signals: Signals) -> float:
    if _is_marked(signals):
        raise RuntimeError("the library gave up")
    return 1.0


def _threads(_: Signals) -> float:
    return float(os.environ["OMP_NUM_THREADS"])


CRASH = Metric("crash", "1", True, "double", _crash)
HANG = Metric("hang", "1", True, "double", _hang)
NAN = Metric("nan", "1", True, "double", _nan)
RAISE = Metric("raise", "1", True, "double", _raise)
THREADS = Metric("threads", "1", True, "double", _threads)


@dataclass(frozen=True)
class Spoiler:
    """Spoils marked clips in a given way, and passes the others."""

    how: str

    def describe(self) -> str:
        return f"spoiler ({self.how})"

    def open(self, rate: int):
        if self.how == "damaged":
            raise ModelError("model.tflite: truncated", "convert it again")
        if self.how == "bug":
            raise KeyError("weights")

        def enhance(noisy: np.ndarray) -> np.ndarray:
            if abs(noisy[0] - MARK) > 1e-6:
                return noisy
            if self.how == "crash":
                os.kill(os.getpid(), signal.SIGSEGV)
            if self.how == "raise":
                raise RuntimeError("out of frames")
            return {"short": noisy[:-1], "nan": noisy * np.nan, "silent": 0 * noisy}[self.how]

        return enhance
