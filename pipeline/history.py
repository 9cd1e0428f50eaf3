"""The runs of a store, and baseline files, as entries of a history: what each measured and what that holds for."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from earshot.ci.evidence import Evidence, Scores, Timing, read_baseline
from earshot.ci.history import Entry
from earshot.ci.number import per_clip
from earshot.ci.run_file import Row, Run, read_run
from earshot.core.errors import ArtifactError, UsageError
from earshot.pipeline.evidence import scores_of, timings_of
from earshot.pipeline.manifest import folder_name
from earshot.pipeline.runs import run_names, run_path, tags
from earshot.pipeline.store import Artifact, Store

T = TypeVar("T")
Choose = Callable[[Entry], Iterable[Row]]
_BEGUN = re.compile(r"-(\d{8}-\d{6})(?:-(\d+))?$")  # as `runner.run` names its runs


def read_entries(
    store: Store, metrics: Sequence[str], choose: Choose, *, every_run: bool = False, files: Sequence[Path] = ()
) -> tuple[list[Entry], list[str]]:
    """Runs in the order they were made.

    A run that cannot be read is an entry with its problem, and so is a tag whose run is gone.

    Args:
        store: where they lie.
        metrics: what will be asked for; only what these hold for is read.
        choose: the rows of an entry that will be asked for.
        every_run: all runs, not only those that have a tag.
        files: baseline files to put among them.

    Returns:
        The entries, and notes on files that were left out.

    Raises:
        UsageError: the store has no runs, or none with a tag.
        ArtifactError: a file is missing, damaged or no baseline.
    """
    tagged: dict[str, list[str]] = {}
    for tag, name in tags(store).items():
        tagged.setdefault(name, []).append(tag)
    names = run_names(store)
    wanted = list(dict.fromkeys((*(names if every_run else ()), *tagged)))
    if not wanted and not files:
        _refuse_nothing(store, names)
    read = _Reader(store, metrics, choose)
    found = [read.run(name, tuple(tagged.get(name, ()))) for name in wanted]
    notes = []
    for path in files:
        entry = _baseline(path)
        if entry.evidence and entry.evidence.run in wanted:
            notes.append(f"{path}: left out, because its run {entry.evidence.run} is shown already")
        else:
            found.append(entry)
    return sorted(found, key=_order), notes


def _refuse_nothing(store: Store, names: Sequence[str]) -> None:
    if names:
        hint = f"tag one: earshot tag {names[-1]} NAME, or show all {len(names)} of them: --all"
        raise UsageError(f"{store.root}: no run has a tag", hint)
    raise UsageError(f"{store.root}: there are no runs", "make one with: earshot run")


class _Reader:
    """Reads runs; an artifact that several of them share is opened once."""

    def __init__(self, store: Store, metrics: Sequence[str], choose: Choose) -> None:
        self._store, self._metrics, self._choose = store, metrics, choose
        self._scored = any(per_clip(metric) for metric in metrics)
        self._scores: dict[str, Scores | None] = {}
        self._timings: dict[tuple[str, str], list[Timing]] = {}

    def run(self, name: str, given: tuple[str, ...]) -> Entry:
        """A run by name."""
        made = _begun(name)
        try:
            path = run_path(self._store, name)
            run = read_run(path)
        except (ArtifactError, UsageError) as error:
            return Entry(name, given, made, problem=error.message)
        made = made or datetime.fromtimestamp(path.stat().st_mtime, UTC)
        plain = Entry(name, given, made, run, Evidence(name=name, run=name, rows=run.rows))
        scores, timings = {}, []
        for row in self._choose(plain):
            if self._scored and (found := self._scores_of(run, row.row)) is not None:
                scores[row.row] = found
            targets = dict.fromkeys(one.target for metric in self._metrics for one in row.find(metric) if one.target)
            timings += [one for target in targets for one in self._timings_of(run, target) if one.row == row.row]
        evidence = Evidence(name=name, run=name, rows=run.rows, scores=scores, timings=tuple(timings))
        return Entry(name, given, made, run, evidence)

    def _scores_of(self, run: Run, row: str) -> Scores | None:
        identity = run.artifacts.get(f"quality of {row}", "")
        if identity not in self._scores:
            self._scores[identity] = self._read("quality", identity, scores_of)
        return self._scores[identity]

    def _timings_of(self, run: Run, target: str) -> list[Timing]:
        identity = run.artifacts.get(f"profile on {target}", "")
        if (target, identity) not in self._timings:
            self._timings[target, identity] = self._read("profile", identity, partial(timings_of, target)) or []
        return self._timings[target, identity]

    def _read(self, stage: str, identity: str, read: Callable[[Artifact], T]) -> T | None:
        """What an artifact holds; None where it is gone, damaged or of another make: then it says nothing.

        It is found by its folder's name: `Store.find` would look at every folder of the store for each.
        """
        try:
            found = self._store.open(self._store.artifacts_folder / folder_name(stage, identity))
            return read(found) if found.id == identity else None
        except (ArtifactError, ValueError, KeyError, TypeError, AttributeError):
            return None


def _baseline(path: Path) -> Entry:
    evidence = read_baseline(path)
    made = _begun(evidence.run) or datetime.fromtimestamp(path.stat().st_mtime, UTC)
    return Entry(str(path), (), made, None, evidence)


def _begun(name: str) -> datetime | None:
    """When a run began, as its name says. Copies of a store and git do not keep the times of files."""
    found = _BEGUN.search(name)
    try:
        return datetime.strptime(found.group(1), "%Y%m%d-%H%M%S").replace(tzinfo=UTC) if found else None
    except ValueError:
        return None


def _order(entry: Entry) -> tuple[Any, ...]:
    name = entry.evidence.run if entry.evidence else entry.name
    found = _BEGUN.search(name)
    number = int(found.group(2) or 1) if found else 1  # of several runs that began in one second
    return (entry.made or datetime.max.replace(tzinfo=UTC), number, name)
