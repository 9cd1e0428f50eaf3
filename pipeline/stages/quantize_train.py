"""quantize_train: fine-tunes a network that rounds as its int8 file will; its weights then go the ordinary way."""

from __future__ import annotations

from pathlib import Path

from earshot.core.files import write_json
from earshot.core.measurement import Measurement
from earshot.models.registry import own_code
from earshot.pipeline.data.base import Data
from earshot.pipeline.progress import Progress
from earshot.pipeline.stages.causal import require_causal
from earshot.pipeline.stages.distill import CURVES
from earshot.pipeline.stages.enter import CHECKPOINT
from earshot.pipeline.stages.step import Inputs, Step
from earshot.pipeline.training.config import TeachingConfig

VERSION = 1


def quantize_train(
    title: str,
    settings: TeachingConfig,
    clips: int,
    seconds: float,
    data: Data,
    seed: int,
    *,
    model: Step,
    teacher: Step | None,
) -> Step:
    """A step of quantization-aware training.

    Args:
        title: `quantize:train`.
        settings: how to fine-tune.
        clips, seconds: training mixes on which ranges are measured before.
        data: material for fine-tuning.
        seed: of calibration, batches and augmentation.
        model: makes the float checkpoint.
        teacher: makes the teacher's checkpoint, where the method needs one.
    """

    def produce(inputs: Inputs, out: Path, work: Path, progress: Progress) -> list[Measurement]:
        import torch

        from earshot.models import checkpoint
        from earshot.models.cost import cost
        from earshot.pipeline.stages.calibration import calibration_features
        from earshot.pipeline.training.loop import train
        from earshot.quantize.training.model import FakeQuantized

        torch.manual_seed(seed)
        path = inputs["model"].file(CHECKPOINT)
        description = checkpoint.describe(path)
        assert description is not None
        network = checkpoint.load(path)
        require_causal(network, title)
        features = torch.from_numpy(calibration_features(data, network.frontend, clips, seconds, seed))
        progress.start("measure ranges", clips)
        rounding = FakeQuantized(network, features, progress.advance)
        progress.finish()
        taught = checkpoint.load(inputs["teacher"].file(CHECKPOINT)) if "teacher" in inputs else None
        sampler = data.sampler(seed + 1, settings.segment_seconds)
        trained = train(rounding, settings, sampler, data.validation, seed + 1, work, progress, taught)
        checkpoint.save(network.eval(), description.network, out / CHECKPOINT)
        write_json(out / CURVES, [curve.as_dict() for curve in trained.curves])
        return cost(network)

    decisive = settings.model_dump(mode="json", exclude={"log": True, "launcher": {"threads"}})
    config = {"settings": decisive, "clips": clips, "seconds": seconds, "seed": seed}
    steps = {"model": model} | ({"teacher": teacher} if teacher is not None else {})
    outside = {
        "train": data.digest("train"),
        "validation": data.digest("validation"),
        **own_code(settings.method),
    }
    return Step(title, "quantize_train", VERSION, config, steps, outside, seed, produce)
