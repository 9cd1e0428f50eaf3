"""Where the microphones of an array are: named compact arrays, or positions in metres.

A position is [x, y, z] relative to the array's own origin; in a room the array is set down at a place and turned about
the vertical. The first microphone is the reference. Microphones stand in free field: there is no head and no housing.
"""

from __future__ import annotations

from collections.abc import Sequence

Position = tuple[float, float, float]
Positions = tuple[Position, ...]

MOST = 16
WIDEST_M = 1.0  # rooms keep so much space around an array

PRESETS: dict[str, Positions] = {
    # One in the middle, four on a circle of 4 cm radius.
    "compact5": ((0, 0, 0), (0.04, 0, 0), (0, 0.04, 0), (-0.04, 0, 0), (0, -0.04, 0)),
    # One hearing aid on each ear, a head's width apart.
    "ears": ((0, 0.08, 0), (0, -0.08, 0)),
    # Front and rear microphone of one hearing aid.
    "hearing_aid": ((0.006, 0, 0), (-0.006, 0, 0)),
    # A square of 10 cm, as on a conference unit.
    "square4": ((-0.05, -0.05, 0), (-0.05, 0.05, 0), (0.05, 0.05, 0), (0.05, -0.05, 0)),
}


def checked(microphones: str | Sequence[Position]) -> str | Positions:
    """A preset's name, or positions, as they are. Raises ValueError that says what is wrong."""
    if isinstance(microphones, str):
        if microphones not in PRESETS:
            raise ValueError(f"no array is called '{microphones}'; there are {', '.join(sorted(PRESETS))}")
        return microphones
    positions = tuple(microphones)
    if not 2 <= len(positions) <= MOST:
        raise ValueError(f"an array has 2 to {MOST} microphones, not {len(positions)}")
    if len(set(positions)) < len(positions):
        raise ValueError("two microphones are at the same place")
    if max(abs(value) for position in positions for value in position) > WIDEST_M / 2:
        raise ValueError(f"positions are metres from the array's middle, at most {WIDEST_M / 2} along each axis")
    return positions


def positions(microphones: str | Positions) -> Positions:
    """Positions in metres, the reference first."""
    return PRESETS[microphones] if isinstance(microphones, str) else microphones
