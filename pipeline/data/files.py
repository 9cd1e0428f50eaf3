"""Finds sound files: expands paths, lists folders, and checks that splits share no file."""

from __future__ import annotations

import itertools
import os
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from earshot.core.errors import DataError
from earshot.pipeline.data.audio import probe
from earshot.pipeline.data.digests import Digests

SUFFIXES = {".flac", ".wav", ".ogg"}

_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


def expand(path: Path) -> Path:
    """Replaces `~` and `${NAME}`. Raises DataError when the environment has no such variable."""
    text = os.path.expandvars(str(path))
    missing = _VARIABLE.search(text)
    if missing:
        name = missing[1] or missing[2]
        raise DataError(f"{path}: the environment has no {name}", f"set it: export {name}=/path/to/data")
    return Path(text).expanduser()


def folder(path: Path) -> Path:
    """The expanded path of an existing folder. Raises DataError."""
    found = expand(path)
    if not found.is_dir():
        raise DataError(f"{found}: no such folder", "check the path in the recipe's data section")
    return found


def sound_files(path: Path) -> tuple[Path, ...]:
    """Every sound file under a folder, sorted, each with a sound header. Raises DataError when there is none."""
    root = folder(path)
    found = tuple(
        entry
        for entry in sorted(root.rglob("*"))
        if entry.suffix.lower() in SUFFIXES and not entry.name.startswith(".")
    )
    if not found:
        raise DataError(f"{root}: holds no sound files", f"put {', '.join(sorted(SUFFIXES))} files there")
    for entry in found:
        probe(entry)
    return found


def check_disjoint(splits: Mapping[str, Sequence[Path]], digests: Digests) -> None:
    """Raises DataError when two splits share a file, by path or by content.

    Only files of equal size can be equal, so only those are read.
    """
    places = {name: {path.resolve() for path in paths} for name, paths in splits.items()}
    for (first, ours), (second, theirs) in itertools.combinations(places.items(), 2):
        for path in sorted(ours & theirs):
            raise _overlap(first, path, second, path)

    sizes: dict[int, list[tuple[str, Path]]] = defaultdict(list)
    for name, paths in places.items():
        for path in sorted(paths):
            sizes[path.stat().st_size].append((name, path))
    suspects = [group for group in sizes.values() if len({name for name, _ in group}) > 1]
    contents = dict(
        zip(
            (entry for group in suspects for entry in group),
            digests.of(path for group in suspects for _, path in group),
            strict=True,
        )
    )
    seen: dict[str, tuple[str, Path]] = {}
    for (name, path), digest in contents.items():
        other, twin = seen.setdefault(digest, (name, path))
        if other != name:
            raise _overlap(other, twin, name, path)


def _overlap(first: str, path: Path, second: str, twin: Path) -> DataError:
    same = f"{path}" if path == twin else f"{path} and {twin} (equal content)"
    return DataError(
        f"{same}: in both the {first} and the {second} data",
        "remove it from one of them; files that belong together are kept together by holdout's `by`",
    )
