"""The float32 streaming file of a checkpoint, so that quality and latency are measured on the streaming form."""

from __future__ import annotations

from pathlib import Path

from earshot.core.measurement import Measurement
from earshot.pipeline.progress import Progress
from earshot.pipeline.stages.enter import CHECKPOINT
from earshot.pipeline.stages.step import Inputs, Step

VERSION = 1
FLOAT_FILE = "model.float32.tflite"


def export(title: str, model: Step) -> Step:
    """A step that makes `model.float32.tflite`; a network that is not causal has none, and the artifact stays empty."""

    def produce(inputs: Inputs, out: Path, work: Path, progress: Progress) -> list[Measurement]:
        from earshot.models import checkpoint
        from earshot.quantize.export import export_float

        progress.start(title, None)
        path = inputs["model"].file(CHECKPOINT)
        network = checkpoint.load(path)
        if not network.causal:
            progress.finish("not causal: no streaming form")
            return []
        description = checkpoint.describe(path)
        export_float(network, out / FLOAT_FILE, description.network if description else None)
        progress.finish()
        return [Measurement("model_bytes", (out / FLOAT_FILE).stat().st_size, "bytes")]

    return Step(title, "export", VERSION, {}, {"model": model}, {}, 0, produce)
