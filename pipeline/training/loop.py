"""The training loop: task loss and distillation, validation after each epoch, early stop, exact resumption.

Everything random is a function of (seed, step), so a run that is killed and resumed ends with the weights of one that
was not. The scratch folder holds `last.pt` (tensors only, read with `weights_only`), written after each epoch.
"""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from earshot.core.errors import ModelError, ToolError
from earshot.models.streaming import StreamingModel
from earshot.pipeline.data.base import EvalPair, TrainSampler
from earshot.pipeline.distillation.base import DistillationMethod, View
from earshot.pipeline.distillation.registry import method as method_named
from earshot.pipeline.progress import Progress, Silent, from_processes
from earshot.pipeline.training.config import LossConfig, TeachingConfig
from earshot.pipeline.training.curves import Curve, open_log
from earshot.pipeline.training.losses import task_loss
from earshot.pipeline.training.prefetch import batches
from earshot.pipeline.training.schedule import learning_rate
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
        ModelError: the method needs a teacher and there is none, or teacher and student do not share a frontend.
        ToolError: the loss became NaN.
    """
    if teacher is not None and teacher.frontend != model.frontend:
        raise ModelError(
            f"teacher and student have different frontends: {teacher.frontend} and {model.frontend}",
            "train the teacher with the recipe's frontend",
        )
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

    def forward(self, config: TeachingConfig, clean: Tensor, noisy: Tensor, teacher: StreamingModel | None) -> Tensor:
        """The total loss of a batch of float32 `[batch, samples]`."""
        spectrum = self.student.frontend.spectrum(noisy)
        student = _view(self.student, spectrum)
        loss = task_loss(config.loss, self.student.frontend, student.spectrum, clean)
        if not self.method.needs_teacher or teacher is None:
            return loss
        with torch.no_grad():
            taught = _view(teacher, spectrum)
        return loss + config.weight * self.method(student, taught)


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
    torch.set_num_threads(config.launcher.threads or max(1, (os.cpu_count() or 1) // fabric.world_size))
    # Gradients of a quiet mask fall below the smallest normal float, where a CPU is a hundred times slower.
    torch.set_flush_denormal(True)
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
        if _epochs_since_best(state.curves) >= config.patience:
            break
        train_loss = _epoch(fabric, wrapped, optimiser, config, sampler, epoch, teacher, progress)
        score = _validate(model, config.loss, references, fabric.device)
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
        clean, noisy = (sound.to(fabric.device) for sound in batch)
        loss = learner(config, clean, noisy, teacher)
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


def _view(model: StreamingModel, spectrum: Tensor) -> View:
    mask, latent = model.forward_with_latent(model.frontend.features(spectrum))
    return View(mask, model.frontend.apply_mask(spectrum, mask), latent)


@torch.no_grad()
def _validate(
    model: StreamingModel, loss: LossConfig, references: Sequence[tuple[Tensor, ...]], device: torch.device
) -> float:
    """Mean task loss over whole validation clips."""
    model.eval()
    losses = []
    for clean, noisy in references:
        spectrum = model.frontend.spectrum(noisy[None].to(device))
        estimate = _view(model, spectrum).spectrum
        losses.append(float(task_loss(loss, model.frontend, estimate, clean[None].to(device))))
    return sum(losses) / max(1, len(losses))


def _epochs_since_best(curves: Sequence[Curve]) -> int:
    best = max((curve.epoch for curve in curves if curve.best), default=-1)
    return len(curves) - 1 - best
