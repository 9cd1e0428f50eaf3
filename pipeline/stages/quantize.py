"""quantize: streaming calibration, tied ranges, and a precision for every operator, with the reason."""

from __future__ import annotations

from pathlib import Path

from earshot.core.measurement import Measurement
from earshot.pipeline.data.base import Data
from earshot.pipeline.progress import Progress
from earshot.pipeline.recipe import Recipe
from earshot.pipeline.stages.causal import require_causal
from earshot.pipeline.stages.enter import CHECKPOINT
from earshot.pipeline.stages.step import Inputs, Step

VERSION = 2


def quantize(title: str, recipe: Recipe, data: Data, *, model: Step, source: str) -> Step:
    """A quantization step.

    Args:
        title: `quantize`.
        recipe: its quantize section, frontend and seed.
        data: calibration sound, from its training part.
        model: makes the checkpoint, or takes in the user's own file.
        source: name of that file in the artifact.
    """
    section, frontend, seed, entry = recipe.quantize, recipe.frontend, recipe.seed, recipe.entry

    def produce(inputs: Inputs, out: Path, work: Path, progress: Progress) -> list[Measurement]:
        from earshot.models import checkpoint
        from earshot.pipeline.stages.calibration import calibration_features
        from earshot.quantize.entry import quantize_tensorflow, quantize_tflite
        from earshot.quantize.plan import quantize_model

        path = inputs["model"].path / source
        features = calibration_features(data, frontend, section.clips, section.seconds, seed)
        progress.start("calibrate, frame by frame", len(features))
        if source == CHECKPOINT:
            description = checkpoint.describe(path)
            loaded = checkpoint.load(path)
            require_causal(loaded, str(path))
            name = description.network if description else None
            quantize_model(loaded, features, out, section, network=name, advance=progress.advance)
        else:
            enter = quantize_tflite if path.suffix == ".tflite" else quantize_tensorflow
            enter(path, features, out, section, entry=entry, advance=progress.advance)
        progress.finish()
        return [found for found in inputs["model"].measurements if found.metric in INHERITED]

    config = {
        "settings": section.settings(),
        "frontend": frontend.model_dump(mode="json"),
        "seed": seed,
        "file": source,
    }
    return Step(
        title, "quantize", VERSION, config, {"model": model}, {"calibration": data.digest("train")}, seed, produce
    )


INHERITED = ("parameters", "macs_per_second", "algorithmic_latency_ms")
"""Costs that neither quantization nor conversion changes."""
