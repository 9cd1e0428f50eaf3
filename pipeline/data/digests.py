"""Content digests of sound files, remembered so that a cached run does not read the corpus again."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from earshot.core.files import sha256_file, write_json

# [size in bytes, modification time in ns, hex digest]
Entry = tuple[int, int, str]


class Digests:
    """SHA-256 per file, kept in `cache`/digests.json under (path, size, modification time); no cache, no memory."""

    def __init__(self, cache: Path | None) -> None:
        self._file = None if cache is None else cache / "digests.json"
        self._known = _read(self._file)

    def of(self, files: Iterable[Path]) -> list[str]:
        """Hex digests in the order of `files`; new ones are remembered."""
        fresh = False
        found = []
        for path in files:
            status = path.stat()
            entry = self._known.get(str(path))
            if entry is None or entry[:2] != (status.st_size, status.st_mtime_ns):
                entry = (status.st_size, status.st_mtime_ns, sha256_file(path))
                self._known[str(path)] = entry
                fresh = True
            found.append(entry[2])
        if fresh and self._file is not None:
            write_json(self._file, {**_read(self._file), **self._known})
        return found


def _read(file: Path | None) -> dict[str, Entry]:
    if file is None:
        return {}
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
        return {path: (int(size), int(changed), str(digest)) for path, (size, changed, digest) in raw.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        # A cache: absent or damaged, it is only slower.
        return {}
