"""Files on their way between machines that share no disk, with a digest that tells whether they arrived whole."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from earshot.core.errors import ToolError
from earshot.core.files import digest_json, write_atomic


@dataclass(frozen=True)
class Parcel:
    """A folder's files.

    Attributes:
        name: of the folder.
        files: name in it -> content.
        digest: hex SHA-256 over names and contents.
    """

    name: str
    files: Mapping[str, bytes]
    digest: str


def pack(folder: Path) -> Parcel:
    """All files of a folder and its subfolders."""
    return _parcel(folder.name, [path for path in sorted(folder.rglob("*")) if path.is_file()], folder)


def pack_file(path: Path) -> Parcel:
    """One file of a folder."""
    return _parcel(path.parent.name, [path], path.parent)


def unpack(parcel: Parcel, folder: Path) -> Path:
    """Writes the files into a folder, each of them whole or absent; returns the folder.

    Raises:
        ToolError: they are not what was packed, or cannot be written.
    """
    if _digest(parcel.files) != parcel.digest:
        raise ToolError(f"{parcel.name}: damaged on its way between two machines", "run the study again")
    for name, content in parcel.files.items():
        write_atomic(folder / name, content)
    return folder


def _parcel(name: str, paths: list[Path], folder: Path) -> Parcel:
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
    return Parcel(name, files, _digest(files))


def _digest(files: Mapping[str, bytes]) -> str:
    return digest_json({name: hashlib.sha256(content).hexdigest() for name, content in files.items()})
