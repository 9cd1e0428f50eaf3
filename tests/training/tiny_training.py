"""A training task of a second: a network of 300 parameters that takes noise off tones; also a process of its own."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray

from earshot.models.frontend import Frontend
from earshot.models.registry import build
from earshot.models.streaming import StreamingModel
from earshot.pipeline.data.base import EvalPair
from earshot.pipeline.progress import Silent
from earshot.pipeline.training.config import TeachingConfig
from earshot.pipeline.training.loop import Trained, train
from earshot.quantize.training.model import FakeQuantized

Audio = NDArray[np.float32]

FRONTEND = Frontend(window=64, hop=32, fft=64)
SIZES: dict[str, Any] = {"channels": [4], "strides": [4], "latent": 4, "hidden": 4}
SAMPLES = 1600


def sounds(seed: int, size: int) -> tuple[Audio, Audio]:
    dice = np.random.default_rng(seed)
    time = np.arange(SAMPLES) / FRONTEND.rate
    clean = 0.3 * np.sin(2 * np.pi * dice.uniform(300, 1500, (size, 1)) * time)
    noise = 0.3 * np.diff(dice.standard_normal((size, SAMPLES + 1)))
    return clean.astype(np.float32), (clean + noise).astype(np.float32)


@dataclass(frozen=True)
class Tones:
    """Draws batches by (seed, step), and leaves a file for every one it draws where `drawn` is given."""

    seed: int = 0
    drawn: Path | None = None

    def batch(self, step: int, size: int) -> tuple[Audio, Audio]:
        if self.drawn is not None:
            (self.drawn / f"{step}.{os.getpid()}").touch()
        return sounds(1000 * self.seed + step, size)


@dataclass(frozen=True)
class MadePair:
    seed: int
    files: tuple[Path, ...] = ()

    def load(self) -> tuple[Audio, Audio]:
        clean, noisy = sounds(self.seed, 1)
        return clean[0], noisy[0]

    def describe(self) -> dict[str, Any]:
        return {"seed": self.seed}


VALIDATION = tuple(EvalPair(f"pair{seed}", "tones", None, MadePair(10**6 + seed)) for seed in range(2))


def network(seed: int = 0, **changes: Any) -> StreamingModel:
    torch.manual_seed(seed)
    return build("dae_unet", FRONTEND, SIZES | changes)


def settings(**changes: Any) -> TeachingConfig:
    usual = {"epochs": 2, "steps_per_epoch": 5, "batch": 2, "warmup_steps": 2, "launcher": {"threads": 1}}
    return TeachingConfig.model_validate(usual | changes)


def digest(model: StreamingModel) -> str:
    return hashlib.sha256(safetensors.torch.save(model.state_dict())).hexdigest()


def run(work: Path, config: TeachingConfig, seed: int = 0, **given: Any) -> Trained:
    """Trains a fresh network on tones; `given` replaces the model, sampler, validation, progress or teacher."""
    work.mkdir(parents=True, exist_ok=True)
    usual: dict[str, Any] = {"validation": VALIDATION, "progress": Silent(), "teacher": None}
    given = {"model": network(seed), "sampler": Tones(seed)} | usual | given
    return train(config=config, seed=seed, work=work, **given)


class Told:
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.steps = 0
        self.total: int | None = None

    def start(self, task: str, total: int | None) -> None:
        self.total = total

    def advance(self, steps: int = 1, note: str = "") -> None:
        self.steps += steps
        self.notes.append(note)

    def finish(self, note: str = "") -> None:
        self.notes.append(note)


def rounding(model: StreamingModel) -> FakeQuantized:
    """The network as it trains for its int8 file."""
    return FakeQuantized(model, model.frontend.analyse(torch.from_numpy(sounds(5, 2)[1])).sequence)


def main(work: str, changes: str, how: str = "plain") -> None:
    """Trains, plainly or `rounding`, and prints one line of JSON: what came out."""
    (Path(work) / "drawn").mkdir(parents=True, exist_ok=True)
    told, student = Told(), network()
    trained = run(
        Path(work),
        settings(**json.loads(changes)),
        model=rounding(student) if how == "rounding" else student,
        sampler=Tones(0, Path(work) / "drawn"),
        progress=told,
    )
    result = {
        "digest": digest(trained.model),
        "student": digest(student),
        "curves": [asdict(curve) for curve in trained.curves],
        "steps": [told.steps, told.total],
        "resumed": "resumed" in told.notes,
    }
    print(json.dumps(result))  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
