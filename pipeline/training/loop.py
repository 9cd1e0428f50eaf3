"""The training loop: task loss and distillation, validation after each epoch, early stop, exact resumption.

Everything random is a function of (seed, step), so a run that is killed and resumed ends with the weights of one that
was not. The scratch folder holds `last.pt` (tensors only, read with `weights_only`), written after each epoch.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from earshot.core.cores import usable_cores
from earshot.core.errors import ModelError, ToolError
from earshot.models.frontend import Analysed, Frontend
from earshot.models.streaming import StreamingModel
from earshot.pipeline.data.base import EvalPair, TrainSampler
from earshot.pipeline.distillation.base import DistillationMethod, View
from earshot.pipeline.distillation.registry import method as method_named
from earshot.pipeline.distillation.where_better import where_better
from earshot.pipeline.progress import Progress, Silent, from_processes
from earshot.pipeline.training.config import LossConfig, TeachingConfig
from earshot.pipeline.training.curves import Curve, epochs_since_best, open_log
from earshot.pipeline.training.denormals import denormals_flushed
from earshot.pipeline.training.losses import task_loss
from earshot.pipeline.training.prefetch import batches
from earshot.pipeline.training.schedule import Shares, learning_rate, shares
from earshot.pipeline.training.snapshot import Snapshot, restore, store


@dataclass(frozen=True)
class Trained:
    """The result: the network with its best weights, and how it got there."""

    model: StreamingModel
    curves: tuple[Curve, ...]


def train(
    model: StreamingModel,
    config: TeachingConfig,
    sampler: TrainSampler,
    validation: Sequence[EvalPair],
    seed: int,
    work: Path,
    progress: Progress,
    teacher: StreamingModel | None = None,
) -> Trained:
    """Trains `model` in place of its weights and returns it with the best ones.

    Args:
        model: the network to train; its weights are the starting point.
        config: settings.
        sampler: training segments.
        validation: pairs that choose the best epoch.
        seed: of everything random.
        work: scratch folder of this very run; an interrupted run is taken up from it.
        progress: gets one task of epochs * steps.
        teacher: for methods that need one.

    Raises:
        ModelError: the method needs a teacher and there is none, or teacher and student cannot be compared.
        ToolError: the loss became NaN.
    """
    if teacher is not None:
        _check_comparable(model, teacher)
    launcher = config.launcher
    fabric = Fabric(
        accelerator=launcher.accelerator,
        devices=launcher.devices,
        precision=launcher.precision,
        strategy="auto" if launcher.devices == 1 else "ddp_spawn",
    )
    # Bound, not passed: Fabric looks into arguments for modules and refuses frozen dataclasses.
    job = partial(
        _train,
        model=model,
        config=config,
        sampler=sampler,
        validation=validation,
        seed=seed,
        work=work,
        teacher=teacher,
    )
    if launcher.devices == 1:
        weights, curves = fabric.launch(partial(job, progress=progress))
    else:
        with from_processes(progress) as queued:
            weights, curves = fabric.launch(partial(job, progress=queued))
    model.load_state_dict(safetensors.torch.load(weights))
    return Trained(model.cpu().eval(), tuple(Curve(**curve) for curve in curves))


class _Learner(nn.Module):
    """Student and method as one module, so that a data-parallel launcher sees one `forward`."""

    def __init__(self, student: StreamingModel, method: DistillationMethod) -> None:
        super().__init__()
        self.student = student
        self.method = method

    def forward(
        self, config: TeachingConfig, weights: Shares, clean: Tensor, noisy: Tensor, teacher: StreamingModel | None
    ) -> Tensor:
        """The total loss of a batch: clean float32 `[batch, samples]`, noisy alike or `[batch, channels, samples]`."""
        frontend = self.student.frontend
        analysed = frontend.analyse(noisy)
        student = _view(self.student, analysed, frontend)
        loss = weights.task * task_loss(config.loss, frontend.judged, student.spectrum, clean, noisy)
        if not self.method.needs_teacher or teacher is None or not weights.teaching:
            return loss
        with torch.no_grad():
            same = teacher.frontend == frontend
            taught = _view(teacher, analysed if same else teacher.frontend.analyse(noisy), frontend)
        target = frontend.judged.spectrum(clean)
        if config.only_where_better:
            student, taught = where_better(student, taught, target)
        return loss + weights.teaching * self.method(student, taught, target)


@denormals_flushed()
def _train(
    fabric: Fabric,
    model: StreamingModel,
    config: TeachingConfig,
    sampler: TrainSampler,
    validation: Sequence[EvalPair],
    seed: int,
    work: Path,
    progress: Progress,
    teacher: StreamingModel | None,
) -> tuple[bytes, list[dict[str, Any]]]:
    fabric.seed_everything(seed, verbose=False)
    torch.set_num_threads(config.launcher.threads or max(1, len(usable_cores()) // fabric.world_size))
    if not fabric.is_global_zero:
        progress = Silent()
    kind = method_named(config.method)
    if kind.needs_teacher and teacher is None:
        raise ModelError(f"distillation method '{config.method}' needs a teacher", "name one, or use method: none")
    learner = _Learner(model, kind(model, teacher))
    optimiser = torch.optim.AdamW(learner.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    wrapped, optimiser = fabric.setup(learner, optimiser)
    if teacher is not None:
        teacher = teacher.to(fabric.device).eval().requires_grad_(False)
    state = restore(work, learner, optimiser)
    references = [tuple(torch.from_numpy(sound) for sound in pair.load()) for pair in validation]
    log = open_log(config.log, work, fabric.is_global_zero)
    progress.start("train", config.epochs * config.steps_per_epoch)
    if state.curves:
        progress.advance(len(state.curves) * config.steps_per_epoch, "resumed")
    for epoch in range(len(state.curves), config.epochs):
        if epochs_since_best(state.curves) >= config.patience:
            break
        train_loss = _epoch(fabric, wrapped, optimiser, config, sampler, epoch, teacher, progress)
        # Running statistics follow each process's own batches: the first one's score decides for all when to stop.
        score = fabric.broadcast(_validate(model, config.loss, references, fabric.device))
        best = score < min((curve.validation_loss for curve in state.curves if curve.best), default=math.inf)
        curve = Curve(epoch, train_loss, score, best)
        weights = copy.deepcopy(model.state_dict()) if best else state.best_weights
        state = Snapshot((*state.curves, curve), weights)
        log(curve)
        if fabric.is_global_zero:
            store(work, state, learner, optimiser)
        fabric.barrier()
    if state.best_weights is None:
        raise ToolError("training never reached a finite validation loss", "lower learning_rate, or check the data")
    progress.finish(f"validation loss {min(curve.validation_loss for curve in state.curves if curve.best):.4f}")
    # Bytes and plain data: tensors would be shared memory of a process that ends here.
    return safetensors.torch.save(state.best_weights), [asdict(curve) for curve in state.curves]


def _epoch(
    fabric: Fabric,
    learner: Any,
    optimiser: Any,
    config: TeachingConfig,
    sampler: TrainSampler,
    epoch: int,
    teacher: StreamingModel | None,
    progress: Progress,
) -> float:
    """One epoch of optimiser steps; the mean loss."""
    learner.train()
    total = 0.0
    first = epoch * config.steps_per_epoch
    steps = range(first, first + config.steps_per_epoch)
    # Every process of a data-parallel run draws batches of its own.
    drawn = range(first * fabric.world_size + fabric.global_rank, steps.stop * fabric.world_size, fabric.world_size)
    for step, batch in zip(steps, batches(sampler, drawn, config.batch), strict=True):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(config, step)
        weights = shares(config, step)
        clean, noisy = (sound.to(fabric.device) for sound in batch)
        loss = learner(config, weights, clean, noisy, teacher)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise ToolError(
                f"the training loss became {value} at step {step}", "lower learning_rate, or check the data"
            )
        optimiser.zero_grad()
        fabric.backward(loss)
        fabric.clip_gradients(learner, optimiser, max_norm=config.clip, error_if_nonfinite=False)
        optimiser.step()
        total += value
        progress.advance(1, f"loss {value:.4f}")
    return total / config.steps_per_epoch


def _view(model: StreamingModel, analysed: Analysed, common: Frontend) -> View:
    """What a network makes of a batch, its spectrum in the `judged` frontend of `common`, where both compare."""
    trace, judged = model.trace(analysed.sequence), common.judged
    if model.frontend.judged == judged:
        spectrum = model.frontend.enhanced_spectrum(analysed, trace.output)
    else:
        spectrum = judged.spectrum(model.frontend.synthesise(analysed, trace.output))
    return View(trace.output, spectrum, trace.latent, trace.layers, trace.views, judged, analysed.samples)


def _check_comparable(student: StreamingModel, teacher: StreamingModel) -> None:
    """Frontends may differ in all that an output in samples hides; rate and microphones belong to the sound itself."""
    ours, theirs = student.frontend, teacher.frontend
    names = f"{type(teacher).__name__} (teacher) and {type(student).__name__} (student)"
    if ours.rate != theirs.rate:
        raise ModelError(
            f"{names} work at {theirs.rate} and {ours.rate} Hz and hear different sound",
            "train a teacher at the student's rate",
        )
    if ours.channels != theirs.channels:
        raise ModelError(
            f"{names} have {theirs.channels} and {ours.channels} microphones",
            "train a teacher with as many microphones as the student",
        )


@torch.no_grad()
def _validate(
    model: StreamingModel, loss: LossConfig, references: Sequence[tuple[Tensor, ...]], device: torch.device
) -> float:
    """Mean task loss over whole validation clips."""
    model.eval()
    losses = []
    for clean, noisy in references:
        frontend = model.frontend
        estimate = _view(model, frontend.analyse(noisy[None].to(device)), frontend).spectrum
        heard = (sound[None].to(device) for sound in (clean, noisy))
        losses.append(float(task_loss(loss, frontend.judged, estimate, *heard)))
    return sum(losses) / max(1, len(losses))
