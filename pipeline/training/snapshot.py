"""What an interrupted training run leaves behind, so that the next one continues it exactly."""

from __future__ import annotations

import hashlib
import io
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from earshot.core.files import write_atomic
from earshot.pipeline.training.curves import Curve

_FILE = "last.pt"


@dataclass(frozen=True)
class Snapshot:
    """The state after an epoch, beside the weights and the optimiser, which `restore` puts in place."""

    curves: tuple[Curve, ...] = ()
    best_weights: dict[str, Tensor] | None = None


def store(work: Path, state: Snapshot, learner: nn.Module, optimiser: Any) -> None:
    """Writes the snapshot atomically. Raises ToolError on a full disk."""
    buffer = io.BytesIO()
    content = {
        "learner": learner.state_dict(),
        "optimiser": optimiser.state_dict(),
        "best_weights": state.best_weights,
        "curves": [curve.as_dict() for curve in state.curves],
    }
    torch.save(content, buffer)
    # Not every byte of the format is covered by a checksum of its own.
    write_atomic(work / _FILE, _digest(buffer.getvalue()) + buffer.getvalue())


def restore(work: Path, learner: nn.Module, optimiser: Any) -> Snapshot:
    """Puts weights and optimiser back where a snapshot exists; a damaged one is dropped and training starts over."""
    path = work / _FILE
    if not path.exists():
        return Snapshot()
    try:
        stored = path.read_bytes()
        digest, saved = stored[: hashlib.sha256().digest_size], stored[hashlib.sha256().digest_size :]
        if digest != _digest(saved):
            raise ValueError("the snapshot is damaged")
        content = torch.load(io.BytesIO(saved), weights_only=True)
        learner.load_state_dict(content["learner"])
        optimiser.load_state_dict(content["optimiser"])
        return Snapshot(tuple(Curve(**curve) for curve in content["curves"]), content["best_weights"])
    except (OSError, RuntimeError, EOFError, KeyError, TypeError, ValueError, pickle.UnpicklingError):
        path.unlink(missing_ok=True)
        return Snapshot()


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()
