"""Fetches artifacts, runs and tags. Whatever comes is hostile until its digests say otherwise, and enters whole or not.

Digests say that an artifact is what its manifest says it is. They do not say who made it: whoever may write to the
location decides what its readers use.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from earshot.ci.run_file import LARGEST_BYTES, Run, parse_run
from earshot.core.errors import ArtifactError
from earshot.core.files import write_atomic
from earshot.pipeline.manifest import MANIFEST, MAX_MANIFEST_BYTES, Manifest, read_manifest
from earshot.pipeline.progress import Progress
from earshot.pipeline.remote import layout
from earshot.pipeline.remote.folder import RemoteFolder
from earshot.pipeline.remote.push import Transfer
from earshot.pipeline.runs import run_names, run_path, set_tag, tags
from earshot.pipeline.store import Artifact, Store


def pull(store: Store, remote: RemoteFolder, references: Sequence[str], progress: Progress) -> Transfer:
    """Fetches runs, all they stand on and the tags that name them; without references, all that is there.

    Args:
        store: what to fetch into. Each artifact enters as soon as it is whole, so that what is cut short is resumed.
        remote: where from.
        references: names of runs, or tags there.
        progress: counts artifacts.

    Raises:
        ArtifactError: nothing of earshot's is there, or no such run; something there is damaged or hostile; a run of
            that name is here with another content.
        ToolError: the location cannot be reached, the disk is full, or another process holds the store.
    """
    if not layout.has_marker(remote):
        raise ArtifactError(f"{remote.name}: holds nothing of earshot's", "fill it with: earshot push LOCATION")
    tagged, there = layout.tags(remote), layout.runs(remote)
    names = [_named(remote, reference, tagged, there) for reference in references] if references else there
    folders = layout.artifacts(remote)
    contents: dict[str, bytes] = {}
    with store.lock():
        runs = {name: _read_run(store, remote, name, contents) for name in names}
        if references:
            own = {folder.rpartition("-")[2]: folder for folder in folders}
            for name, run in runs.items():
                lost = [identity for identity in run.identities if identity[:16] not in own]
                if lost:
                    message = f"{remote.name}/runs/{name}.json: {len(lost)} of its artifacts are not there"
                    raise ArtifactError(message, "push it again from a store that has them")
            waiting = [identity for run in runs.values() for identity in run.identities]
            wanted = {}
            fetcher = _Fetcher(store, remote, progress, None)
            while waiting:
                folder = own.pop(waiting.pop()[:16], None)
                if folder is not None:
                    wanted[folder] = fetcher.fetch(folder)
                    waiting += wanted[folder].manifest.inputs.values()
        else:
            fetcher = _Fetcher(store, remote, progress, len(folders))
            for folder in folders:
                fetcher.fetch(folder)
        progress.finish(f"{len(fetcher.new)} fetched")
        new_runs = _enter_runs(store, contents)
        known = tags(store)
        moved = [tag for tag, run in tagged.items() if run in runs and known.get(tag) != run]
        for tag in moved:
            set_tag(store, tag, tagged[tag])
    return Transfer(tuple(fetcher.new), fetcher.known, fetcher.bytes, tuple(new_runs), tuple(moved))


class _Fetcher:
    """Brings artifacts into a store, and counts."""

    def __init__(self, store: Store, remote: RemoteFolder, progress: Progress, total: int | None) -> None:
        self._store, self._remote, self._progress = store, remote, progress
        self.new: list[str] = []
        self.known = self.bytes = 0
        progress.start(f"pull from {remote.name}", total)

    def fetch(self, name: str) -> Artifact:
        """An artifact by the name of its folder: the store's own where that is intact."""
        artifact = self._own(name)
        if artifact is None:
            artifact = self._store.adopt(name, partial(self._fill, name))
            self.new.append(name)
            self.bytes += sum(entry.bytes for entry in artifact.manifest.files.values())
        else:
            self.known += 1
        self._progress.advance(note=name)
        return artifact

    def _own(self, name: str) -> Artifact | None:
        folder = self._store.artifacts_folder / name
        try:
            return self._store.open(folder) if folder.is_dir() else None
        except ArtifactError as error:
            self._store.on_damage(f"{error.message}; it is fetched anew")
            return None

    def _fill(self, name: str, folder: Path) -> None:
        """The manifest first, because it says what else may come and how much of it."""
        path = layout.artifact(name)
        content = self._remote.read(path, MAX_MANIFEST_BYTES)
        if content is None:
            raise ArtifactError(f"{self._remote.name}/{path}: missing", "push it again")
        (folder / MANIFEST).write_bytes(content)
        manifest = _judged(folder, f"{self._remote.name}/{path}")
        for file, entry in manifest.files.items():
            target = folder / file
            target.parent.mkdir(parents=True, exist_ok=True)
            self._remote.fetch(layout.blob(entry.sha256), target, entry.bytes, entry.sha256, f"{file} of {name}")


def _judged(folder: Path, source: str) -> Manifest:
    """A manifest that was fetched. Its errors name where it came from, not where it lies for now."""
    try:
        manifest = read_manifest(folder)
    except ArtifactError as error:
        raise ArtifactError(error.message.replace(str(folder / MANIFEST), source), "remove it there") from None
    names = [tuple(name.split("/")) for name in manifest.files]
    inner = {name[:end] for name in names for end in range(1, len(name))}
    if (MANIFEST,) in (name[:1] for name in names) or inner & set(names):
        raise ArtifactError(f"{source}: two of its files have one place", "remove it there")
    return manifest


def _named(remote: RemoteFolder, reference: str, tagged: dict[str, str], there: Sequence[str]) -> str:
    name = tagged.get(reference, reference)
    if name not in there:
        known = ", ".join([*tagged, *there][:20]) or "none"
        raise ArtifactError(f"{remote.name}: no run or tag '{reference}'", f"there are: {known}")
    return name


def _read_run(store: Store, remote: RemoteFolder, name: str, contents: dict[str, bytes]) -> Run:
    """A run there, its bytes put into `contents`."""
    source = f"{remote.name}/runs/{name}.json"
    content = remote.read(f"runs/{name}.json", LARGEST_BYTES)
    try:
        run = parse_run(json.loads(content or b""), source)
    except (ValueError, RecursionError):
        raise ArtifactError(f"{source}: not a run file, or a damaged one", "remove it there, and push again") from None
    if run.name != name:
        raise ArtifactError(f"{source}: the run in it has another name", "remove it there, and push again")
    path = run_path(store, name)
    if path.is_file() and path.read_bytes() != content:
        hint = f"keep both: rename {path}, or remove the one you do not need"
        raise ArtifactError(f"{source}: another run of the same name is in {store.root}", hint)
    contents[name] = content or b""
    return run


def _enter_runs(store: Store, contents: dict[str, bytes]) -> list[str]:
    """Writes runs that are not here; older than all that are: `latest` stays this store's own."""
    paths = [run_path(store, name) for name in run_names(store)]
    before = min((path.stat().st_mtime_ns for path in paths), default=None)
    new = [name for name in contents if not run_path(store, name).is_file()]
    for place, name in enumerate(new):
        path = run_path(store, name)
        write_atomic(path, contents[name])
        if before is not None:
            then = before - (len(new) - place) * 1_000_000_000
            os.utime(path, ns=(then, then))
    return new
