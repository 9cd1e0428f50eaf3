"""The artifact store: results on disk, named by what they were made from, whole or absent.

    artifacts/<stage>-<id16>/   payload files and manifest.json
    runs/<name>.json            what a run made and measured
    studies/<name>/             what a study found, and the artifacts it stands on
    tags.json                   names of runs worth keeping
    work/<id16>/                scratch of an unfinished artifact (training checkpoints): survives a kill, for resuming
    tmp/                        artifacts being written; swept whenever the lock is taken
    lock, lock.owner            one writer at a time; tags.lock: the same for tags, which runs do not hold up

An artifact is made in `tmp/`, flushed to the disk, gets its manifest last and takes its place in one rename: a process
killed at any instant leaves either no artifact or a whole one. Every look-up checks the SHA-256 of every payload file
(artifacts are a few MB); a damaged one is reported through `on_damage` and counts as absent, so that it is made anew.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from earshot.core.errors import ArtifactError, ToolError
from earshot.core.files import disk_error, write_atomic, write_json
from earshot.core.measurement import Measurement
from earshot.pipeline.manifest import MANIFEST, Manifest, check_files, describe, folder_name, identity, read_manifest

IDENTITY = re.compile("[0-9a-f]{64}")
Producer = Callable[[Path, Path], list[Measurement]]
"""Writes payload files into the first folder, keeps resumable scratch in the second, returns what it measured."""


def default_root() -> Path:
    """EARSHOT_HOME, or `.earshot` in the working directory."""
    return Path(os.environ.get("EARSHOT_HOME") or ".earshot")


def _ignore(message: str) -> None:
    """The default `on_damage`: says nothing."""


@dataclass(frozen=True)
class Artifact:
    """A whole artifact on disk."""

    path: Path
    manifest: Manifest

    @property
    def id(self) -> str:
        """Identity, 64 hex digits."""
        return self.manifest.id

    @property
    def stage(self) -> str:
        """Name of the stage that made it."""
        return self.manifest.stage

    @property
    def measurements(self) -> list[Measurement]:
        """What was measured when it was made."""
        return [Measurement.from_dict(data) for data in self.manifest.measurements]

    def file(self, name: str) -> Path:
        """Path of a payload file. Raises ArtifactError when the artifact has none of that name."""
        if name not in self.manifest.files:
            raise ArtifactError(f"{self.path}: no file '{name}'", f"it has: {', '.join(self.manifest.files)}")
        return self.path / name


@dataclass(frozen=True)
class Store:
    """A folder of artifacts and runs.

    Args:
        root: the folder; made when first written to.
        on_damage: receives one line for every damaged artifact that a look-up meets.
    """

    root: Path
    on_damage: Callable[[str], None] = _ignore
    _lock: FileLock = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_lock", FileLock(self.root / "lock"))

    @property
    def artifacts_folder(self) -> Path:
        """Holds one folder per artifact."""
        return self.root / "artifacts"

    def find(self, artifact_id: str) -> Artifact | None:
        """The artifact of an identity, every byte checked; None when absent or damaged (told to `on_damage`)."""
        for folder in self._folders_of(artifact_id):
            try:
                artifact = self.open(folder)
            except ArtifactError as error:
                self.on_damage(f"{error.message}; it will be made anew")
                continue
            if artifact.id == artifact_id:
                return artifact
        return None

    def holds(self, artifact_id: str) -> bool:
        """Whether a folder of that identity is there; whether it is whole only `find` tells."""
        return bool(self._folders_of(artifact_id))

    def _folders_of(self, artifact_id: str) -> list[Path]:
        if not IDENTITY.fullmatch(artifact_id):  # it comes from a run file, which anyone may have written
            return []
        return list(self.artifacts_folder.glob(f"*-{artifact_id[:16]}"))

    def open(self, folder: Path) -> Artifact:
        """The artifact in a folder, every byte checked. Raises ArtifactError when anything is off."""
        manifest = read_manifest(folder)
        check_files(folder, manifest)
        return Artifact(folder, manifest)

    def resolve(self, reference: str) -> Artifact:
        """The artifact a person means: its folder's name, or the first digits (4 or more) of its identity.

        Raises:
            ArtifactError: none, more than one, or a damaged one.
        """
        known = self.folders()
        hits = [folder for folder in known if folder.name == reference]
        if not hits and len(reference) >= 4:
            hits = [folder for folder in known if folder.name.rpartition("-")[2].startswith(reference[:16])]
        if len(hits) != 1:
            what = "no artifact" if not hits else f"{len(hits)} artifacts"
            raise ArtifactError(f"{self.root}: {what} named '{reference}'", "list them with: earshot artifacts list")
        return self.open(hits[0])

    def folders(self) -> list[Path]:
        """Every artifact's folder, damaged ones included, by name."""
        return sorted(path for path in self.artifacts_folder.glob("*-*") if path.is_dir())

    def build(
        self,
        stage: str,
        version: int,
        *,
        config: Mapping[str, Any],
        inputs: Mapping[str, str],
        producer: Producer,
        seed: int = 0,
    ) -> Artifact:
        """Makes an artifact and puts it in its place; an intact one that is there already is returned as it is.

        Args:
            stage: stage name.
            version: version of the stage's code.
            config: all settings that change the result (see `identity`).
            inputs: role -> identity of an artifact or digest of outside data.
            producer: writes the payload.
            seed: noted in the manifest.

        Raises:
            ToolError: the disk is full, or another process holds the store. Nothing half-written stays.
        """
        artifact_id = identity(stage, version, config, inputs)
        with self.lock():
            existing = self.find(artifact_id)
            if existing:
                return existing
            work = self.root / "work" / artifact_id[:16]
            temporary = self._temporary(stage)
            try:
                work.mkdir(parents=True, exist_ok=True)
                measurements = producer(temporary, work)
                manifest = describe(
                    temporary, stage, version, config=config, inputs=inputs, seed=seed, measurements=measurements
                )
                _flush(temporary)
                write_json(temporary / MANIFEST, manifest.to_dict())
                final = self._put(temporary, self.artifacts_folder / folder_name(stage, artifact_id))
            except Exception as error:
                if _disk_full(error):
                    raise disk_error(self.root, OSError(errno.ENOSPC, str(error))) from error
                raise
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
            shutil.rmtree(work, ignore_errors=True)
            return Artifact(final, manifest)

    def adopt(self, name: str, fill: Callable[[Path], None]) -> Artifact:
        """Takes in an artifact that was made elsewhere; anything off, and nothing of it stays.

        Args:
            name: of its folder; the manifest must lead to the same.
            fill: writes manifest and payload into an empty folder.

        Raises:
            ArtifactError: what was written is not a whole artifact of that name.
            ToolError: the disk is full, or another process holds the store.
        """
        with self.lock():
            temporary = self._temporary("adopt")
            try:
                folder = temporary / name
                folder.mkdir()
                fill(folder)
                artifact = self.open(folder)
                _flush(folder)
                return Artifact(self._put(folder, self.artifacts_folder / name), artifact.manifest)
            except OSError as error:
                raise disk_error(self.root, error) from error
            finally:
                shutil.rmtree(temporary, ignore_errors=True)

    @contextmanager
    def lock(self, wait: bool = False) -> Iterator[None]:
        """Makes this process the store's only writer; reentrant.

        Args:
            wait: wait for the other process to end instead of failing.

        Raises:
            ToolError: another process holds it; names its id.
        """
        owner = self.root / "lock.owner"
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            outermost = not self._lock.is_locked
            self._lock.acquire(timeout=-1 if wait else 0)
        except Timeout as error:
            pid = owner.read_text().strip() if owner.exists() else "unknown"
            raise ToolError(
                f"{self.root}: in use by another earshot process (pid {pid})",
                "wait for it with --wait, or use another store with --store DIR",
            ) from error
        except OSError as error:
            raise disk_error(self.root, error) from error
        try:
            if outermost:
                write_atomic(owner, f"{os.getpid()}\n")
                shutil.rmtree(self.root / "tmp", ignore_errors=True)  # left by processes that were killed
            yield
        finally:
            self._lock.release()

    def _temporary(self, stage: str) -> Path:
        try:
            (self.root / "tmp").mkdir(parents=True, exist_ok=True)
            return Path(tempfile.mkdtemp(prefix=f"{stage}-", dir=self.root / "tmp"))
        except OSError as error:
            raise disk_error(self.root, error) from error

    def _put(self, temporary: Path, final: Path) -> Path:
        """Renames a finished folder into its place; a damaged one that stands there is moved away first."""
        temporary.chmod(0o755)
        _flush_folder(temporary)
        final.parent.mkdir(parents=True, exist_ok=True)
        damaged = temporary.with_name(f"{temporary.name}.damaged")
        if final.exists():
            final.rename(damaged)
        temporary.rename(final)
        shutil.rmtree(damaged, ignore_errors=True)
        _flush_folder(final.parent)
        return final


def _flush(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        else:
            _flush_folder(path)


def _flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems refuse to flush folders
            os.fsync(handle)
    finally:
        os.close(handle)


def _disk_full(error: Exception) -> bool:
    """Libraries in Rust and C++ wrap the system's error in their own: only its text survives."""
    return getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or os.strerror(errno.ENOSPC) in str(error)
