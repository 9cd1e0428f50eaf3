"""Students that chase two cheap metrics of tones; also a process of its own."""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import tiny_training as tiny

from earshot.models.streaming import StreamingModel
from earshot.pipeline.metrics.base import Metric, Signals, UnscorableError
from earshot.pipeline.progress import Silent
from earshot.pipeline.training.config import DistillConfig
from earshot.pipeline.training.loop import Trained
from earshot.pipeline.training.online import train_online


def _likeness(signals: Signals) -> float:
    """Cosine of the angle between both signals."""
    norms = np.linalg.norm(signals.clean) * np.linalg.norm(signals.enhanced)
    return float(abs(signals.clean @ signals.enhanced) / norms)


def _loudness(signals: Signals) -> float:
    """How near the levels are: 1 where they are equal."""
    ratio = np.linalg.norm(signals.enhanced) / np.linalg.norm(signals.clean)
    return float(min(ratio, 1 / ratio))


def _dies(signals: Signals) -> float:
    """Takes its process with it on about every third clip."""
    if int(abs(signals.enhanced[10]) * 1e6) % 3 == 0:
        os.kill(os.getpid(), signal.SIGSEGV)
    return _likeness(signals)


def _never(signals: Signals) -> float:
    raise UnscorableError("it never does")


LIKENESS = Metric("likeness", "1", True, "double", _likeness)
LOUDNESS = Metric("loudness", "1", True, "double", _loudness)
DIES = Metric("dies", "1", True, "double", _dies)
NEVER = Metric("never", "1", True, "double", _never)
DISTORTION = Metric("distortion", "1", False, "double", _likeness)

TWO = ("tiny_online:LIKENESS", "tiny_online:LOUDNESS")


def settings(metrics: tuple[str, ...] = TWO, online: dict[str, Any] | None = None, **changes: Any) -> DistillConfig:
    usual = {"epochs": 3, "steps_per_epoch": 3, "batch": 2, "segment_seconds": 0.1, "launcher": {"threads": 1}}
    section = {"metrics": metrics, "widths": (4, 4), **(online or {})}
    return DistillConfig.model_validate({**usual, "online": section, **changes})


def students(config: DistillConfig) -> list[StreamingModel]:
    assert config.online is not None
    return [tiny.network(index) for index in range(len(config.online.metrics))]


def run(work: Path, config: DistillConfig, seed: int = 0, **given: Any) -> Trained:
    usual: dict[str, Any] = {"sampler": tiny.Tones(seed), "validation": tiny.VALIDATION, "progress": Silent()}
    given = {"students": students(config), **usual, **given}
    return train_online(config=config, seed=seed, work=work, **given)


def main(work: str, changes: str) -> None:
    """Trains and prints one line of JSON: what came out."""
    (Path(work) / "drawn").mkdir(parents=True, exist_ok=True)
    told = tiny.Told()
    trained = run(
        Path(work), settings(**json.loads(changes)), sampler=tiny.Tones(0, Path(work) / "drawn"), progress=told
    )
    curves = [asdict(curve) for curve in trained.curves]
    result = {"digest": tiny.digest(trained.model), "curves": curves, "resumed": "resumed" in told.notes}
    print(json.dumps(result))  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
