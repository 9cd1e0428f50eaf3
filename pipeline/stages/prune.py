"""prune: takes channels out of a network by their dependency graph, then fine-tunes what is left."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from earshot.core.files import write_json
from earshot.core.measurement import Measurement
from earshot.models.registry import own_code
from earshot.pipeline.data.base import Data
from earshot.pipeline.progress import Progress
from earshot.pipeline.stages.distill import CURVES
from earshot.pipeline.stages.enter import CHECKPOINT
from earshot.pipeline.stages.step import Inputs, Step
from earshot.pipeline.training.config import PruneConfig

VERSION = 1
REPORT = "pruning.json"


def prune(title: str, settings: PruneConfig, data: Data, seed: int, *, model: Step, teacher: Step | None) -> Step:
    """A pruning step.

    Args:
        title: `prune`.
        settings: how much to remove, and how to fine-tune.
        data: material for fine-tuning.
        seed: of batches and augmentation.
        model: makes the checkpoint to prune.
        teacher: makes the teacher's checkpoint, where the method needs one.
    """

    def produce(inputs: Inputs, out: Path, work: Path, progress: Progress) -> list[Measurement]:
        import torch

        from earshot.models import checkpoint
        from earshot.models.cost import cost
        from earshot.pipeline.pruning import prune_network
        from earshot.pipeline.training.loop import train

        torch.manual_seed(seed)
        path = inputs["model"].file(CHECKPOINT)
        description = checkpoint.describe(path)
        assert description is not None
        dense = checkpoint.load(path)
        pruned = prune_network(dense, settings, work, progress)
        taught = checkpoint.load(inputs["teacher"].file(CHECKPOINT)) if "teacher" in inputs else None
        sampler = data.sampler(seed + 1, settings.segment_seconds)
        trained = train(pruned.model, settings, sampler, data.validation, seed + 1, work, progress, taught)
        checkpoint.save(trained.model, description.network, out / CHECKPOINT)
        write_json(out / CURVES, [curve.as_dict() for curve in trained.curves])
        write_json(out / REPORT, asdict(pruned.report))
        return cost(trained.model)

    decisive = settings.model_dump(mode="json", exclude={"log": True, "launcher": {"threads"}})
    steps = {"model": model} | ({"teacher": teacher} if teacher is not None else {})
    outside = {
        "train": data.digest("train"),
        "validation": data.digest("validation"),
        **own_code(settings.method),
    }
    return Step(title, "prune", VERSION, {"settings": decisive, "seed": seed}, steps, outside, seed, produce)
