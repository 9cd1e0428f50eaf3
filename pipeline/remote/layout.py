"""What lies where in a shared store.

    earshot-remote.json              {"schema": "earshot.remote/1"}
    blobs/<2 digits>/<sha256>        payload files, named by their content: the same file is there once
    artifacts/<stage>-<id16>.json    an artifact's manifest, written when all its blobs are there
    runs/<name>.json                 a run file, written when all its artifacts are there
    tags/<tag>                       name of a run
    tmp/                             what is being written, where a file does not appear in one step; a push removes
                                     what is older than a day: a killed one left it

Nothing is named by anything that is not checked: names here are digests, or match the patterns below.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

from earshot.core.errors import ArtifactError
from earshot.pipeline.remote.folder import RemoteFolder

MARKER = "earshot-remote.json"
SCHEMA = "earshot.remote/1"
MAX_TAG_BYTES = 200
MAX_NAMES = 10_000
_MARKER_BYTES = 4096
_ARTIFACT = re.compile(r"([a-z][a-z0-9_]{0,31}-[0-9a-f]{16})\.json")
_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"


def blob(sha256: str) -> str:
    """Path of a payload file."""
    return f"blobs/{sha256[:2]}/{sha256}"


def artifact(folder: str) -> str:
    """Path of an artifact's manifest; `folder` is the name of its folder in a store."""
    return f"artifacts/{folder}.json"


def artifacts(remote: RemoteFolder) -> list[str]:
    """Folder names of all artifacts there; what is named otherwise is no artifact."""
    return sorted(found[1] for path in remote.sizes("artifacts") if (found := _ARTIFACT.fullmatch(path)))


def runs(remote: RemoteFolder) -> list[str]:
    """Names of all runs there. Raises ArtifactError where there are too many."""
    paths = _few(remote, "runs", (path for path in remote.sizes("runs") if re.fullmatch(_NAME + r"\.json", path)))
    return [path[: -len(".json")] for path in paths]


def tags(remote: RemoteFolder) -> dict[str, str]:
    """Tag -> name of its run. Raises ArtifactError for a tag that names none, and where there are too many."""
    found = {}
    for tag in _few(remote, "tags", (path for path in remote.sizes("tags") if re.fullmatch(_NAME, path))):
        name = (remote.read(f"tags/{tag}", MAX_TAG_BYTES) or b"").decode(errors="replace").strip()
        if not re.fullmatch(_NAME, name):
            raise ArtifactError(f"{remote.name}/tags/{tag}: names no run", "remove it there, and push the tag again")
        found[tag] = name
    return found


def _few(remote: RemoteFolder, folder: str, paths: Iterable[str]) -> list[str]:
    """In order. Each is one request to the location: more than anybody makes are not even begun with."""
    found = sorted(paths)
    if len(found) > MAX_NAMES:
        hint = "remove those that nobody needs, or give another location"
        raise ArtifactError(f"{remote.name}/{folder}: {len(found):,} files, {MAX_NAMES:,} at most are read", hint)
    return found


def has_marker(remote: RemoteFolder) -> bool:
    """Whether a location holds a shared store. Raises ArtifactError where it is of another schema."""
    content = remote.read(MARKER, _MARKER_BYTES)
    if content is None:
        return False
    try:
        schema = json.loads(content)["schema"]
    except (ValueError, KeyError, TypeError, RecursionError):
        schema = None
    if schema != SCHEMA:
        hint = "give another location, or use the version of earshot that wrote it"
        raise ArtifactError(f"{remote.name}/{MARKER}: its schema is {str(schema)[:80]!r}, not '{SCHEMA}'", hint)
    return True


def write_marker(remote: RemoteFolder) -> None:
    """Makes a location a shared store."""
    remote.put(MARKER, (json.dumps({"schema": SCHEMA}) + "\n").encode())
