"""Training batches of several microphones: speech and noise in rooms that are simulated once and used again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from earshot.pipeline.data.arrays.material import spread
from earshot.pipeline.data.arrays.scene import Scene, draw_levels, draw_scene, listen
from earshot.pipeline.data.sampler import MixSampler, PcmCache, to_float

if TYPE_CHECKING:
    from earshot.pipeline.data.arrays.material import ArrayIngredients
    from earshot.pipeline.data.base import Audio

TRAINING = 0  # keeps the draws of training's scenes apart from those of fixed ones
# Of all samplers of a process: a teacher and its students, with one seed, train in the same rooms.
_rooms = PcmCache(1 << 28)


@dataclass(frozen=True)
class _Simulated:
    scene: Scene
    responses: Audio

    @property
    def nbytes(self) -> int:
        return int(self.responses.nbytes)


class ArraySampler(MixSampler):
    """Draws a scene, speech and noises for every item.

    Args:
        ingredients: files and scenes.
        rate: Hz.
        seed: with step and index it decides every draw.
        seconds: length of a segment.
    """

    def __init__(self, ingredients: ArrayIngredients, rate: int, seed: int, seconds: float) -> None:
        super().__init__(ingredients.dry, rate, seed, seconds)
        self._scenes = ingredients.scenes

    def _item(self, rng: np.random.Generator) -> tuple[Audio, Audio]:
        """(clean `[samples]`, noisy `[microphones, samples]`)."""
        simulated = self._scene(int(rng.integers(self._scenes.count)))
        scene = simulated.scene
        speech = self._speech(rng)
        directional = [self._noise(rng) for _ in scene.noises]
        around = to_float(self._draw(self._files.noise, rng))
        surrounding = spread(around, float(rng.random()), len(scene.microphones), self._samples)
        levels = draw_levels(self._scenes, rng)
        return listen(scene, simulated.responses, levels, speech, directional, surrounding, self._rate, rng)

    def _scene(self, number: int) -> _Simulated:
        def simulate() -> _Simulated:
            scene = draw_scene(self._scenes, np.random.default_rng([self._seed, TRAINING, number]))
            return _Simulated(scene, _rooms.get((scene, self._rate), lambda: scene.responses(self._rate)))

        return self._cache.get(number, simulate)
