"""Writes a sound file block by block; its name appears when it is whole, and a kill at any instant leaves nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from earshot.core.errors import ToolError, UsageError
from earshot.core.files import disk_error

if TYPE_CHECKING:
    import numpy as np
    from soundfile import SoundFile

FORMATS = {".wav": "WAV", ".flac": "FLAC"}
_PLAIN = ("PCM_U8", "PCM_S8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE")
_WIDE = ("PCM_32", "FLOAT", "DOUBLE")
_WAV_LIMIT = 2**32 - 2**16


def sound_format(sink: Path, subtype: str, values: int) -> tuple[str, str]:
    """libsndfile's names for what `sink` will be.

    Args:
        sink: its suffix decides.
        subtype: the source's sample format, kept where the sink's format has it; else 16 bit, or 24 for wider ones.
        values: samples times channels; a WAV too large for its 32-bit sizes becomes an RF64.

    Raises:
        UsageError: a suffix that is neither .wav nor .flac.
    """
    import soundfile

    if sink.suffix.lower() not in FORMATS:
        raise UsageError(f"{sink}: cannot write '{sink.suffix}' files", "name the output .wav or .flac")
    container = FORMATS[sink.suffix.lower()]
    if subtype not in _PLAIN or not soundfile.check_format(container, subtype):
        subtype = "PCM_24" if subtype in _WIDE else "PCM_16"
    if container == "WAV" and values * 8 > _WAV_LIMIT:
        container = "RF64"
    return container, subtype


@contextmanager
def open_sink(sink: Path, rate: int, channels: int, container: str, subtype: str) -> Iterator[SoundFile]:
    """A sound file to write to; it takes its name when the block ends without an error.

    Raises:
        UsageError: the format cannot hold that many channels or that rate.
        ToolError: the disk is full or the folder cannot be written.
    """
    import soundfile

    with _unfinished(sink) as descriptor:
        try:
            file = soundfile.SoundFile(descriptor, "w", rate, channels, subtype, None, container, closefd=False)
        except (soundfile.SoundFileError, ValueError) as error:
            raise UsageError(f"{sink}: cannot hold {channels} channels at {rate} Hz ({error})", "use .wav") from error
        try:
            yield file
        finally:
            with _full_disk(sink):
                file.close()


def write_block(file: SoundFile, sink: Path, block: np.ndarray) -> None:
    """Appends float samples `[frames, channels]`. Raises ToolError where the disk takes no more."""
    with _full_disk(sink):
        file.write(block)


@contextmanager
def _full_disk(sink: Path) -> Iterator[None]:
    """libsndfile knows no reason for a write that stops short; soundfile asserts that none does."""
    import soundfile

    try:
        yield
    except (soundfile.SoundFileError, AssertionError) as error:
        raise ToolError(f"{sink}: cannot be written to the end ({error})", "free space on its disk") from error


@contextmanager
def _unfinished(path: Path) -> Iterator[int]:
    """Descriptor of a file without a name, on the disk of `path`; where the disk knows no such files, a hidden one."""
    temporary = f".{path.name}.{os.getpid()}"
    try:
        folder = os.open(path.parent, os.O_RDONLY)
    except OSError as error:
        raise disk_error(path, error) from error
    try:
        descriptor, named = _open_in(folder, temporary)
        try:
            yield descriptor
            os.fsync(descriptor)
            if not named:
                os.link(f"/proc/self/fd/{descriptor}", temporary, dst_dir_fd=folder)
            os.replace(temporary, path.name, src_dir_fd=folder, dst_dir_fd=folder)
        finally:
            os.close(descriptor)
            with suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=folder)
    except OSError as error:
        raise disk_error(path, error) from error
    finally:
        os.close(folder)


def _open_in(folder: int, name: str) -> tuple[int, bool]:
    """A new file in an open folder, and whether it bears `name`."""
    nameless = getattr(os, "O_TMPFILE", None)
    if nameless is not None:
        with suppress(OSError):
            return os.open(".", nameless | os.O_RDWR, 0o666, dir_fd=folder), False
    return os.open(name, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666, dir_fd=folder), True
