"""A zip of which every byte follows from its files: sorted names, one time, one mode, nothing compressed.

Nothing is compressed because the same bytes compress differently from one zlib to the next, and because what is stored
cannot blow up. A reader writes the archive again from what it read: an archive that comes out otherwise was changed.
"""

from __future__ import annotations

import io
import re
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from earshot.core.errors import ArtifactError

MAX_ARCHIVE_BYTES = 512 * 2**20
MAX_FILES = 4096
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest a zip can say
_PLAIN_FILE = 0o100644 << 16
_NAME = re.compile(r"(?!.*(^|/)\.{1,2}(/|$))[A-Za-z0-9_.+-]{1,80}(/[A-Za-z0-9_.+-]{1,80}){0,8}")
_BROKEN = (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, struct.error, EOFError, OSError)


@dataclass(frozen=True)
class Problem:
    """What is wrong with a bundle: the file in it (empty for the bundle itself), and what."""

    file: str
    what: str

    def __str__(self) -> str:
        return f"{self.file}: {self.what}" if self.file else self.what


def write_archive(files: Mapping[str, bytes]) -> bytes:
    """The zip of some files: path in it -> content. The same files give the same bytes everywhere.

    Raises:
        ValueError: a path that `read_archive` would refuse.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            if not plain(name):
                raise ValueError(f"{name!r} is no path for a bundle")
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.create_system, entry.external_attr = 3, _PLAIN_FILE  # as Unix writes it, on every system
            archive.writestr(entry, files[name])
    return buffer.getvalue()


def read_archive(path: Path) -> tuple[dict[str, bytes], list[Problem]]:
    """The files of an archive, in memory, and what is wrong with it; files that cannot be trusted are left out.

    Nothing is written, and no more is read than the archive is long.

    Raises:
        ArtifactError: there is no such file, or it cannot be opened.
    """
    try:
        size = path.stat().st_size
        if size > MAX_ARCHIVE_BYTES:
            return {}, [Problem("", f"{size:,} bytes, a bundle has {MAX_ARCHIVE_BYTES:,} at most")]
        content = path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read ({error.strerror})", "make one with: earshot bundle") from error
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = archive.infolist()
            problems = _refusals(entries, size)
            if problems:
                return {}, problems
            files = {}
            for entry in entries:
                try:
                    files[entry.filename] = archive.read(entry)
                except _BROKEN:
                    problems.append(Problem(entry.filename, "its bytes were changed"))
    except _BROKEN as error:
        return {}, [Problem("", f"not a zip, or a damaged one ({error})")]
    if not problems and (expected := write_archive(files)) != content:
        problems.append(_strayed(content, expected, entries))
    return files, problems


def plain(name: str) -> bool:
    """Whether a path is relative, stays inside, and is written with letters that every system takes."""
    return _NAME.fullmatch(name) is not None


def _refusals(entries: list[zipfile.ZipInfo], size: int) -> list[Problem]:
    """What an archive is refused for before anything of it is read."""
    if len(entries) > MAX_FILES:
        return [Problem("", f"{len(entries):,} files, a bundle has {MAX_FILES:,} at most")]
    found = []
    seen: set[str] = set()
    for entry in entries:
        name = entry.filename
        if not plain(name):
            found.append(Problem("", f"the path {name[:200]!r} leaves the bundle, or is no plain one"))
        elif name in seen:
            found.append(Problem(name, "there twice"))
        elif entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits or entry.file_size != entry.compress_size:
            found.append(Problem(name, "compressed or encrypted; a bundle's files are stored as they are"))
        seen.add(name)
    if sum(entry.file_size for entry in entries) > size:
        found.append(Problem("", "its files claim to be larger than it is"))
    return found


def _strayed(content: bytes, expected: bytes, entries: list[zipfile.ZipInfo]) -> Problem:
    """Where an archive departs from the one its files make: the file whose entry that is."""
    first = _first_difference(memoryview(content), memoryview(expected))
    before = [entry for entry in entries if entry.header_offset <= first]
    if before and first < max(entry.header_offset + entry.file_size for entry in entries):
        return Problem(
            max(before, key=lambda entry: entry.header_offset).filename, "the zip's entry for it was changed"
        )
    return Problem("", f"the zip was changed beside its files (byte {first:,})")


def _first_difference(found: memoryview, wanted: memoryview) -> int:
    """Where two texts part, by halving: as quick as the machine compares memory."""
    low, high = 0, min(len(found), len(wanted))  # equal up to `low`; nothing is known beyond `high`
    while low < high:
        middle = (low + high + 1) // 2
        if found[low:middle] == wanted[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
