"""Looking after a store: what came from what, what is intact, what may go."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from earshot.ci.run_file import read_run
from earshot.core.errors import ArtifactError
from earshot.pipeline.manifest import Manifest, read_manifest
from earshot.pipeline.runs import run_names, run_path, tags
from earshot.pipeline.store import Store


@dataclass(frozen=True)
class Ancestor:
    """A node of a lineage tree.

    Attributes:
        role: what it was to the artifact below it (`teacher`, `data`); its own stage for the root.
        id: identity of an artifact, or digest of outside data.
        stage: the stage that made it, None for outside data and for artifacts that are gone.
        inputs: what it was made from.
    """

    role: str
    id: str
    stage: str | None
    inputs: list[Ancestor] = field(default_factory=list)


@dataclass(frozen=True)
class Removal:
    """Something no run needs.

    Attributes:
        path: file or folder.
        bytes: what its removal frees.
        reason: why it may go.
    """

    path: Path
    bytes: int
    reason: str


def lineage(store: Store, artifact_id: str) -> Ancestor:
    """The tree of everything an artifact was made from."""
    known = _manifests(store)

    def node(role: str, identity: str) -> Ancestor:
        manifest = known.get(identity)
        if manifest is None:
            return Ancestor(role, identity, None)
        # No cycles: an identity is a hash over the identities of its inputs, and read_manifest holds it to that.
        return Ancestor(role, identity, manifest.stage, [node(*item) for item in sorted(manifest.inputs.items())])

    manifest = known.get(artifact_id)
    return node(manifest.stage if manifest else "artifact", artifact_id)


def verify(store: Store) -> Iterator[tuple[Path, str | None]]:
    """Checks every byte of every artifact; yields its folder and what is wrong, None when intact."""
    for folder in store.folders():
        try:
            store.open(folder)
        except ArtifactError as error:
            yield folder, error.message
        else:
            yield folder, None


def removable(store: Store, keep_runs: int | None = None, scratch: bool = False) -> list[Removal]:
    """What may go: everything that no kept run and no study needs, directly or as an ancestor.

    Args:
        store: the store.
        keep_runs: how many of the newest runs to keep beside the tagged ones; None keeps all runs.
        scratch: also the scratch of unfinished stages, which would otherwise let the next run resume.
    """
    names = run_names(store)
    newest = names if keep_runs is None else names[len(names) - keep_runs :] if keep_runs else []
    kept_runs = set(newest) | set(tags(store).values())
    needed = needed_by(store, kept_runs, _of_studies(store))

    found = [_removal(run_path(store, name), "an old run without a tag") for name in names if name not in kept_runs]
    for folder in store.folders():
        try:
            manifest = read_manifest(folder)
        except ArtifactError:
            found.append(_removal(folder, "damaged"))
            continue
        if manifest.id not in needed:
            found.append(_removal(folder, "no kept run needs it"))
    if scratch:
        found += [_removal(folder, "scratch of an unfinished stage") for folder in (store.root / "work").glob("*")]
    return found


def collect(store: Store, keep_runs: int | None = None, scratch: bool = False) -> list[Removal]:
    """Removes what `removable` lists and returns it. Raises ToolError while another process holds the store."""
    with store.lock():
        removals = removable(store, keep_runs, scratch)
        for removal in removals:
            if removal.path.is_dir():
                # Out of sight in one step first: a kill half-way must not leave a damaged artifact in its place.
                trash = store.root / "tmp" / removal.path.name
                trash.parent.mkdir(parents=True, exist_ok=True)
                removal.path.rename(trash)
                shutil.rmtree(trash, ignore_errors=True)
            else:
                removal.path.unlink(missing_ok=True)
    return removals


def needed_by(store: Store, runs: Iterable[str], also: Iterable[str] = ()) -> set[str]:
    """Identities of the artifacts of some runs, of others, and of all their ancestors.

    Raises:
        ArtifactError: a run file is damaged, so that what it needs is unknown.
    """
    known = _manifests(store)
    needed: set[str] = set()
    waiting: list[str] = list(also)
    for name in runs:
        path = run_path(store, name)
        if path.exists():
            waiting += read_run(path).identities
    while waiting:
        identity = waiting.pop()
        if identity not in needed:
            needed.add(identity)
            waiting += known[identity].inputs.values() if identity in known else []
    return needed


def _of_studies(store: Store) -> Iterator[str]:
    """Identities that the store's studies stand on; a study is let go by removing its folder."""
    for path in sorted((store.root / "studies").glob("*/study.json")):
        try:
            yield from json.loads(path.read_bytes())["artifacts"].values()
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            hint = "run the study again, or remove its folder"
            raise ArtifactError(f"{path}: cannot be read as a study ({error})", hint) from error


def _manifests(store: Store) -> dict[str, Manifest]:
    found = {}
    for folder in store.folders():
        try:
            manifest = read_manifest(folder)
        except ArtifactError:
            continue
        found[manifest.id] = manifest
    return found


def _removal(path: Path, reason: str) -> Removal:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return Removal(path, sum(file.lstat().st_size for file in files), reason)
