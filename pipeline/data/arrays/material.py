"""Speech and noise files as an array hears them: on the fly for training, as fixed scenes for evaluation."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from earshot.core.errors import DataError
from earshot.pipeline.data.arrays.scene import Levels, Scene, draw_levels, draw_scene, listen
from earshot.pipeline.data.base import EvalPair
from earshot.pipeline.data.config import ScenesConfig
from earshot.pipeline.data.holdout import unit
from earshot.pipeline.data.ingredients import NOISE_GROUP, Ingredients

if TYPE_CHECKING:
    from earshot.pipeline.data.base import Audio, TrainSampler

FIXED = 1  # keeps the draws of fixed scenes apart from those of training


@dataclass(frozen=True)
class FixedScene:
    """One scene whose every draw is already made.

    Attributes:
        speech: the talker's file.
        noises: a file for every directional source, then the one the diffuse field is made of.
        scene: who is where.
        levels: how loud.
        noise_at: where the noises begin, as a part of their length; they go round.
        seed: of the microphones' own noise.
        rate: Hz.
        seconds: longest length, from the beginning of the speech; None keeps all of it.
    """

    speech: Path
    noises: tuple[Path, ...]
    scene: Scene
    levels: Levels
    noise_at: float
    seed: int
    rate: int
    seconds: float | None

    @property
    def files(self) -> tuple[Path, ...]:
        """Speech, then noises."""
        return (self.speech, *self.noises)

    def load(self) -> tuple[Audio, Audio]:
        """(clean `[samples]`, noisy `[microphones, samples]`), float32. Raises DataError that names the file."""
        from earshot.pipeline.data.audio import SILENCE, read_audio
        from earshot.pipeline.data.mixing import loop, rms

        speech = read_audio(self.speech, self.rate)
        if self.seconds is not None:
            speech = speech[: round(self.seconds * self.rate)]
        if rms(speech) < SILENCE:
            raise DataError(f"{self.speech}: silent in the part that is used", "trim the silence, or remove the file")
        *points, around = (read_audio(path, self.rate) for path in self.noises)
        size = len(speech)
        directional = [loop(sound, int(self.noise_at * len(sound)), size) for sound in points]
        surrounding = spread(around, self.noise_at, len(self.scene.microphones), size)
        responses = self.scene.responses(self.rate)
        rng = np.random.default_rng(self.seed)
        return listen(self.scene, responses, self.levels, speech, directional, surrounding, self.rate, rng)

    def describe(self) -> dict[str, Any]:
        """The draws."""
        return {
            "scene": asdict(self.scene),
            "levels": asdict(self.levels),
            "noise_at": self.noise_at,
            "seed": self.seed,
            "seconds": self.seconds,
        }


@dataclass(frozen=True)
class ArrayIngredients:
    """Files to mix, and the scenes to mix them in.

    Attributes:
        dry: speech and noise files; levels are the scenes'.
        scenes: array, rooms, distances and levels.
        input_snr_db: of fixed scenes, in turn; drawn from the scenes' range where empty.
    """

    dry: Ingredients
    scenes: ScenesConfig
    input_snr_db: tuple[float, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """Speech, then noise."""
        return self.dry.files

    def describe(self) -> dict[str, Any]:
        """The scenes, and what the files say."""
        return {"scenes": self.scenes.model_dump(mode="json"), **self.dry.describe()}

    def hold_out(self, fraction: float, by: str | None) -> tuple[ArrayIngredients, ArrayIngredients]:
        """Divides speech by speaker, noises by file; the rooms of fixed scenes are never those of training."""
        rest, held = self.dry.hold_out(fraction, by)
        return replace(self, dry=rest), replace(self, dry=held)

    def pairs(self, rate: int, count: int | None, seconds: float | None, seed: int) -> tuple[EvalPair, ...]:
        """`count` fixed scenes (default: one per speech file).

        They are grouped by their input SNR where those are given, else by the kind of the first noise in them.
        """
        speech_files, noise_files = self.dry.speech, self.dry.noise
        order = np.random.default_rng([seed, FIXED, len(self.files)])
        speech, noise = (order.permutation(len(files)) for files in (speech_files, noise_files))
        made = []
        turn = 0
        for index in range(count or len(speech_files)):
            rng = np.random.default_rng([seed, FIXED, len(self.files), index])
            scene, levels = draw_scene(self.scenes, rng), draw_levels(self.scenes, rng)
            if self.input_snr_db:
                levels = replace(levels, snr_db=self.input_snr_db[index % len(self.input_snr_db)])
            sources = len(scene.noises) + 1
            source = FixedScene(
                speech=speech_files[speech[index % len(speech)]],
                noises=tuple(noise_files[noise[(turn + number) % len(noise)]] for number in range(sources)),
                scene=scene,
                levels=levels,
                noise_at=round(float(rng.random()), 6),
                seed=int(rng.integers(2**31)),
                rate=rate,
                seconds=seconds,
            )
            turn += sources
            group = f"snr{levels.snr_db:g}" if self.input_snr_db else unit(source.noises[0].stem, NOISE_GROUP)
            made.append(EvalPair(f"scene{index:04d}_{source.speech.stem}", group, levels.snr_db, source))
        return tuple(made)

    def sampler(self, rate: int, seed: int, seconds: float) -> TrainSampler:
        """Mixes on the fly."""
        from earshot.pipeline.data.arrays.sampler import ArraySampler

        return ArraySampler(self, rate, seed, seconds)


def spread(sound: Audio, at: float, count: int, size: int) -> Audio:
    """`[count, size]`: cuts of one noise as far from each other as its length allows, so that they are independent."""
    from earshot.pipeline.data.mixing import loop

    starts = [int((at + number / count) % 1 * len(sound)) for number in range(count)]
    return np.stack([loop(sound, start, size) for start in starts])
