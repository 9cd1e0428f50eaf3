"""Writes an initial RAM file system: the `newc` cpio archive that Linux unpacks when it starts.

Members come from tar streams and wheels without being unpacked on this machine's disk, so that neither root nor the
guest's architecture is needed to make one; all files belong to root, with no times. The format: kernel documentation,
"initramfs buffer format".
"""

from __future__ import annotations

import stat
from pathlib import PurePosixPath
from types import TracebackType
from typing import BinaryIO

BLOCK = 4


class Initramfs:
    """An archive being written. Folders are made as they are needed; the first file to take a path keeps it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._paths: set[str] = set()

    def __enter__(self) -> Initramfs:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._member("TRAILER!!!", 0, b"")

    def folder(self, path: str, mode: int = 0o755) -> None:
        """A folder and those above it."""
        for parent in reversed(PurePosixPath(path).parents):
            if str(parent) != ".":
                self._add(str(parent), stat.S_IFDIR | 0o755)
        self._add(path, stat.S_IFDIR | mode)

    def write(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """A regular file."""
        self._under(path, stat.S_IFREG | mode, data)

    def link(self, path: str, goal: str) -> None:
        """A symbolic link to `goal`."""
        self._under(path, stat.S_IFLNK | 0o777, goal.encode())

    def _under(self, path: str, mode: int, data: bytes) -> None:
        parent = str(PurePosixPath(path).parent)
        if parent != ".":
            self.folder(parent)
        self._add(path, mode, data)

    def _add(self, path: str, mode: int, data: bytes = b"") -> None:
        if path not in self._paths:
            self._paths.add(path)
            self._member(path, mode, data)

    def _member(self, path: str, mode: int, data: bytes) -> None:
        name = path.encode() + b"\0"
        links = 2 if stat.S_ISDIR(mode) else 1
        # inode, mode, uid, gid, links, mtime, size, device (2), special device (2), length of the name, checksum
        fields = (len(self._paths), mode, 0, 0, links, 0, len(data), 0, 0, 0, 0, len(name), 0)
        header = b"070701" + b"".join(b"%08X" % field for field in fields)
        self._file.write(_padded(header + name))
        self._file.write(_padded(data))


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % BLOCK)
