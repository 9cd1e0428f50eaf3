"""The quality of a row on the test set: of the noisy input, or of a model in its streaming form."""

from __future__ import annotations

from pathlib import Path

from earshot.core.errors import ModelError
from earshot.core.files import write_json
from earshot.core.measurement import Measurement
from earshot.models.frontend import Frontend
from earshot.pipeline.data.base import Data
from earshot.pipeline.enhancers import CheckpointEnhancer, Clip, Enhancer, Passthrough, TfliteEnhancer, enhanced_clips
from earshot.pipeline.progress import Progress
from earshot.pipeline.stages.enter import CHECKPOINT
from earshot.pipeline.stages.step import Inputs, Step

VERSION = 1
SCORES = "scores.json"


def quality(
    row: str,
    metrics: tuple[str, ...],
    data: Data,
    *,
    model: Step | None = None,
    file: str = "",
    frontend: Frontend | None = None,
) -> Step:
    """A scoring step.

    Args:
        row: the row it belongs to; `noisy` has no model.
        metrics: names of quality metrics.
        data: the test pairs.
        model: makes the artifact that is scored.
        file: the .tflite in it; where it is absent the checkpoint is scored (not causal), and an artifact of the
            quantize stage is scored through its fake-quantised reference.
        frontend: of the recipe, for the reference.
    """

    def produce(inputs: Inputs, out: Path, work: Path, progress: Progress) -> list[Measurement]:
        from earshot.pipeline.evaluation import evaluate
        from earshot.pipeline.metrics.registry import resolve

        clips: list[Clip] = list(data.test)
        enhancer: Enhancer = Passthrough()
        if "model" in inputs:
            artifact = inputs["model"]
            if artifact.stage == "quantize":
                assert frontend is not None
                try:
                    clips, enhancer = _through_reference(artifact.path, clips, frontend, progress), Passthrough(row)
                except ModelError as error:
                    # A user's graph may hold an operator the reference lacks; its files are scored all the same.
                    write_json(out / SCORES, {"unavailable": error.message})
                    return [Measurement(name, None, resolve(name).unit, reason=error.message) for name in metrics]
            elif file in artifact.manifest.files:
                enhancer = TfliteEnhancer(artifact.file(file))
            else:
                enhancer = CheckpointEnhancer(inputs["checkpoint"].file(CHECKPOINT))
        result = evaluate(
            enhancer, clips, metrics, data.rate, dataset=data.digest("test"), progress=_Titled(progress, row)
        )
        write_json(out / SCORES, result.to_dict())
        groups = result.by_group()
        found = list(result.measurements())
        if len(groups) > 1:
            found += [_grouped(name, one) for name, measured in groups.items() for one in measured]
        return found

    steps = {"model": model} if model is not None else {}
    if model is not None and model.stage == "export":
        steps["checkpoint"] = model.inputs["model"]
    config = {"metrics": list(metrics), "file": file, "row": row if model is None else ""}
    return Step(f"quality of {row}", "quality", VERSION, config, steps, {"test": data.digest("test")}, 0, produce)


class _Titled:
    """Names the row in the progress of an evaluation."""

    def __init__(self, progress: Progress, row: str) -> None:
        self._progress, self._row = progress, row
        self.advance, self.finish, self.beside = progress.advance, progress.finish, progress.beside

    def start(self, task: str, total: int | None) -> None:
        """A task begins."""
        self._progress.start(f"score {self._row}", total)


def _grouped(group: str, found: Measurement) -> Measurement:
    """A group's measurement is named `metric[group]`, which a budget can name too."""
    from dataclasses import replace

    return replace(found, metric=f"{found.metric}[{group}]")


def _through_reference(plan: Path, clips: list[Clip], frontend: Frontend, progress: Progress) -> list[Clip]:
    """Clips enhanced by the fake-quantised int8 reference, all of them advancing frame by frame together."""
    import numpy as np
    import torch

    from earshot.quantize.graph import read_graph
    from earshot.quantize.integer import quantize_graph
    from earshot.quantize.plan import read_plan
    from earshot.quantize.reference import Reference

    settled = read_plan(plan)
    keep = settled.precisions.keep_float, settled.precisions.keep_wide
    content = quantize_graph(settled.float_path, settled.ranges, "int8", *keep)
    reference = Reference(read_graph(content))
    noisy = [clip.load()[1] for clip in clips]
    lengths = [sound.shape[-1] for sound in noisy]
    padded = np.zeros((len(noisy), *noisy[0].shape[:-1], max(lengths)), np.float32)
    for row, sound in zip(padded, noisy, strict=True):
        row[..., : sound.shape[-1]] = sound
    analysed = frontend.analyse(torch.from_numpy(padded))
    progress.start("fake-quantised reference", analysed.sequence.shape[2])
    outputs = reference.run(analysed.sequence, progress.advance)
    progress.finish()
    enhanced = frontend.synthesise(analysed, outputs).numpy()
    waveforms = {clip.id: enhanced[index, : lengths[index]] for index, clip in enumerate(clips)}
    return list(enhanced_clips(clips, waveforms))
