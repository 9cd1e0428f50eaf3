"""Digests and writes that are whole or absent."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from earshot.core.errors import ToolError


def canonical_json(value: Any) -> str:
    """One text per value: sorted keys, no spaces, no NaN. Raises ValueError on NaN or infinity."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest_json(value: Any) -> str:
    """Hex SHA-256 of the canonical JSON text of `value`."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def disk_error(path: Path, error: OSError) -> ToolError:
    """The error for a failed write: a full disk is named as such."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ToolError(f"{path}: no space left on the disk", "free space, or set EARSHOT_HOME to another disk")
    return ToolError(f"{path}: cannot be written ({error.strerror})", "check the folder exists and is writable")


def write_atomic(path: Path, data: bytes | str) -> None:
    """Writes a file that is either whole or absent, also after a power cut.

    The bytes go to a temporary neighbour, are flushed to the disk, and take the name in one rename.

    Raises:
        ToolError: the disk is full or the folder is not writable; nothing of the old file is lost.
    """
    payload = data.encode() if isinstance(data, str) else data
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(payload)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
        temporary = None
    except OSError as error:
        raise disk_error(path, error) from error
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Writes indented JSON atomically. Raises ValueError on NaN or infinity: they are not JSON."""
    write_atomic(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
