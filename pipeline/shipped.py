"""The model that a run ships: the file that its budgets were held against."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from earshot.ci.gate import shipped_row
from earshot.ci.run_file import Row, Run
from earshot.core.errors import ArtifactError, UsageError
from earshot.pipeline.store import Artifact, Store


@dataclass(frozen=True)
class Shipped:
    """A run's model.

    Attributes:
        run: the run.
        row: the row of the run that it is, with all that was measured on it.
        artifact: where it lies, every byte checked.
        model: the .tflite.
    """

    run: Run
    row: Row
    artifact: Artifact
    model: Path


def shipped_model(store: Store, run: Run) -> Shipped:
    """What a run ships: int8 before int16x8 before float32.

    Raises:
        UsageError: the run made no model.
        ArtifactError: its artifact is gone or damaged, or holds no such .tflite.
    """
    row = shipped_row(run.rows)
    if row is None or row.artifact is None:
        raise UsageError(f"run {run.name}: it made no model", "make one with: earshot run, or give another run")
    artifact = store.find(row.artifact)
    if artifact is None:
        what = f"{store.root}: the artifact of run {run.name}, row '{row.row}', is gone or damaged"
        raise ArtifactError(what, "make it again with: earshot run, or get it with: earshot pull")
    variant = row.row.rpartition(":")[2]
    for name in artifact.manifest.files:
        if name.endswith(f"{variant}.tflite"):
            return Shipped(run, row, artifact, artifact.file(name))
    raise ArtifactError(f"{artifact.path}: no {variant} .tflite in it", "add a convert stage to the recipe")
