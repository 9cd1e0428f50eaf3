"""The voices of the embedded pack: espeak-ng and flite, disjoint between the splits."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from earshot.core.errors import ToolError
from earshot.pipeline.data.audio import read_audio
from earshot.pipeline.data.base import Split

if TYPE_CHECKING:
    from earshot.pipeline.data.base import Audio

PACKAGES = {"espeak-ng": "espeak-ng", "flite": "flite"}  # program: Debian package
TRIM_DB = 40.0
MARGIN_SECONDS = 0.04
FRAME_SECONDS = 0.01


@dataclass(frozen=True)
class Voice:
    """One speaker.

    Attributes:
        name: short, without underscores; begins the file name.
        engine: the program that speaks.
        voice: its name there.
        pitch: espeak-ng's pitch, 0 to 99.
        speed: espeak-ng's words a minute; flite is stretched by 170 / speed.
    """

    name: str
    engine: Literal["espeak-ng", "flite"]
    voice: str
    pitch: int = 50
    speed: int = 170


def _espeak(voice: str, pitch: int, speed: int = 170) -> Voice:
    name = "".join(letter for letter in voice.removeprefix("en-").replace("x-", "") if letter.isalnum())
    return Voice(name.lower(), "espeak-ng", voice, pitch, speed)


SPEAKERS: dict[Split, tuple[Voice, ...]] = {
    "train": (
        Voice("slt", "flite", "slt", speed=175),
        Voice("rms", "flite", "rms", speed=185),
        _espeak("en-us+m3", 45),
        _espeak("en-gb+f2", 55, 165),
        _espeak("en-gb-scotland+m1", 40),
        _espeak("en-us+f3", 62, 175),
        _espeak("en-gb-x-rp+m7", 35, 165),
        _espeak("en-029+f4", 50),
        _espeak("en-gb-x-gbclan+m5", 48, 175),
        _espeak("en-us-nyc+f1", 58, 165),
        _espeak("en-us+Andy", 42),
        _espeak("en-gb+Linda", 52, 170),
    ),
    "validation": (
        Voice("kal16", "flite", "kal16", speed=180),
        _espeak("en-us+f5", 54, 168),
        _espeak("en-gb-x-rp+m6", 44),
    ),
    "test": (
        Voice("awb", "flite", "awb", speed=195),
        _espeak("en-gb-x-gbcwmd+m4", 46),
        _espeak("en-us+Annie", 57, 168),
        _espeak("en-gb-scotland+steph2", 50, 172),
        _espeak("en-us-nyc+m8", 38),
    ),
}

CROWDS: dict[Split, tuple[Voice, ...]] = {
    "train": tuple(
        _espeak(f"en-us+{name}", 50) for name in ("max", "paul", "robert", "steph", "Marco", "Hugo", "aunty")
    ),
    "validation": tuple(_espeak(f"en-gb+{name}", 50) for name in ("Michael", "ed", "anika", "Diogo", "Andrea")),
    "test": tuple(_espeak(f"en-029+{name}", 50) for name in ("Alex", "victor", "belinda", "Gene", "Zac", "Henrique")),
}


def require_engines() -> None:
    """Raises ToolError that names the packages of the programs that are missing."""
    missing = [package for program, package in PACKAGES.items() if shutil.which(program) is None]
    if missing:
        raise ToolError(f"{' and '.join(missing)}: not on the PATH", f"install it: apt-get install {' '.join(missing)}")


def speak(voice: Voice, text: str, rate: int, variation: int = 0) -> Audio:
    """Renders a sentence.

    Args:
        voice: who speaks.
        text: what.
        rate: Hz.
        variation: moves pitch (espeak-ng) and speed a little, so that a speaker is not a machine; -3 to 3.

    Returns:
        float32 `[samples]`, trimmed to the speech with 40 ms around it.
    """
    speed = voice.speed + 3 * variation
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "speech.wav"
        if voice.engine == "espeak-ng":
            pitch = str(voice.pitch + 2 * variation)
            command = ["espeak-ng", "-v", voice.voice, "-p", pitch, "-s", str(speed), "-w", str(path), text]
        else:
            stretch = f"duration_stretch={170 / speed:.3f}"
            command = ["flite", "-voice", voice.voice, "--setf", stretch, "-t", text, "-o", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0 or not path.is_file():
            raise ToolError(f"{command[0]} could not speak as {voice.voice}: {done.stderr.strip()}")
        return _trim(read_audio(path, rate), rate)


def _trim(sound: Audio, rate: int) -> Audio:
    """Cuts leading and trailing silence, and fades the 10 ms at each end."""
    size = int(FRAME_SECONDS * rate)
    frames = sound[: len(sound) // size * size].reshape(-1, size)
    power = np.square(frames, dtype=np.float64).mean(axis=1)
    loud = np.flatnonzero(power > power.max() * 10 ** (-TRIM_DB / 10))
    margin = int(MARGIN_SECONDS * rate)
    cut = sound[max(0, loud[0] * size - margin) : (loud[-1] + 1) * size + margin].copy()
    fade = np.linspace(0, 1, size, dtype=np.float32)
    cut[:size] *= fade
    cut[-size:] *= fade[::-1]
    return cut
