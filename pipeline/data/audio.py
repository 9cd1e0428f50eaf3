"""Reads sound files into float32 at one rate, and refuses what would train or score wrongly."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from earshot.core.errors import DataError

if TYPE_CHECKING:
    from earshot.pipeline.data.base import Audio

Quality = Literal["HQ", "VHQ"]
Channel = Literal["mean", "first"]
SILENCE = 10 ** (-90 / 20)  # -90 dBFS: below one step of 16 bits

_REPLACE = "replace the file, or remove it from the data"
# libsndfile quietly shortens a WAV whose data chunk promises more than the file holds, and only says so here.
_CUT_WAV = re.compile(r"^data : (\d+) \(should be (\d+)\)", re.MULTILINE)
_UNKNOWN_LENGTH = 0xFFFFFF00  # what a writer that streams puts for a length it does not know yet


class Header(NamedTuple):
    """What a sound file says about itself: rate in Hz, channels, frames."""

    rate: int
    channels: int
    frames: int


def probe(path: Path) -> Header:
    """Reads a sound file's header only. Raises DataError: absent, empty, foreign, zero-length or cut short."""
    import soundfile

    if not path.is_file():
        raise DataError(f"{path}: no such file", "check the path")
    if path.stat().st_size == 0:
        raise DataError(f"{path}: the file is empty", _REPLACE)
    try:
        info = soundfile.info(path, verbose=True)
    except (soundfile.SoundFileError, OSError) as error:
        raise DataError(f"{path}: not a sound file that can be read ({error})", "use WAV or FLAC") from error
    cut = _CUT_WAV.search(info.extra_info)
    if cut and int(cut[2]) < int(cut[1]) < _UNKNOWN_LENGTH:
        raise DataError(f"{path}: cut short, {cut[2]} of {cut[1]} bytes of sound", _REPLACE)
    if info.frames <= 0:
        raise DataError(f"{path}: holds no samples", _REPLACE)
    return Header(info.samplerate, info.channels, info.frames)


def read_audio(path: Path, rate: int, quality: Quality = "VHQ", channel: Channel = "mean") -> Audio:
    """Decodes a sound file at `rate`.

    Args:
        path: any format libsndfile reads.
        rate: wanted rate in Hz; others are converted with soxr. A file of a lower rate stays band-limited.
        quality: soxr's recipe, VHQ for evaluation, HQ for training.
        channel: several channels are averaged, or the first is taken (for room responses).

    Returns:
        float32 `[samples]`, full scale ±1.

    Raises:
        DataError: unreadable, cut short, empty, silent or not finite.
    """
    import numpy as np

    header, decoded = _decoded(path)
    sound = decoded[:, 0] if channel == "first" or header.channels == 1 else decoded.mean(axis=1)
    if np.abs(sound).max() < SILENCE:
        raise DataError(f"{path}: silent", _REPLACE)
    return resample(np.ascontiguousarray(sound), header.rate, rate, quality)


def read_microphones(path: Path, rate: int, microphones: int, quality: Quality = "VHQ") -> Audio:
    """Decodes a recording of several microphones at `rate`.

    Returns:
        float32 `[microphones, samples]`, full scale ±1.

    Raises:
        DataError: another number of channels; all that `read_audio` raises.
    """
    import numpy as np

    check_microphones(path, probe(path).channels, microphones)
    header, decoded = _decoded(path)
    if np.abs(decoded).max() < SILENCE:
        raise DataError(f"{path}: silent", _REPLACE)
    return np.ascontiguousarray(resample(decoded, header.rate, rate, quality).T)


def check_microphones(path: Path, found: int, wanted: int) -> None:
    """Raises DataError that names both numbers when a recording has not as many channels as there are microphones."""
    if found != wanted:
        raise DataError(
            f"{path}: {found} channels, but {wanted} microphones are needed",
            f"give recordings of {wanted} channels, or set frontend.channels to {found}",
        )


def _decoded(path: Path) -> tuple[Header, Audio]:
    """Header and float32 `[frames, channels]`. Raises DataError: unreadable, cut short, empty or not finite."""
    import numpy as np
    import soundfile

    header = probe(path)
    try:
        decoded, _ = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError) as error:
        raise DataError(f"{path}: damaged or cut short ({error})", _REPLACE) from error
    if len(decoded) < header.frames:
        raise DataError(f"{path}: cut short, {len(decoded)} of {header.frames} samples", _REPLACE)
    if not np.isfinite(decoded).all():
        raise DataError(f"{path}: holds values that are not finite (NaN or infinity)", _REPLACE)
    return header, decoded


def resample(sound: Audio, rate: int, wanted: int, quality: Quality = "VHQ") -> Audio:
    """Float32 `[samples]` or `[samples, channels]` from `rate` to `wanted` Hz with soxr; the same array when equal."""
    import soxr

    return sound if rate == wanted else soxr.resample(sound, rate, wanted, quality=quality)
