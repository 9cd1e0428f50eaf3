"""convert: the device files, each described and held against its reference."""

from __future__ import annotations

from pathlib import Path

from earshot.core.measurement import Measurement
from earshot.models.frontend import Frontend
from earshot.pipeline.data.base import Data
from earshot.pipeline.progress import Progress
from earshot.pipeline.recipe import ConvertSection
from earshot.pipeline.stages.quantize import INHERITED
from earshot.pipeline.stages.step import Inputs, Step
from earshot.quantize.convert import ConvertConfig

VERSION = 1


def variant_file(config: ConvertConfig, variant: str) -> str:
    """Name of a variant's .tflite in the artifact."""
    return f"{config.name}.{variant}.tflite"


def convert(
    title: str, section: ConvertSection, frontend: Frontend, data: Data, seed: int, *, plan: Step
) -> list[Step]:
    """One step for each variant, so that a variant is made once whatever else is asked for.

    Args:
        title: `convert`; rows are `convert:<variant>`.
        section: which variants.
        frontend: of the recipe; parity features come from it.
        data: parity sound, from its training part.
        seed: of the parity mixes.
        plan: makes the quantize artifact.
    """

    def one(variant: str) -> Step:
        settings = section.model_copy(update={"variants": (variant,)})

        def produce(inputs: Inputs, out: Path, work: Path, progress: Progress) -> list[Measurement]:
            from earshot.pipeline.stages.calibration import calibration_features
            from earshot.quantize.convert import convert_model

            progress.start(f"convert to {variant}", None)
            features = calibration_features(data, frontend, 4, 4.0, seed + 1)
            report = convert_model(inputs["plan"].path, out, settings, features)
            progress.finish()
            inherited = [found for found in inputs["plan"].measurements if found.metric in INHERITED]
            return [*inherited, *report.variants[settings.variants[0]].measurements()]

        config = {
            "settings": settings.settings(),
            "frontend": frontend.model_dump(mode="json"),
            "seed": seed,
        }
        outside = {"parity": data.digest("train")}
        return Step(f"{title}:{variant}", "convert", VERSION, config, {"plan": plan}, outside, seed, produce)

    return [one(variant) for variant in section.variants]
