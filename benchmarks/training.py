"""Whether mixing keeps up with training: steps a second, and how long the network waits for data.

    python benchmarks/training.py [--data DIR] [--threads N] [--steps N] [--epochs N] [--only NAME]...

Without --data: on the embedded pack. With it, on folders too: DIR as `earshot run real16k --data DIR` takes it. The
real training loop runs; only the clocks are added. In the first epoch every file is decoded when it is first drawn, in
later ones those drawn before lie in memory.

    waits first, later   share of an epoch's wall time in which the training thread waits for its next batch; on as many
                         cores as threads, whatever else runs there included
    data, network        CPU milliseconds a step of the mixing thread and of the training thread (with one thread all
                         of the network; with more, those of its helpers are missing)
    data / network       of both: what a busy machine changes least. Below 0.1 the network is busy more than 90 % of the
                         time even where one core does both; below 1 it never waits where mixing has a core of its own.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import torch

from earshot.models.frontend import Frontend
from earshot.models.registry import build, network
from earshot.pipeline.data.base import TrainSampler
from earshot.pipeline.data.config import DataConfig
from earshot.pipeline.data.open import open_data
from earshot.pipeline.progress import Silent
from earshot.pipeline.recipe import Recipe, load_recipe
from earshot.pipeline.training import loop
from earshot.pipeline.training.config import TeachingConfig, TrainConfig
from earshot.targets.agent import processor

if TYPE_CHECKING:
    from earshot.pipeline.data.base import Audio

Batches = Callable[[TrainSampler, range, int], Iterator[Any]]


@dataclass(frozen=True)
class Case:
    """A network, how it is trained, and on what."""

    name: str
    data: str
    network: str
    params: dict[str, Any]
    frontend: Frontend
    train: TrainConfig
    material: DataConfig


@dataclass
class Epoch:
    """Seconds of one epoch."""

    steps: int
    wall: float = 0.0
    waited: float = 0.0
    network: float = 0.0
    data: float = 0.0


@dataclass
class Clocks:
    """What is measured inside: the wait for every batch, CPU time of the mixing thread and of the training thread."""

    epochs: list[Epoch] = field(default_factory=list)
    mixing: int = 0

    def around(self, batches: Batches) -> Batches:
        """`batches` with its epoch's times taken."""

        def clocked(sampler: TrainSampler, steps: range, size: int) -> Iterator[Any]:
            epoch = Epoch(len(steps))
            self.epochs.append(epoch)
            stream = batches(_Clocked(sampler, self), steps, size)
            mixed, trained, begun = self.mixing, time.thread_time_ns(), time.perf_counter()
            while True:
                asked = time.perf_counter()
                batch = next(stream, None)
                epoch.waited += time.perf_counter() - asked
                if batch is None:
                    break
                yield batch
            epoch.wall = time.perf_counter() - begun
            epoch.network, epoch.data = (time.thread_time_ns() - trained) / 1e9, (self.mixing - mixed) / 1e9

        return clocked


class _Clocked:
    """A sampler that adds up what it costs the thread that calls it."""

    def __init__(self, sampler: TrainSampler, clocks: Clocks) -> None:
        self._sampler, self._clocks = sampler, clocks

    def batch(self, step: int, size: int) -> tuple[Audio, Audio]:
        begun = time.thread_time_ns()
        drawn = self._sampler.batch(step, size)
        self._clocks.mixing += time.thread_time_ns() - begun
        return drawn


def cases(folder: Path | None) -> list[Case]:
    """On the embedded pack, and on folders where there are any."""
    quickstart = load_recipe("quickstart")
    real = load_recipe("real16k", data=folder or Path("nowhere"))
    packed = DataConfig()
    scenes = {"kind": "array", "scenes": {"microphones": "ears", "count": 16}}
    microphones = DataConfig.model_validate({"train": scenes, "validation": scenes, "test": scenes})
    found = [
        _of_recipe("dae_unet, quickstart", "pack", quickstart, packed),
        _of_recipe("dae_unet, real16k", "pack", real, packed),
        _usual("rt_senet", "pack", packed),
        _usual("mobile_unet", "pack at 48 kHz", packed),
        _usual("metricgan", "pack", packed),
        _usual("ft_jnf", "pack, two microphones", microphones, {"hidden_frequency": 16, "hidden_time": 16}, 2),
    ]
    if folder is not None:
        array = load_recipe("array", data=folder)
        found += [
            _of_recipe("ft_jnf, array", "rooms, five microphones", array, array.data),
            _of_recipe("dae_unet, real16k", "folders", real, real.data),
            _usual("rt_senet", "folders", real.data),
            _usual("mobile_unet", "folders at 48 kHz", real.data),
            _usual("metricgan", "folders", real.data),
        ]
    return found


def _of_recipe(name: str, data: str, recipe: Recipe, material: DataConfig) -> Case:
    """Its student without a teacher, which would only make the network slower."""
    train = TrainConfig.model_validate(recipe.distill.model_dump(include=set(TrainConfig.model_fields)))
    student = recipe.student
    return Case(name, data, student.network, student.params, recipe.frontend, train, material)


def _usual(
    name: str, data: str, material: DataConfig, params: dict[str, Any] | None = None, microphones: int = 1
) -> Case:
    frontend = network(name).usual.model_copy(update={"channels": microphones})
    return Case(name, data, name, params or {}, frontend, TrainConfig(batch=8), material)


def measured(case: Case, steps: int, epochs: int, threads: int) -> Sequence[Epoch]:
    """Trains and returns the times of its epochs."""
    launcher = case.train.launcher.model_copy(update={"threads": threads, "accelerator": "cpu"})
    changes = {"epochs": epochs, "steps_per_epoch": steps, "patience": epochs, "launcher": launcher}
    settings = TeachingConfig.model_validate({**case.train.model_dump(), **changes, "launcher": launcher.model_dump()})
    data = open_data(case.material, case.frontend.rate, microphones=case.frontend.channels)
    torch.manual_seed(0)
    model = build(case.network, case.frontend, case.params)
    clocks = Clocks()
    with tempfile.TemporaryDirectory() as work, patch.object(loop, "batches", clocks.around(loop.batches)):
        data.sampler(1, settings.segment_seconds).batch(0, 1)  # loads libraries, which is no matter of mixing
        sampler = data.sampler(0, settings.segment_seconds)
        loop.train(model, settings, sampler, (), 0, Path(work), Silent())
    return clocks.epochs


def row(case: Case, epochs: Sequence[Epoch]) -> tuple[str, ...]:
    """A line of the table; the first epoch counts for itself."""
    first, later = epochs[0], epochs[1:]
    data = median(epoch.data / epoch.steps for epoch in later)
    busy = median(epoch.network / epoch.steps for epoch in later)
    return (
        case.name,
        case.data,
        f"{case.train.batch} x {case.train.segment_seconds:g} s",
        f"{median(epoch.steps / epoch.wall for epoch in later):.2f}",
        f"{first.waited / first.wall:.1%}",
        f"{median(epoch.waited / epoch.wall for epoch in later):.1%}",
        f"{1e3 * first.data / first.steps:.1f}",
        f"{1e3 * data:.1f}",
        f"{1e3 * busy:.1f}",
        f"{first.data / first.steps / busy:.3f}",
        f"{data / busy:.3f}",
    )


HEADER = (
    "network", "data", "batch", "steps/s", "waits first", "waits later", "data first ms", "data later ms", "network ms",
    "data / network first", "later",
)  # fmt: skip


def main() -> None:
    """Prints one line a case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--only", action="append", help="part of what names a line: network, data; may be given again")
    given = parser.parse_args()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    print(
        f"{processor()}, {cores} cores, load {os.getloadavg()[0]:.1f}; {given.threads} threads; "
        f"{given.epochs} epochs of {given.steps} steps, medians over all but the first\n"
    )
    print("| " + " | ".join(HEADER) + " |\n|" + " --- |" * len(HEADER))
    for case in cases(given.data):
        if not given.only or any(name in f"{case.name}, {case.data}" for name in given.only):
            times = measured(case, given.steps, given.epochs, given.threads)
            print("| " + " | ".join(row(case, times)) + " |", flush=True)


if __name__ == "__main__":
    main()
