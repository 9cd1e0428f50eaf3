"""Run files and tags: which artifacts belong together, and which of those runs are worth keeping.

A run file is plain JSON (`earshot.run/1`, docs/architecture.md) and all that the gate reads. A tag names a run
(`baseline`, `v1.2.0`); `latest` always means the newest run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from earshot.core.errors import ArtifactError, UsageError
from earshot.core.files import write_json
from earshot.pipeline.store import Store

LATEST = "latest"


def write_run(store: Store, name: str, run: Mapping[str, Any]) -> Path:
    """Writes or replaces a run file atomically and returns its path."""
    path = run_path(store, name)
    write_json(path, dict(run))
    return path


def run_path(store: Store, name: str) -> Path:
    """Where a run of that name is kept. Raises UsageError when the name could leave the folder."""
    return store.root / "runs" / f"{_checked(name)}.json"


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
        UsageError: not a fit name.
        ArtifactError: no such run.
    """
    if tag == LATEST:
        raise UsageError(f"'{LATEST}' always names the newest run", "choose another tag")
    name = find_run(store, run).stem
    run_path(store, name)
    write_json(_tags_path(store), {**tags(store), _checked(tag): name})


def remove_tag(store: Store, tag: str) -> None:
    """Forgets a tag; the run stays. Raises UsageError when there is none."""
    known = tags(store)
    if tag not in known:
        raise UsageError(f"no tag '{tag}'", f"there are: {', '.join(known) or 'none'}")
    write_json(_tags_path(store), {name: run for name, run in known.items() if name != tag})


def _tags_path(store: Store) -> Path:
    return store.root / "tags.json"


def _checked(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        raise UsageError(f"'{name}' is not a fit name", "use letters, digits, '.', '_' and '-'")
    return name
