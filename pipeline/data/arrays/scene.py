"""One talker and his noises in a room, as the microphones of an array hear them.

talker ──> response to every microphone ─────────────┐
directional noises ──> responses, each at equal level├─> + ──> [microphones, samples]
diffuse noise of a drawn level, noise of the microphones┘
clean = the talker's direct sound and 50 ms of reflections at the reference microphone
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from earshot.pipeline.data.arrays.diffuse import diffuse
from earshot.pipeline.data.arrays.geometry import Position, Positions, positions
from earshot.pipeline.data.arrays.rooms import LEAD, SPEED_OF_SOUND, impulse_responses
from earshot.pipeline.data.config import ScenesConfig
from earshot.pipeline.data.mixing import EARLY_SECONDS, INAUDIBLE, mix, rms

if TYPE_CHECKING:
    from earshot.pipeline.data.base import Audio

ARRAY_FROM_WALL_M = 1.0
SOURCE_FROM_WALL_M = 0.3
SOURCE_HEIGHT_M = 0.3  # most above or below the array
NOISE_DISTANCE_M = (1.0, 4.0)


@dataclass(frozen=True)
class Scene:
    """A room and who is where in it, in metres from its corner.

    Attributes:
        size: of the room.
        rt60: its reverberation time in seconds.
        microphones: the reference first.
        talker: where speech comes from.
        noises: where directional noises come from.
    """

    size: Position
    rt60: float
    microphones: Positions
    talker: Position
    noises: Positions

    def responses(self, rate: int) -> Audio:
        """float32 `[1 + noises, microphones, taps]`, the talker's first. Raises UsageError without pyroomacoustics."""
        return impulse_responses(self.size, self.rt60, (self.talker, *self.noises), self.microphones, rate)

    def early_taps(self, rate: int) -> int:
        """Taps of the talker's response at the reference that belong to the clean sound."""
        direct = math.dist(self.talker, self.microphones[0]) / SPEED_OF_SOUND
        return LEAD + round((direct + EARLY_SECONDS) * rate)


def draw_scene(config: ScenesConfig, rng: np.random.Generator) -> Scene:
    """Draws a room, an array turned about the vertical, a talker, and noises around them.

    A source beyond a wall is moved straight towards the array until it is in the room.
    """
    size = np.array([rng.uniform(*extent) for extent in config.size_m])
    rt60 = float(rng.uniform(*config.rt60_s))
    centre = rng.uniform(ARRAY_FROM_WALL_M, size - ARRAY_FROM_WALL_M)
    turn = rng.uniform(0, 2 * np.pi)
    rotation = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    microphones = centre + np.array(positions(config.microphones)) @ rotation.T

    def somewhere(distances: tuple[float, float], degrees: tuple[float, float] = (0, 360)) -> Position:
        angle, distance = turn + np.radians(rng.uniform(*degrees)), rng.uniform(*distances)
        height = rng.uniform(-SOURCE_HEIGHT_M, SOURCE_HEIGHT_M)
        away = np.array([distance * np.cos(angle), distance * np.sin(angle), height])
        room = np.where(away > 0, size - SOURCE_FROM_WALL_M - centre, centre - SOURCE_FROM_WALL_M)
        return _position(centre + away * min(1.0, (room / np.abs(away).clip(1e-9)).min()))

    talker = somewhere(config.talker_m, config.talker_deg)
    count = int(rng.integers(config.directional[0], config.directional[1] + 1))
    noises = tuple(somewhere(NOISE_DISTANCE_M) for _ in range(count))
    return Scene(_position(size), rt60, tuple(map(_position, microphones)), talker, noises)


@dataclass(frozen=True)
class Levels:
    """How loud what is.

    Attributes:
        snr_db: active speech level over the level of all noise, at the reference.
        level_dbfs: RMS of the mixture at the reference.
        diffuse_db: level of the diffuse noise over that of all directional ones.
        microphones_db: level of the microphones' own noise over that of all other noise.
    """

    snr_db: float
    level_dbfs: float
    diffuse_db: float
    microphones_db: float


def draw_levels(config: ScenesConfig, rng: np.random.Generator) -> Levels:
    """Draws evenly from the ranges."""
    ranges = (config.snr_db, config.level_dbfs, config.diffuse_db, config.microphones_db)
    return Levels(*(round(float(rng.uniform(*limits)), 2) for limits in ranges))


def listen(
    scene: Scene,
    responses: Audio,
    levels: Levels,
    speech: Audio,
    directional: Sequence[Audio],
    surrounding: Audio,
    rate: int,
    rng: np.random.Generator,
) -> tuple[Audio, Audio]:
    """What the microphones of a scene hear.

    Args:
        scene: who is where.
        responses: of the scene.
        levels: how loud.
        speech: float32 `[samples]`.
        directional: one noise a source of the scene, `[samples]` each.
        surrounding: independent noises for the diffuse field, `[microphones, samples]`.
        rate: Hz.
        rng: of the microphones' own noise.

    Returns:
        (clean `[samples]`, noisy `[microphones, samples]`), float32, clean aligned with the first microphone.
    """
    talker = _through(speech, responses[0])
    clean = _through(speech, responses[0, :1, : scene.early_taps(rate)])[0]
    points = np.zeros_like(talker)
    for sound, response in zip(directional, responses[1:], strict=True):
        heard = _through(sound, response)
        points += heard / np.float32(max(rms(heard[0]), INAUDIBLE))
    around: Audio = diffuse(surrounding, scene.microphones, rate)
    noise: Audio = points + around * _gain(around[0], points[0] if directional else None, levels.diffuse_db)
    own = rng.standard_normal(talker.shape, np.float32)
    noise = noise + own * _gain(own[0], noise[0], levels.microphones_db)
    return mix(talker, noise, rate, snr_db=levels.snr_db, level_dbfs=levels.level_dbfs, target=clean)


def _through(sound: Audio, responses: Audio) -> Audio:
    from scipy.signal import oaconvolve

    heard: Audio = oaconvolve(sound[None], responses, axes=-1)[:, : len(sound)].astype(np.float32, copy=False)
    return heard


def _gain(sound: Audio, beside: Audio | None, decibel: float) -> np.float32:
    """What brings a sound to a level over another's; to 1 where there is no other."""
    wanted = rms(beside) * 10 ** (decibel / 20) if beside is not None else 1.0
    return np.float32(wanted / max(rms(sound), INAUDIBLE))


def _position(place: np.ndarray) -> Position:
    x, y, z = (round(float(value), 4) for value in place)
    return x, y, z
