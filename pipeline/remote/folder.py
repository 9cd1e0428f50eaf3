"""A folder on another machine, through fsspec: small whole files that are there or not, never in part.

Object stores show a file when all of it has arrived. Elsewhere a file is written under `tmp/` and moved to its name.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
import uuid
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from earshot.core.errors import ArtifactError, EarshotError, ToolError, UsageError
from earshot.pipeline.remote.secrets import checked_location, redacted, shown

_S3 = {"s3", "s3a"}
_OBJECT_STORES = {*_S3, "gs", "gcs", "az", "abfs", "adl"}
_CHUNK_BYTES = 1 << 20
_WAITING = "tmp"
ABANDONED_SECONDS = 24 * 3600  # no single file takes a day to arrive; clocks of two machines differ by less
# A server that is gone is told of within a minute.
_S3_OPTIONS = {"config_kwargs": {"connect_timeout": 10, "read_timeout": 60, "retries": {"max_attempts": 2}}}
_EXTRA = "pip install 'earshot[remote]'"


class RemoteFolder:
    """A location and what is done there.

    Args:
        location: a path, or an address that fsspec knows: `s3://bucket/path`, `sftp://host/path`.

    Attributes:
        name: the location for people, without credentials.

    Raises:
        UsageError: fsspec knows no such protocol, the location holds a password, or the library is not installed.
    """

    def __init__(self, location: str) -> None:
        self.name = shown(checked_location(location)).rstrip("/")
        protocol = location.partition("://")[0] if "://" in location else "file"
        try:
            import fsspec

            options: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True}
            options |= _S3_OPTIONS if protocol in _S3 else {}
            self._system, root = fsspec.url_to_fs(location, **options)
        except ImportError as error:
            hint = _EXTRA if protocol in _S3 else "pip install what this protocol needs"
            raise UsageError(f"{self.name}: {redacted(str(error))}", hint) from None
        except ValueError as error:
            raise UsageError(f"{self.name}: {redacted(str(error))}", "give a path, s3://BUCKET/PATH or alike") from None
        self._root = str(root).rstrip("/")
        self._whole_at_once = protocol in _OBJECT_STORES

    def sizes(self, folder: str) -> dict[str, int]:
        """Files directly or further below a folder -> bytes; their paths are relative to it."""
        base = f"{self._root}/{folder}"
        with self._reached():
            found = self._system.find(base, detail=True)
        return {
            path[len(base) + 1 :]: int(entry["size"] or 0) for path, entry in found.items() if path.startswith(base)
        }

    def read(self, path: str, limit: int) -> bytes | None:
        """A file's bytes, None where there is none. Raises ArtifactError where it is larger than `limit`."""
        try:
            with self._reached(), self._system.open(f"{self._root}/{path}", "rb") as file:
                content: bytes = file.read(limit + 1)
        except _AbsentError:
            return None
        if len(content) > limit:
            raise ArtifactError(f"{self.name}/{path}: larger than {limit:,} bytes", "it is not what earshot wrote")
        return content

    def fetch(self, path: str, into: Path, size: int, sha256: str, needed_by: str) -> None:
        """Copies a file to this machine, and no byte more than `size`.

        Args:
            path: there.
            into: here.
            size, sha256: of its content.
            needed_by: what it is a part of, for people.

        Raises:
            ArtifactError: it is not there, of another size, or of another content.
        """
        hint = f"remove it there, and push again from a store that has it: earshot push {self.name}"
        where, got, digest = f"{self.name}/{path}", 0, hashlib.sha256()
        try:
            with into.open("wb") as out:
                for chunk in self._chunks(path, size + 1):
                    got += len(chunk)
                    digest.update(chunk)
                    out.write(chunk)
        except _AbsentError:
            raise ArtifactError(f"{where}: missing ({needed_by})", hint) from None
        if got != size:
            what = "larger than" if got > size else f"{got:,} bytes instead of"
            raise ArtifactError(f"{where}: {what} {size:,} bytes ({needed_by})", hint)
        if digest.hexdigest() != sha256:
            raise ArtifactError(f"{where}: its bytes were changed ({needed_by})", hint)

    def _chunks(self, path: str, limit: int) -> Iterator[bytes]:
        with self._reached(), self._system.open(f"{self._root}/{path}", "rb") as file:
            while limit and (chunk := file.read(min(_CHUNK_BYTES, limit))):
                limit -= len(chunk)
                yield chunk

    def put(self, path: str, source: Path | bytes) -> None:
        """Writes a file; until it is whole, what was there before stays."""
        final = f"{self._root}/{path}"
        with self._reached():
            if self._whole_at_once:
                self._write(final, source)
                return
            waiting = f"{self._root}/{_WAITING}/{uuid.uuid4().hex}"
            self._system.makedirs(f"{self._root}/{_WAITING}", exist_ok=True)
            self._system.makedirs(final.rpartition("/")[0], exist_ok=True)
            try:
                self._write(waiting, source)
                self._system.mv(waiting, final)
            except BaseException:
                with contextlib.suppress(Exception):
                    self._system.rm_file(waiting)
                raise

    def sweep(self) -> None:
        """Removes what killed processes left half-written, where files do not appear in one step."""
        if self._whole_at_once:
            return
        before = time.time() - ABANDONED_SECONDS
        with self._reached():
            for path, entry in self._system.find(f"{self._root}/{_WAITING}", detail=True).items():
                written = _written(entry)
                if written is not None and written < before:
                    with contextlib.suppress(FileNotFoundError):  # another push sweeps, too
                        self._system.rm_file(path)

    def _write(self, path: str, source: Path | bytes) -> None:
        if isinstance(source, bytes):
            self._system.pipe_file(path, source)
        else:
            self._system.put_file(str(source), path)

    @contextlib.contextmanager
    def _reached(self) -> Iterator[None]:
        """What fsspec and its libraries raise, each in its own way, as one error without credentials and without them
        in its causes, which a traceback would show."""
        try:
            yield
        except EarshotError:
            raise
        except FileNotFoundError:
            hint = "make the bucket or folder, and run the same command again"
            raise _AbsentError(f"{self.name}: no such place", hint) from None
        except PermissionError as error:
            hint = "check the credentials in the environment, and what they may do there"
            raise ToolError(f"{self.name}: access was refused ({_told(error)})", hint) from None
        except Exception as error:  # noqa: BLE001 - every library below has errors of its own
            hint = "run the same command again: what has arrived is not sent again"
            raise ToolError(f"{self.name}: cannot be reached ({_told(error)})", hint) from None


def _written(entry: dict[str, Any]) -> float | None:
    """When a file was written, in seconds since 1970; None where its protocol does not tell."""
    told = entry.get("mtime")
    if isinstance(told, datetime):
        return told.timestamp()
    return float(told) if isinstance(told, (int, float)) else None


class _AbsentError(ToolError):
    """There is no such file or bucket; where a file was asked for, that is an answer."""


def _told(error: Exception) -> str:
    text = " ".join(str(error).split())[:300]
    return redacted(f"{type(error).__name__}: {text}" if text else type(error).__name__)
