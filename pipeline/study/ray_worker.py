"""On a node of a Ray cluster: makes one step of a study, from what it is sent and from sound that lies there.

A node shares no disk with the store. Inputs arrive as parcels and are checked as artifacts, the payload goes back as a
parcel; in between they lie in `ray/` of the node's cache folder, where an interrupted training is resumed:

    cache/                 digests of sound files
    checkpoints/<digest>/  teachers given as files
    steps/<id16>/          inputs, payload and scratch of a step under way; `<id16>.lock` holds off a second worker
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from earshot.core.errors import DataError, EarshotError, ToolError, UsageError
from earshot.core.files import disk_error
from earshot.pipeline.data.base import Data, Split
from earshot.pipeline.evaluation import CORES
from earshot.pipeline.manifest import library_versions
from earshot.pipeline.stages.step import Step
from earshot.pipeline.store import Store
from earshot.pipeline.study.cells import matrix, open_study_data
from earshot.pipeline.study.config import Study
from earshot.pipeline.study.order import Done, Order, Sending, Sign, carry_out
from earshot.pipeline.study.parcel import Parcel, pack, pack_file, unpack
from earshot.targets.cache import cache_folder

SAME_VERSIONS = "install the same versions on every node"
_SPLITS: tuple[Split, ...] = ("train", "validation", "test")
_SECONDS_BETWEEN_SIGNS = 0.5


@dataclass(frozen=True)
class Luggage:
    """What every node is sent of a study.

    Attributes:
        study: with absolute paths.
        checkpoints: teacher -> its file, where it is given and not trained.
        sound: split -> digest of the sound that all cells stand on.
        threads: CPU threads of a step.
        versions: of what shapes results, on the machine where the study runs.
    """

    study: Study
    checkpoints: Mapping[str, Parcel]
    sound: Mapping[Split, str]
    threads: int
    versions: Mapping[str, str]


class MisfitError(Exception):
    """A node cannot make steps of this study; its arguments are Ray's id of the node and why."""


class Mailbox:
    """Holds signs of progress until the study's process fetches them; lives in a process of its own, as a Ray actor."""

    def __init__(self) -> None:
        self._held: list[tuple[str, str, Sign | None]] = []

    def post(self, identity: str, node: str, sign: Sign | None) -> None:
        """A sign of a step from a node; None says that it has begun."""
        self._held.append((identity, node, sign))

    def fetch(self) -> list[tuple[str, str, Sign | None]]:
        """All since the last time."""
        held, self._held = self._held, []
        return held


def packed_up(study: Study, data: Data, threads: int) -> Luggage:
    """What to send of a study. Raises OSError when a teacher's checkpoint cannot be read."""
    there = Study.model_validate(_absolute(study.model_dump()))
    given = {name: teacher.checkpoint for name, teacher in there.teachers.items() if teacher.checkpoint is not None}
    checkpoints = {name: pack_file(path) for name, path in given.items()}
    sound = {split: data.digest(split) for split in _SPLITS}
    return Luggage(there, checkpoints, sound, threads, library_versions())


def differing(ours: Mapping[str, str], theirs: Mapping[str, str]) -> str:
    """What differs between two machines' versions; builds for another accelerator (`+cu126`) are equal."""
    return ", ".join(
        f"{name} is {theirs.get(name, 'missing')} there and {version} here"
        for name, version in ours.items()
        if theirs.get(name, "").partition("+")[0] != version.partition("+")[0]
    )


def examine(luggage: Luggage, wanted: Sequence[str]) -> EarshotError | None:
    """Why this node cannot make these steps; None when it can."""
    try:
        steps = _plan(luggage, _root())
    except EarshotError as error:
        return error
    except OSError as error:
        return disk_error(_root(), error)
    if not set(wanted) <= set(steps):
        return UsageError("the study makes other steps there", "put the same networks and methods on every node")
    return None


def make(luggage: Luggage, identity: str, mailbox: Any, roles: Sequence[str], *inputs: Parcel) -> tuple[Done, Parcel]:
    """Makes a step; the parcel holds its files.

    Args:
        luggage: of the study.
        identity: of the step.
        mailbox: handle of the actor that hears of the progress.
        roles: of the inputs.
        inputs: artifacts that go in, in the order of `roles`.

    Raises:
        MisfitError: this node cannot make steps of this study. What is wrong with the step is part of the result.
    """
    from ray import get_runtime_context

    node = get_runtime_context().get_node_id()
    mailbox.post.remote(identity, node, None)
    try:
        return _made(luggage, identity, _Post(mailbox, identity, node), roles, inputs)
    except EarshotError as error:
        raise MisfitError(node, error) from error


def _made(
    luggage: Luggage, identity: str, post: _Post, roles: Sequence[str], inputs: Sequence[Parcel]
) -> tuple[Done, Parcel]:
    # Nodes are looked at before a study begins; this one may have come later.
    if differences := differing(luggage.versions, library_versions()):
        raise ToolError(differences, SAME_VERSIONS)
    os.environ[CORES] = str(luggage.threads)  # no core is this step's own, but scoring takes as many as it was given
    root = _root()
    folder = root / "steps" / identity[:16]
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):  # a worker of a node that was lost may take a moment to end
        step = _plan(luggage, root)[identity]
        for name in ("inputs", "out"):
            shutil.rmtree(folder / name, ignore_errors=True)
        came = {
            role: unpack(parcel, folder / "inputs" / parcel.name) for role, parcel in zip(roles, inputs, strict=True)
        }
        order = Order(identity, came, folder / "out", folder / "work")
        for place in (order.out, order.work):
            place.mkdir(exist_ok=True)
        done = carry_out(order, step, Store(root), Sending(post, step.title))
        made = pack(order.out)
        if done.error is None:
            shutil.rmtree(folder, ignore_errors=True)
    return done, made


class _Post:
    """Posts signs, those of a busy stage twice a second."""

    def __init__(self, mailbox: Any, identity: str, node: str) -> None:
        self._mailbox, self._identity, self._node = mailbox, identity, node
        self._steps = 0
        self._sent = 0.0

    def __call__(self, sign: Sign) -> None:
        if sign.method == "advance":
            steps, note = sign.arguments
            self._steps += steps
            if time.monotonic() - self._sent < _SECONDS_BETWEEN_SIGNS:
                return
            sign = Sign("advance", (self._steps, note))
        self._steps = 0
        self._sent = time.monotonic()
        self._mailbox.post.remote(self._identity, self._node, sign)


def _root() -> Path:
    return cache_folder() / "ray"


def _plan(luggage: Luggage, root: Path) -> dict[str, Step]:
    """The steps as this node makes them, from sound that is proven to be the same."""
    teachers = dict(luggage.study.teachers)
    for name, parcel in luggage.checkpoints.items():
        (file,) = parcel.files
        path = unpack(parcel, root / "checkpoints" / parcel.digest[:16]) / file
        teachers[name] = teachers[name].model_copy(update={"checkpoint": path})
    study = luggage.study.model_copy(update={"teachers": teachers})
    data = open_study_data(study, root / "cache")
    for split, digest in luggage.sound.items():
        if data.digest(split) != digest:
            raise DataError(f"the {split} sound is not the same there as here", "copy it to every node")
    return matrix(study, data, luggage.threads).steps


def _absolute(value: Any) -> Any:
    """Relative paths start where earshot is run, which is nowhere on a node."""
    if isinstance(value, Path):
        return value.absolute()
    if isinstance(value, Mapping):
        return {name: _absolute(part) for name, part in value.items()}
    return [_absolute(part) for part in value] if isinstance(value, list | tuple) else value
