"""One unit of a run: what identifies its artifact before it exists, and how to make it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from earshot.core.measurement import Measurement
from earshot.pipeline.manifest import identity
from earshot.pipeline.progress import Progress
from earshot.pipeline.store import Artifact

Inputs = Mapping[str, Artifact]


class Produce(Protocol):
    """Makes an artifact's files."""

    def __call__(self, inputs: Inputs, out: Path, work: Path, progress: Progress) -> list[Measurement]:
        """Writes files into `out`; `work` is scratch that survives a kill. Returns what was measured on the way."""


@dataclass(frozen=True)
class Step:
    """An artifact to make.

    Attributes:
        title: what people call it, e.g. `distill`, `quality of distill`.
        stage, version: name and code version of the stage.
        config: all settings that change the result, plain JSON data.
        inputs: role -> the steps whose artifacts go in.
        outside: role -> digest of data that is no artifact (sound, a user's file).
        seed: noted in the manifest.
        produce: makes the files.
    """

    title: str
    stage: str
    version: int
    config: Mapping[str, Any]
    inputs: Mapping[str, Step]
    outside: Mapping[str, str]
    seed: int
    produce: Produce

    @property
    def digests(self) -> dict[str, str]:
        """Role -> identity or digest of everything that goes in."""
        return {**{role: step.id for role, step in self.inputs.items()}, **self.outside}

    @property
    def id(self) -> str:
        """Identity of the artifact, known before it exists."""
        return identity(self.stage, self.version, self.config, self.digests)
