"""What can be scored: picklable descriptions of how noisy sound becomes enhanced sound, opened once in each worker."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from earshot.core.errors import ModelError, UsageError

Enhance = Callable[[np.ndarray], np.ndarray]


class Enhancer(Protocol):
    """A description of a way to enhance; it must pickle, so it holds paths and names, not open models."""

    def describe(self) -> str:
        """What is scored, for reports."""

    def open(self, rate: int) -> Enhance:
        """Called once in each worker. The result maps noisy sound to enhanced float32 `[samples]`, aligned, as long.

        Noisy is float32 `[samples]`, or of several microphones `[microphones, samples]`.

        Raises:
            ModelError: the model is damaged, or works at another rate than `rate` Hz or with another number of
                microphones; this ends the evaluation.
        """


class Clip(Protocol):
    """One clean/noisy pair; `earshot.pipeline.data.base.EvalPair` is one. It must pickle."""

    @property
    def id(self) -> str:
        """Unique in its set."""

    @property
    def group(self) -> str:
        """The part of the set it belongs to."""

    @property
    def snr_db(self) -> float | None:
        """Signal-to-noise ratio of the noisy signal, where known."""

    def load(self) -> tuple[np.ndarray, np.ndarray]:
        """Clean and noisy, float32 `[samples]` each, or noisy `[microphones, samples]`.

        Raises DataError, which ends the evaluation.
        """


@dataclass(frozen=True)
class Passthrough:
    """Changes nothing: the score of the noisy input itself, or of sound enhanced elsewhere (see `enhanced_clips`).

    Of several microphones it is the first.
    """

    label: str = "noisy"

    def describe(self) -> str:
        """The label."""
        return self.label

    def open(self, rate: int) -> Enhance:
        """The identity."""
        return _identity


@dataclass(frozen=True)
class TfliteEnhancer:
    """A stream model run frame by frame, states carried, on one thread: what a device does."""

    path: Path

    def describe(self) -> str:
        """The file's name."""
        return self.path.name

    def open(self, rate: int) -> Enhance:
        """Loads the model; every call starts a new stream."""
        from earshot.targets.stream import open_stream

        stream = open_stream(self.path, threads=1)
        _check_rate(self.path, stream.rate, rate)

        def enhance(noisy: np.ndarray) -> np.ndarray:
            _check_microphones(self.path, stream.stft.channels, noisy)
            return stream.enhance(np.ascontiguousarray(noisy.T))  # a stream takes [samples, microphones]

        return enhance


@dataclass(frozen=True)
class CheckpointEnhancer:
    """A torch checkpoint run over whole signals: the float parent."""

    path: Path

    def describe(self) -> str:
        """The file's name."""
        return self.path.name

    def open(self, rate: int) -> Enhance:
        """Loads the network in evaluation mode."""
        import torch

        from earshot.models import checkpoint

        torch.set_num_threads(1)
        model = checkpoint.load(self.path).eval()
        _check_rate(self.path, model.frontend.rate, rate)

        def enhance(noisy: np.ndarray) -> np.ndarray:
            _check_microphones(self.path, model.frontend.channels, noisy)
            with torch.inference_mode():
                return model.enhance(torch.from_numpy(noisy)[None])[0].numpy()

        return enhance


@dataclass(frozen=True)
class EnhancedClip:
    """A pair whose noisy side was enhanced already; score it with `Passthrough`."""

    source: Clip
    enhanced: np.ndarray

    @property
    def id(self) -> str:
        """As in the source."""
        return self.source.id

    @property
    def group(self) -> str:
        """As in the source."""
        return self.source.group

    @property
    def snr_db(self) -> float | None:
        """As in the source."""
        return self.source.snr_db

    def load(self) -> tuple[np.ndarray, np.ndarray]:
        """Clean, and the enhanced signal in place of the noisy one."""
        return self.source.load()[0], self.enhanced


def enhanced_clips(clips: Sequence[Clip], waveforms: Mapping[str, np.ndarray]) -> list[EnhancedClip]:
    """Pairs for waveforms enhanced elsewhere, by clip id. Raises UsageError where one is missing."""
    missing = [clip.id for clip in clips if clip.id not in waveforms]
    if missing:
        raise UsageError(f"no enhanced waveform for {len(missing)} clips, first: {missing[0]}")
    return [EnhancedClip(clip, waveforms[clip.id]) for clip in clips]


def _identity(noisy: np.ndarray) -> np.ndarray:
    return noisy if noisy.ndim == 1 else noisy[0]


def _check_microphones(path: Path, wanted: int, noisy: np.ndarray) -> None:
    found = 1 if noisy.ndim == 1 else len(noisy)
    if found != wanted:
        raise ModelError(
            f"{path}: takes the sound of {wanted} microphones, the data has {found}",
            f"open the data with {wanted} microphones",
        )


def _check_rate(path: Path, model_rate: int, rate: int) -> None:
    if model_rate != rate:
        raise ModelError(
            f"{path}: works at {model_rate} Hz, the data is at {rate} Hz", f"open the data at {model_rate} Hz"
        )
