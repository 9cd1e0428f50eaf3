"""Sends artifacts, runs and tags to a location others reach: parts before what needs them, nothing twice.

What is cut short has sent whole files that nobody sees yet; the next push goes on from there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from earshot.ci.run_file import LARGEST_BYTES, read_run
from earshot.core.errors import ArtifactError
from earshot.pipeline.manifest import MANIFEST
from earshot.pipeline.progress import Progress
from earshot.pipeline.remote import layout
from earshot.pipeline.remote.folder import RemoteFolder
from earshot.pipeline.runs import own_run, run_names, run_path, tags
from earshot.pipeline.store import Artifact, Store
from earshot.pipeline.upkeep import needed_by


@dataclass(frozen=True)
class Transfer:
    """What was sent or fetched.

    Attributes:
        artifacts: folder names of those that were not there before.
        known: how many were.
        bytes: of payload that travelled.
        runs: names of the runs that were not there before.
        tags: those that were not there, or named another run.
    """

    artifacts: tuple[str, ...]
    known: int
    bytes: int
    runs: tuple[str, ...]
    tags: tuple[str, ...]


def push(store: Store, remote: RemoteFolder, references: Sequence[str], progress: Progress) -> Transfer:
    """Sends runs, all they stand on and the tags that name them; without references, all that the store holds.

    Args:
        store: what to send from; it is only read.
        remote: where to.
        references: names of runs, tags, or `latest`.
        progress: counts artifacts.

    Raises:
        ArtifactError: no such run; an artifact of a run is damaged; a run of that name is there with another content.
        UsageError: a reference is a run file of another store.
        ToolError: the location cannot be reached or written.
    """
    names = [own_run(store, reference) for reference in references] if references else run_names(store)
    folders = _artifacts(store, names, everything=not references)
    tagged = {tag: run for tag, run in tags(store).items() if run in names}
    if not layout.has_marker(remote):
        layout.write_marker(remote)
    remote.sweep()
    there, blobs = set(layout.artifacts(remote)), set(remote.sizes("blobs").items())
    sent, travelled = [], 0
    progress.start(f"push to {remote.name}", len(folders))
    for artifact in folders:
        name = artifact.path.name
        if name not in there or not _whole(artifact, blobs):
            travelled += _send(artifact, remote, blobs)
            sent.append(name)
        progress.advance(note=name)
    progress.finish(f"{len(sent)} sent")
    new_runs = tuple(name for name in names if _send_run(store, name, remote))
    known_tags = layout.tags(remote) if tagged else {}
    moved = {tag: run for tag, run in tagged.items() if known_tags.get(tag) != run}
    for tag, run in moved.items():
        remote.put(f"tags/{tag}", f"{run}\n".encode())
    return Transfer(tuple(sent), len(folders) - len(sent), travelled, new_runs, tuple(moved))


def _artifacts(store: Store, names: Sequence[str], everything: bool) -> list[Artifact]:
    """Intact artifacts, every byte checked. A damaged one that a named run needs stops the push."""
    needed = {identity[:16] for identity in needed_by(store, names)}
    found = []
    for folder in store.folders():
        belongs = folder.name.rpartition("-")[2] in needed
        if not everything and not belongs:
            continue
        try:
            found.append(store.open(folder))
        except ArtifactError as error:
            if belongs:
                hint = "let a run make it anew: earshot run, or remove it: earshot artifacts gc"
                raise ArtifactError(error.message, hint) from error
            store.on_damage(f"{error.message}; it is not sent")
    here = {artifact.path.name.rpartition("-")[2] for artifact in found}
    for name in names:
        lost = [identity for identity in read_run(run_path(store, name)).identities if identity[:16] not in here]
        if not lost:
            continue
        message = f"{run_path(store, name)}: {len(lost)} of its artifacts are not in {store.root} any more"
        if not everything:
            raise ArtifactError(message, "make them anew: earshot run")
        store.on_damage(f"{message}; it travels without them")
    return found


def _whole(artifact: Artifact, blobs: set[tuple[str, int]]) -> bool:
    """Whether all files of an artifact are there: one that was damaged and removed is sent again."""
    return all((_known(entry.sha256), entry.bytes) in blobs for entry in artifact.manifest.files.values())


def _known(sha256: str) -> str:
    return layout.blob(sha256).removeprefix("blobs/")


def _send(artifact: Artifact, remote: RemoteFolder, blobs: set[tuple[str, int]]) -> int:
    """Blobs first, the manifest last; returns bytes of payload that were not there."""
    sent = 0
    for name, entry in artifact.manifest.files.items():
        known = _known(entry.sha256), entry.bytes
        if known in blobs:
            continue
        remote.put(layout.blob(entry.sha256), artifact.path / name)
        blobs.add(known)
        sent += entry.bytes
    remote.put(layout.artifact(artifact.path.name), (artifact.path / MANIFEST).read_bytes())
    return sent


def _send_run(store: Store, name: str, remote: RemoteFolder) -> bool:
    path = run_path(store, name)
    read_run(path)
    content = path.read_bytes()
    there = remote.read(f"runs/{name}.json", LARGEST_BYTES)
    if there == content:
        return False
    if there is not None:
        hint = f"remove that one, or keep both: rename {path}"
        raise ArtifactError(f"{remote.name}/runs/{name}.json: another run of the same name is there", hint)
    remote.put(f"runs/{name}.json", content)
    return True
