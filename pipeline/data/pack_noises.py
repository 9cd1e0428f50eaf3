"""The synthesised noises of the embedded pack: eight kinds, each a function of a generator and its own parameters.

Every rendering has a seed of its own, and the splits use different parameters too: another engine speed, another gust,
another mains frequency.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from earshot.pipeline.data.base import Split

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Signal = NDArray[np.float64]

Points = Sequence[tuple[float, float]]  # (Hz, dB), straight lines between them over log frequency


def shaped(rng: np.random.Generator, samples: int, rate: int, points: Points) -> Signal:
    """Gaussian noise of unit RMS whose spectrum follows `points`."""
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    frequency = np.maximum(np.fft.rfftfreq(samples, 1 / rate), 1.0)
    hertz, decibel = zip(*points, strict=True)
    spectrum *= 10 ** (np.interp(np.log(frequency), np.log(hertz), decibel) / 20)
    return _unit(np.fft.irfft(spectrum, samples))


def wander(rng: np.random.Generator, samples: int, rate: int, hertz: float) -> Signal:
    """A random curve, roughly ±2, that changes about `hertz` times a second."""
    knots = rng.standard_normal(int(samples / rate * hertz) + 3)
    return np.interp(np.arange(samples) / rate * hertz, np.arange(len(knots)), knots)


def _unit(sound: Signal) -> Signal:
    return sound / np.sqrt(np.mean(np.square(sound)))


def _harmonics(rng: np.random.Generator, phase: Signal, count: int, falloff: float) -> Signal:
    """Sum of `count` harmonics of a running phase in cycles, the k-th weaker by k^falloff."""
    order = np.arange(1, count + 1)
    weights = rng.uniform(0.4, 1.0, count) / order**falloff
    shifts = rng.uniform(0, 2 * np.pi, count)
    return _unit(sum(w * np.sin(2 * np.pi * k * phase + s) for k, w, s in zip(order, weights, shifts, strict=True)))


def car(rng: np.random.Generator, samples: int, rate: int, *, rpm: float, road: float, engine: float) -> Signal:
    """A cabin: the firing order of a four-stroke engine and its harmonics over the rumble of the road.

    `rpm`: crankshaft speed; `road`: Hz above which the tyre noise falls by 12 dB an octave; `engine`: its share.
    """
    speed = rpm / 60 * (1 + 0.02 * wander(rng, samples, rate, 1.5))
    motor = _harmonics(rng, np.cumsum(speed) / rate, 24, 1.5)  # crankshaft orders; the even ones fire
    rumble = shaped(rng, samples, rate, ((20, -6), (60, 0), (road, -6), (8 * road, -48), (rate / 2, -72)))
    return engine * motor + rumble * (1 + 0.15 * wander(rng, samples, rate, 4))


def wind(rng: np.random.Generator, samples: int, rate: int, *, corner: float, gusts: float, whistle: float) -> Signal:
    """Gusts on a microphone: low noise that swells, with a thin resonance.

    `corner`: Hz above which it falls; `gusts`: swells a second; `whistle`: Hz of the resonance.
    """
    swell = np.exp(0.7 * wander(rng, samples, rate, gusts))
    low = shaped(rng, samples, rate, ((20, 0), (corner, -4), (4 * corner, -36), (rate / 2, -68)))
    thin = shaped(rng, samples, rate, ((whistle / 2, -40), (whistle, 0), (whistle * 1.5, -35), (rate / 2, -60)))
    return low * swell + 0.03 * thin * swell**2


def kitchen(rng: np.random.Generator, samples: int, rate: int, *, clatter: float, ring: float, frying: float) -> Signal:
    """Frying and a fan, with dishes that ring when they touch.

    `clatter`: touches a second; `ring`: Hz around which they ring; `frying`: level of the hiss.
    """
    hiss = shaped(rng, samples, rate, ((60, -14), (300, -4), (900, 0), (3000, -9), (rate / 2, -24)))
    fan = shaped(rng, samples, rate, ((40, 0), (250, -3), (1200, -22), (rate / 2, -50)))
    sound = frying * hiss * (1 + 0.3 * wander(rng, samples, rate, 12)) + 0.7 * fan
    time = np.arange(samples) / rate
    for start in rng.uniform(0, samples / rate, max(1, round(clatter * samples / rate))):
        since = np.maximum(time - start, 0.0)
        for mode in ring * rng.uniform(0.4, 1.3, 4):
            decay = np.exp(-since / rng.uniform(0.015, 0.08)) * (time >= start)
            sound += rng.uniform(0.4, 1.4) * decay * np.sin(2 * np.pi * mode * since)
    return sound


def street(rng: np.random.Generator, samples: int, rate: int, *, rumble: float, passing: float, horn: float) -> Signal:
    """Distant traffic, cars that pass, and a horn.

    `rumble`: Hz of the traffic's edge; `passing`: seconds a car takes to pass; `horn`: Hz.
    """
    sound = shaped(rng, samples, rate, ((30, -3), (rumble, 0), (6 * rumble, -26), (rate / 2, -55)))
    time, length = np.arange(samples) / rate, samples / rate
    for centre in np.arange(rng.uniform(0, passing), length + passing, 1.6 * passing):
        tyres = shaped(rng, samples, rate, ((50, -8), (600, 0), (1500, -8), (rate / 2, -38)))
        sound += rng.uniform(0.7, 1.4) * tyres * np.exp(-0.5 * np.square((time - centre) / (0.3 * passing)))
    begin = rng.uniform(0.1, 0.6) * length
    beep = 0.35 * (np.sin(2 * np.pi * horn * time) + 0.8 * np.sin(2 * np.pi * 1.26 * horn * time))
    return sound + beep * (1 / (1 + np.exp(-80 * (time - begin)))) * (1 / (1 + np.exp(80 * (time - begin - 0.35))))


def hum(rng: np.random.Generator, samples: int, rate: int, *, mains: float, count: int, hiss: float) -> Signal:
    """Mains hum with its harmonics over a little hiss. `mains`: Hz; `count`: harmonics; `hiss`: level."""
    drift = mains * (1 + 0.001 * wander(rng, samples, rate, 0.5))
    tone = _harmonics(rng, np.cumsum(drift) / rate, count, 1.0)
    return tone + hiss * shaped(rng, samples, rate, ((50, -6), (1000, 0), (rate / 2, -8)))


def white(rng: np.random.Generator, samples: int, rate: int, *, edge: float) -> Signal:
    """Equal power per Hz up to `edge` Hz."""
    return shaped(rng, samples, rate, ((1, 0), (edge, 0), (edge * 1.12, -40), (rate, -60)))


def pink(rng: np.random.Generator, samples: int, rate: int, *, slope: float) -> Signal:
    """Power that falls by `slope` dB an octave above 40 Hz."""
    return shaped(rng, samples, rate, ((40, 0), (rate / 2, -slope * np.log2(rate / 80))))


def babble(rng: np.random.Generator, samples: int, rate: int, *, talkers: Sequence[Signal]) -> Signal:
    """Many talkers at once, each from another place and at a slightly other level."""
    sound = np.zeros(samples)
    for talker in talkers:
        begin = int(rng.integers(len(talker)))
        sound += rng.uniform(0.6, 1.2) * _unit(np.take(talker, np.arange(begin, begin + samples), mode="wrap"))
    return sound


KINDS: dict[str, Callable[..., Signal]] = {
    "car": car,
    "babble": babble,
    "wind": wind,
    "kitchen": kitchen,
    "street": street,
    "hum": hum,
    "white": white,
    "pink": pink,
}

# One rendering per entry; babble's `talkers` is how many.
RENDERINGS: dict[str, dict[Split, tuple[dict[str, Any], ...]]] = {
    "car": {
        "train": (
            {"rpm": 1500, "road": 110, "engine": 0.9},
            {"rpm": 2700, "road": 170, "engine": 0.5},
            {"rpm": 950, "road": 240, "engine": 0.7},
        ),
        "validation": ({"rpm": 2100, "road": 140, "engine": 0.8},),
        "test": ({"rpm": 3300, "road": 205, "engine": 0.6},),
    },
    "babble": {
        "train": ({"talkers": 5}, {"talkers": 7}, {"talkers": 3}),
        "validation": ({"talkers": 4},),
        "test": ({"talkers": 6},),
    },
    "wind": {
        "train": (
            {"corner": 90, "gusts": 1.5, "whistle": 900},
            {"corner": 160, "gusts": 2.5, "whistle": 1500},
            {"corner": 260, "gusts": 0.8, "whistle": 600},
        ),
        "validation": ({"corner": 120, "gusts": 2.0, "whistle": 1100},),
        "test": ({"corner": 200, "gusts": 1.2, "whistle": 1300},),
    },
    "kitchen": {
        "train": (
            {"clatter": 2.0, "ring": 2600, "frying": 0.6},
            {"clatter": 4.0, "ring": 3600, "frying": 0.3},
            {"clatter": 1.0, "ring": 1800, "frying": 1.0},
        ),
        "validation": ({"clatter": 3.0, "ring": 2200, "frying": 0.45},),
        "test": ({"clatter": 2.5, "ring": 3100, "frying": 0.8},),
    },
    "street": {
        "train": (
            {"rumble": 80, "passing": 1.6, "horn": 400},
            {"rumble": 140, "passing": 2.4, "horn": 340},
            {"rumble": 220, "passing": 1.1, "horn": 520},
        ),
        "validation": ({"rumble": 110, "passing": 2.0, "horn": 460},),
        "test": ({"rumble": 180, "passing": 1.4, "horn": 370},),
    },
    "hum": {
        "train": (
            {"mains": 50.0, "count": 20, "hiss": 0.02},
            {"mains": 60.0, "count": 32, "hiss": 0.05},
            {"mains": 100.0, "count": 24, "hiss": 0.005},
        ),
        "validation": ({"mains": 120.0, "count": 16, "hiss": 0.03},),
        "test": ({"mains": 55.0, "count": 28, "hiss": 0.01},),
    },
    "white": {
        "train": ({"edge": 6800}, {"edge": 5200}),
        "validation": ({"edge": 6000},),
        "test": ({"edge": 6400},),
    },
    "pink": {
        "train": ({"slope": 3.0}, {"slope": 2.2}, {"slope": 4.2}),
        "validation": ({"slope": 2.6},),
        "test": ({"slope": 3.5},),
    },
}
