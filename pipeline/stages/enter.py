"""Entering a run with a file of the user's own: it becomes an artifact, so that everything after it has a lineage."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

from earshot.core.files import sha256_file
from earshot.core.measurement import Measurement
from earshot.models.frontend import Frontend
from earshot.models.registry import own_code
from earshot.pipeline.progress import Progress
from earshot.pipeline.stages.step import Inputs, Step

CHECKPOINT = "model.safetensors"


def enter_checkpoint(title: str, path: Path, network: str, params: dict[str, Any], frontend: Frontend) -> Step:
    """A step that takes in a checkpoint, checks it against its network and rewrites it with a description.

    Args:
        title: row it stands for.
        path: `.safetensors` of earshot's, or plain weights (`.safetensors`, `.pt` with tensors only).
        network: the network of plain weights; a described checkpoint says its own.
        params: its sizes.
        frontend: its frontend.
    """

    def produce(inputs: Inputs, out: Path, work: Path, progress: Progress) -> list[Measurement]:
        from earshot.models import checkpoint
        from earshot.models.cost import cost

        described = None if path.suffix in (".pt", ".pth") else checkpoint.describe(path)
        model = checkpoint.load(path, network=network, params=params, frontend=frontend)
        checkpoint.save(model, described.network if described else network, out / CHECKPOINT)
        return cost(model)

    config = {"network": network, "params": params, "frontend": frontend.model_dump(mode="json")}
    return Step(title, "enter", 1, config, {}, {"file": sha256_file(path), **own_code(network)}, 0, produce)


def enter_file(title: str, path: Path, name: str) -> Step:
    """A step that takes in a file or folder as it is, under the name `name`."""

    def produce(inputs: Inputs, out: Path, work: Path, progress: Progress) -> list[Measurement]:
        if path.is_dir():
            shutil.copytree(path, out / name)
        else:
            shutil.copyfile(path, out / name)
            sidecar = path.with_suffix(".json")
            if sidecar.is_file():
                shutil.copyfile(sidecar, (out / name).with_suffix(".json"))
        return []

    return Step(title, "enter", 1, {"name": name}, {}, {"file": _digest(path)}, 0, produce)


def _digest(path: Path) -> str:
    if path.is_file():
        return sha256_file(path)
    parts = [f"{part.relative_to(path)} {sha256_file(part)}" for part in sorted(path.rglob("*")) if part.is_file()]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
