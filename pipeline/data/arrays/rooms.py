"""Room impulse responses by the image-source method (Allen and Berkley 1979, pyroomacoustics).

walls       all of one absorption, by Sabine's formula:  a = 24 ln 10 V / (c S RT60)
images      up to the order whose nearest images are c * RT60 away
direct      arrives LEAD + rate * d / c samples after the source's sound, with level 1 / d
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from earshot.core.errors import UsageError
from earshot.pipeline.data.arrays.geometry import Position

if TYPE_CHECKING:
    from earshot.pipeline.data.base import Audio

SPEED_OF_SOUND = 343.0  # m/s in dry air of 20 degrees C
LEAD = 40  # samples: half of the windowed sinc by which fractions of a sample are delayed


def absorption(size: Position, rt60: float) -> float:
    """Energy absorption of walls that give a room of `size` metres an RT60 in seconds; above 1 there are none."""
    width, depth, height = size
    surface = 2 * (width * depth + width * height + depth * height)
    return 24 * math.log(10) * width * depth * height / (SPEED_OF_SOUND * surface * rt60)


def image_order(size: Position, rt60: float) -> int:
    """The reflection order within which lie all images that sound before RT60 is over."""
    width, depth, height = size
    faces = ((width, depth), (width, height), (depth, height))
    nearest = min(a * b / math.hypot(a, b) for a, b in faces)  # grows by so many metres with every order
    return max(0, math.ceil(SPEED_OF_SOUND * rt60 / nearest - 1))


def impulse_responses(
    size: Position, rt60: float, sources: Sequence[Position], microphones: Sequence[Position], rate: int
) -> Audio:
    """Responses from every source to every microphone of a shoe-box room.

    Args:
        size: width, depth and height in metres.
        rt60: reverberation time in seconds; 0 is a free field.
        sources: places in metres from the room's corner.
        microphones: likewise.
        rate: Hz.

    Returns:
        float32 `[sources, microphones, taps]`, equal to the bit on every machine load.

    Raises:
        UsageError: pyroomacoustics is not installed.
    """
    import numpy as np

    try:
        import pyroomacoustics
    except ImportError as error:
        raise UsageError("rooms are simulated by pyroomacoustics, which is not installed", _INSTALL) from error
    # Threads add up images in parts, whose rounding would depend on how many cores there are.
    pyroomacoustics.constants.set("num_threads", 1)
    walls, order = (absorption(size, rt60), image_order(size, rt60)) if rt60 else (1.0, 0)
    room = pyroomacoustics.ShoeBox(size, fs=rate, materials=pyroomacoustics.Material(min(walls, 1.0)), max_order=order)
    for place in sources:
        room.add_source(place)
    room.add_microphone_array(np.array(microphones).T)
    room.compute_rir()
    farthest = max(math.dist(source, microphone) for source in sources for microphone in microphones)
    taps = 2 * LEAD + math.ceil((rt60 + farthest / SPEED_OF_SOUND) * rate)
    responses = np.zeros((len(sources), len(microphones), taps), np.float32)
    for microphone, row in enumerate(room.rir):
        for source, response in enumerate(row):
            part = response[:taps]
            responses[source, microphone, : len(part)] = part
    return responses


_INSTALL = "pip install 'earshot[arrays]'"
