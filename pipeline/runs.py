"""Run files and tags: which artifacts belong together, and which of those runs are worth keeping.

A run file is plain JSON (`earshot.run/1`, docs/architecture.md) and all that the gate reads. A tag names a run
(`baseline`, `v1.2.0`); `latest` always means the newest run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from earshot.core.errors import ArtifactError, ToolError, UsageError
from earshot.core.files import disk_error, write_json
from earshot.pipeline.store import Store

LATEST = "latest"
LOCK_SECONDS = 20.0  # tags are written in milliseconds


def write_run(store: Store, name: str, run: Mapping[str, Any]) -> Path:
    """Writes or replaces a run file atomically and returns its path."""
    path = run_path(store, name)
    write_json(path, dict(run))
    return path


def run_path(store: Store, name: str) -> Path:
    """Where a run of that name is kept. Raises UsageError when the name could leave the folder."""
    return store.root / "runs" / f"{fit_name(name)}.json"


def run_names(store: Store) -> list[str]:
    """All runs, oldest first."""
    paths = (store.root / "runs").glob("*.json")
    return [path.stem for path in sorted(paths, key=lambda path: (path.stat().st_mtime_ns, path.stem))]


def find_run(store: Store, reference: str) -> Path:
    """The run file a person means: a path, a run's name, a tag, or `latest`.

    Raises:
        ArtifactError: there is none.
    """
    if reference.endswith(".json"):
        path = Path(reference)
    else:
        names = run_names(store)
        known = tags(store) | ({LATEST: names[-1]} if names else {})
        path = run_path(store, known.get(reference, reference))
    if not path.is_file():
        raise ArtifactError(f"{path}: no such run", "make one with: earshot run")
    return path


def own_run(store: Store, reference: str) -> str:
    """The name of the store's run that a person means: as `find_run`, but a path must lie in this store.

    Raises:
        ArtifactError: there is none.
        UsageError: it is a file from elsewhere.
    """
    path = find_run(store, reference)
    if path.resolve().parent != (store.root / "runs").resolve():
        raise UsageError(
            f"{path}: no run of the store {store.root}",
            "name one that is (earshot artifacts list), name its store with --store, or fetch it: earshot pull",
        )
    run_path(store, path.stem)
    return path.stem


def tags(store: Store) -> dict[str, str]:
    """Tag -> name of its run. Raises ArtifactError when the file is damaged."""
    path = _tags_path(store)
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise ArtifactError(f"{path}: cannot be read as JSON ({error})", "remove it, and tag again") from error
    if not isinstance(value, dict) or not all(isinstance(run, str) for run in value.values()):
        raise ArtifactError(f"{path}: not a table of tags", "remove it, and tag again")
    return value


def set_tag(store: Store, tag: str, run: str) -> None:
    """Lets a tag name a run; a tag that exists moves.

    Raises:
        UsageError: not a fit name, or a run file from elsewhere.
        ArtifactError: no such run.
        ToolError: the tags cannot be written.
    """
    if tag == LATEST:
        raise UsageError(f"'{LATEST}' always names the newest run", "choose another tag")
    name, tag = own_run(store, run), fit_name(tag)
    _change_tags(store, lambda known: {**known, tag: name})


def remove_tag(store: Store, tag: str) -> None:
    """Forgets a tag; the run stays. Raises UsageError when there is none."""

    def without(known: dict[str, str]) -> dict[str, str]:
        if tag not in known:
            raise UsageError(f"no tag '{tag}'", f"there are: {', '.join(known) or 'none'}")
        return {name: run for name, run in known.items() if name != tag}

    _change_tags(store, without)


def _change_tags(store: Store, change: Callable[[dict[str, str]], dict[str, str]]) -> None:
    """Reads, changes and writes the tags while no other process does.

    Under a lock of their own: the store's is held as long as a run takes.
    """
    try:
        store.root.mkdir(parents=True, exist_ok=True)
        with FileLock(store.root / "tags.lock", timeout=LOCK_SECONDS):
            write_json(_tags_path(store), change(tags(store)))
    except Timeout as error:
        raise ToolError(f"{_tags_path(store)}: another process keeps it", "try again when it has ended") from error
    except OSError as error:
        raise disk_error(store.root, error) from error


def _tags_path(store: Store) -> Path:
    return store.root / "tags.json"


def fit_name(name: str) -> str:
    """The name, if it can be that of a run, a tag or a file. Raises UsageError for one that leaves its folder."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        raise UsageError(f"{name[:200]!r} is not a fit name", "use letters, digits, '.', '_' and '-'")
    return name
