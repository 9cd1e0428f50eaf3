"""The manifest of an artifact: what was made, from what, by which versions, and the digest of every file.

A manifest is read as hostile text: too large, not JSON, of another schema, with names that leave the folder, or with
an identity that does not follow from its contents, it is refused before any file it names is opened.
"""

from __future__ import annotations

import importlib.metadata
import json
import platform
import stat
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError

from earshot.core.config import Config
from earshot.core.errors import ArtifactError
from earshot.core.files import digest_json, sha256_file
from earshot.core.measurement import Measurement

MANIFEST = "manifest.json"
MAX_MANIFEST_BYTES = 4 * 2**20
MAX_FILES = 4096
MAX_NAME_BYTES = 255  # of one part of a path, on most file systems
MAX_PATH_BYTES = 1024
# What trains, converts, resamples and scores.
LIBRARIES = (
    "earshot",
    "torch",
    "litert-torch",
    "ai-edge-quantizer",
    "ai-edge-litert",
    "torch-pruning",
    "numpy",
    "scipy",
    "soxr",
    "pesq",
    "pystoi",
)


def _inside(name: str) -> str:
    """Refuses file names that are not plain relative ones: they come from a file anyone may have written."""
    parts = PurePosixPath(name).parts
    stays = bool(parts) and name == "/".join(parts) and ".." not in parts and not name.startswith("/")
    if not stays or not name.isprintable() or set("\\:") & set(name):
        raise ValueError(f"{name[:200]!r} is not a plain relative file name")
    if len(name.encode()) > MAX_PATH_BYTES or any(len(part.encode()) > MAX_NAME_BYTES for part in parts):
        raise ValueError(f"{name[:200]!r}... is too long a file name")
    return name


Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
StageName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
FileName = Annotated[str, AfterValidator(_inside)]


class FileEntry(Config):
    """Digest and size of one payload file."""

    sha256: Sha256
    bytes: Annotated[int, Field(ge=0)]


class Manifest(Config):
    """The contents of `manifest.json`; fields as in docs/architecture.md."""

    schema_: Annotated[Literal["earshot.artifact/1"], Field(alias="schema")] = "earshot.artifact/1"
    id: Sha256
    stage: StageName
    stage_version: int
    config: dict[str, Any]
    inputs: dict[str, str]
    digest: Sha256
    created: str
    seed: int
    versions: dict[str, str]
    files: Annotated[dict[FileName, FileEntry], Field(max_length=MAX_FILES)]
    measurements: list[dict[str, Any]]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data, as written to the file."""
        return self.model_dump(mode="json", by_alias=True)


def identity(stage: str, version: int, config: Mapping[str, Any], inputs: Mapping[str, str]) -> str:
    """The name of a result before it is made: hex SHA-256 over all that decides its contents.

    Args:
        stage: stage name.
        version: version of the stage's code, raised when the same inputs would give another result.
        config: all settings that change the result, the seed included where it matters; plain JSON data.
        inputs: role -> identity of an artifact or digest of outside data.
    """
    return digest_json({"stage": stage, "version": version, "config": dict(config), "inputs": dict(inputs)})


def library_versions() -> dict[str, str]:
    """Versions of Python and of the libraries that shape results, read without importing them."""
    versions = {"python": platform.python_version()}
    for library in LIBRARIES:
        try:
            versions[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def describe(
    folder: Path,
    stage: str,
    version: int,
    *,
    config: Mapping[str, Any],
    inputs: Mapping[str, str],
    seed: int,
    measurements: list[Measurement],
) -> Manifest:
    """The manifest of a finished folder; every file in it is digested."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    files = {
        path.relative_to(folder).as_posix(): FileEntry(sha256=sha256_file(path), bytes=path.stat().st_size)
        for path in paths
    }
    return Manifest(
        id=identity(stage, version, config, inputs),
        stage=stage,
        stage_version=version,
        config=dict(config),
        inputs=dict(inputs),
        digest=_table_digest(files),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        seed=seed,
        versions=library_versions(),
        files=files,
        measurements=[measurement.to_dict() for measurement in measurements],
    )


def read_manifest(folder: Path) -> Manifest:
    """Reads and judges a manifest; the files it names are not looked at.

    Raises:
        ArtifactError: missing, damaged, hostile, or not the manifest of this folder.
    """
    path = folder / MANIFEST
    try:
        if path.is_symlink() or path.stat().st_size > MAX_MANIFEST_BYTES:
            raise ArtifactError(f"{path}: not a manifest (a link, or larger than {MAX_MANIFEST_BYTES} bytes)")
        manifest = Manifest.model_validate(json.loads(path.read_bytes(), parse_constant=_no_constant))
        for measurement in manifest.measurements:
            Measurement.from_dict(measurement)
        expected = identity(manifest.stage, manifest.stage_version, manifest.config, manifest.inputs)
    except ValidationError as error:
        first = error.errors()[0]
        where = ascii(".".join(map(str, first["loc"])))[1:200].rstrip("'\"")  # a name in it may steer a terminal
        raise ArtifactError(f"{path}: not a valid manifest ({where}: {first['msg']})") from error
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ArtifactError(f"{path}: not a valid manifest ({type(error).__name__}: {str(error)[:200]!r})") from error
    if manifest.id != expected or folder.name != folder_name(manifest.stage, manifest.id):
        raise ArtifactError(f"{path}: its identity does not follow from its contents")
    if manifest.digest != _table_digest(manifest.files):
        raise ArtifactError(f"{path}: its digest does not follow from its file table")
    return manifest


def check_files(folder: Path, manifest: Manifest) -> None:
    """Compares every payload file with the manifest by size and SHA-256.

    Raises:
        ArtifactError: names the first file that is missing, a link, or changed.
    """
    for name, entry in manifest.files.items():
        path = folder / name
        try:
            if not stat.S_ISREG(path.lstat().st_mode) or not path.resolve().is_relative_to(folder.resolve()):
                raise ArtifactError(f"{path}: not a plain file inside its artifact")
            intact = path.stat().st_size == entry.bytes and sha256_file(path) == entry.sha256
        except OSError as error:
            raise ArtifactError(f"{path}: missing or unreadable ({error.strerror})") from error
        if not intact:
            raise ArtifactError(f"{path}: its bytes were changed after it was made")


def folder_name(stage: str, artifact_id: str) -> str:
    """Name of an artifact's folder: the stage and the first 16 digits of the identity."""
    return f"{stage}-{artifact_id[:16]}"


def _table_digest(files: Mapping[str, FileEntry]) -> str:
    return digest_json({name: entry.model_dump() for name, entry in files.items()})


def _no_constant(text: str) -> None:
    raise ValueError(f"{text} is not JSON")
