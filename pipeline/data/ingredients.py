"""Material to mix: speech, noise and room responses, on the fly for training, as fixed mixes for evaluation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from earshot.core.errors import DataError
from earshot.pipeline.data.base import EvalPair
from earshot.pipeline.data.config import Mixing
from earshot.pipeline.data.holdout import hold_out, unit

if TYPE_CHECKING:
    from earshot.pipeline.data.base import Audio, TrainSampler

NOISE_GROUP = r"^([^_]+)"


@dataclass(frozen=True)
class FixedMix:
    """One mix whose every draw is already made.

    Attributes:
        speech, noise, rir: its files.
        rate: Hz.
        snr_db: active speech level over noise level.
        level_dbfs: RMS of the mixture.
        noise_at: where the noise begins, as a part of its length; it goes round.
        seconds: longest length, from the beginning of the speech; None keeps all of it.
        microphones: with more than one, speech and noise have a channel for each, levels are those of the first, and
            clean is the first channel of the speech.
    """

    speech: Path
    noise: Path
    rir: Path | None
    rate: int
    snr_db: float
    level_dbfs: float
    noise_at: float = 0.0
    seconds: float | None = None
    microphones: int = 1

    @property
    def files(self) -> tuple[Path, ...]:
        """Speech, noise and, where there is one, the room response."""
        return (self.speech, self.noise, *((self.rir,) if self.rir else ()))

    def load(self) -> tuple[Audio, Audio]:
        """(clean, noisy), float32 `[samples]`, or noisy `[microphones, samples]`. Raises DataError with the file."""
        if self.microphones > 1:
            return self._load_microphones()
        from earshot.pipeline.data.audio import SILENCE, read_audio
        from earshot.pipeline.data.mixing import loop, mix, reverberate, rms

        speech = read_audio(self.speech, self.rate)
        if self.seconds is not None:
            speech = speech[: round(self.seconds * self.rate)]
        noise = read_audio(self.noise, self.rate)
        noise = loop(noise, int(self.noise_at * len(noise)), len(speech))
        for path, sound in ((self.speech, speech), (self.noise, noise)):
            if rms(sound) < SILENCE:
                raise DataError(f"{path}: silent in the part that is mixed", "trim the silence, or remove the file")
        target = None
        if self.rir is not None:
            target, speech = reverberate(speech, read_audio(self.rir, self.rate, channel="first"), self.rate)
        return mix(speech, noise, self.rate, snr_db=self.snr_db, level_dbfs=self.level_dbfs, target=target)

    def _load_microphones(self) -> tuple[Audio, Audio]:
        import numpy as np

        from earshot.pipeline.data.audio import SILENCE, read_microphones
        from earshot.pipeline.data.mixing import mix, rms

        speech, noise = (read_microphones(path, self.rate, self.microphones) for path in (self.speech, self.noise))
        if self.seconds is not None:
            speech = speech[:, : round(self.seconds * self.rate)]
        start = int(self.noise_at * noise.shape[1])
        noise = np.take(noise, np.arange(start, start + speech.shape[1]), axis=1, mode="wrap")
        for path, sound in ((self.speech, speech), (self.noise, noise)):
            if rms(sound[0]) < SILENCE:
                raise DataError(f"{path}: silent in the part that is mixed", "trim the silence, or remove the file")
        clean, noisy = mix(speech, noise, self.rate, snr_db=self.snr_db, level_dbfs=self.level_dbfs)
        return clean[0], noisy

    def describe(self) -> dict[str, Any]:
        """The draws."""
        several = {"microphones": self.microphones} if self.microphones > 1 else {}
        return {
            "snr_db": self.snr_db,
            "level_dbfs": self.level_dbfs,
            "noise_at": self.noise_at,
            "seconds": self.seconds,
            **several,
        }


@dataclass(frozen=True)
class Ingredients:
    """Files to mix.

    Attributes:
        speech, noise, rir: files in a fixed order; `rir` may be empty.
        mixing: ranges and probabilities.
        speaker: the part of a speech file's name that stays together in a holdout, where the layout knows it.
        recording: the part of a noise file's name that does.
    """

    speech: tuple[Path, ...]
    noise: tuple[Path, ...]
    rir: tuple[Path, ...]
    mixing: Mixing
    speaker: str | None = None
    recording: str | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """Speech, then noise, then room responses."""
        return self.speech + self.noise + self.rir

    def describe(self) -> dict[str, Any]:
        """The mixing, and how many files are which."""
        return {"mixing": self.mixing.model_dump(), "files": [len(self.speech), len(self.noise), len(self.rir)]}

    def hold_out(self, fraction: float, by: str | None) -> tuple[Ingredients, Ingredients]:
        """Divides speech by speaker, noises by recording, rooms by file: what validates was never heard in training."""
        speech = hold_out(self.speech, _stem, fraction, by or self.speaker, "the speech files")
        noise = hold_out(self.noise, _stem, fraction, self.recording, "the noise files")
        rir = hold_out(self.rir, _stem, fraction, None, "the room responses") if self.rir else ((), ())
        rest, held = (replace(self, speech=speech[side], noise=noise[side], rir=rir[side]) for side in (0, 1))
        return rest, held

    def pairs(self, rate: int, count: int | None, seconds: float | None, seed: int) -> tuple[EvalPair, ...]:
        """`count` fixed mixes (default: one per speech file), without filters and second noises.

        Speech and noise files take turns in a drawn order, so that none is missing that could be there.
        """
        import numpy as np

        order = np.random.default_rng([seed, len(self.files)])
        speech, noise = (order.permutation(len(files)) for files in (self.speech, self.noise))
        made = []
        for index in range(count or len(self.speech)):
            rng = np.random.default_rng([seed, len(self.files), index])
            noise_file = self.noise[noise[index % len(noise)]]
            in_room = len(self.rir) > 0 and rng.random() < self.mixing.reverb
            source = FixedMix(
                speech=self.speech[speech[index % len(speech)]],
                noise=noise_file,
                rir=self.rir[int(rng.integers(len(self.rir)))] if in_room else None,
                rate=rate,
                snr_db=round(float(rng.uniform(*self.mixing.snr_db)), 2),
                level_dbfs=round(float(rng.uniform(*self.mixing.level_dbfs)), 2),
                noise_at=round(float(rng.random()), 6),
                seconds=seconds,
            )
            group = unit(noise_file.stem, NOISE_GROUP)
            made.append(EvalPair(f"mix{index:04d}_{source.speech.stem}", group, source.snr_db, source))
        return tuple(made)

    def sampler(self, rate: int, seed: int, seconds: float) -> TrainSampler:
        """Mixes on the fly."""
        from earshot.pipeline.data.sampler import MixSampler

        return MixSampler(self, rate, seed, seconds)


def _stem(path: Path) -> str:
    return path.stem
