"""Online multi-metric distillation: students that each chase a metric and teach each other (MetricGAN-OKD, ICML 2023).

Metrics cannot be differentiated. A discriminator D learns to predict them, one output D_i a metric, and student G_i
follows the gradient of the prediction of its metric while it stays near what the other students make of the same sound:

    student i        L = mean (D_i(s, G_i) - 1)² + distillation · sum_{j ≠ i} mean (G_i - stopgrad G_j)² [+ task loss]
    discriminator    L = mean (D(s, y) - metrics(s, y))²     y: enhanced, noisy (real scores) and clean (all ones)

G, s and y are log(1 + |spectrum|). An epoch trains the students on its clips, then has one of them, drawn at random,
enhance the clips (with `scored`, those of so many batches), scores the result for real, and trains D on all three kinds
of y, on a shuffle of the enhanced clips with a share of earlier epochs' ones, and on all three kinds again. In the
first epoch D learns alone; with a task loss the students learn that then, and in `alone` epochs before. None of these
epochs is chosen, and patience begins after them: what stays has followed the metrics.

Source: the authors' code (known): one discriminator with an output a metric, order and losses as above, constant rates
of 5e-4 (Adam), gradients clipped at 5. Different here: segments of equal length in place of whole files in batches of
one, AdamW and the recipe's schedule for the students, a discriminator whose Xavier weights survive its spectral norm,
and the best epoch chosen on validation; the authors choose on the test set.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from earshot.core.cores import usable_cores
from earshot.core.errors import ModelError, ToolError
from earshot.models.frontend import Frontend
from earshot.models.metric_discriminator import MetricDiscriminator
from earshot.models.streaming import StreamingModel
from earshot.pipeline.data.base import EvalPair, TrainSampler
from earshot.pipeline.progress import Progress
from earshot.pipeline.training.config import DistillConfig, OnlineConfig
from earshot.pipeline.training.curves import Curve, epochs_since_best, open_log
from earshot.pipeline.training.denormals import denormals_flushed
from earshot.pipeline.training.loop import Trained
from earshot.pipeline.training.losses import task_loss
from earshot.pipeline.training.metric_targets import MetricScorer, check_targets, open_scorer
from earshot.pipeline.training.prefetch import batches
from earshot.pipeline.training.replay import Replay, ScoredClips
from earshot.pipeline.training.schedule import learning_rate
from earshot.pipeline.training.snapshot import Snapshot, restore, store

_EPSILON = 1e-10  # on |Y|², as in the frontend's features


@denormals_flushed()
def train_online(
    students: Sequence[StreamingModel],
    config: DistillConfig,
    sampler: TrainSampler,
    validation: Sequence[EvalPair],
    seed: int,
    work: Path,
    progress: Progress,
) -> Trained:
    """Trains one student a metric and returns the one that stays, with the weights of its best epoch.

    Args:
        students: networks of one class, sizes and frontend, one a metric of `config.online`, in its order.
        config: settings; `online` is set.
        sampler: training segments.
        validation: pairs whose real scores choose the best epoch.
        seed: of everything random.
        work: scratch folder of this very run; an interrupted run is taken up from it.
        progress: gets one task of epochs * steps.

    Returns:
        The student, and curves whose `validation_loss` is 1 - its mean scaled metric, a clip without a score counting
        as the worst; `metrics` are what it reaches in the metrics of all students.

    Raises:
        UsageError: a metric that cannot be trained towards, or that needs a higher rate.
        ModelError: segments or spectra too small for the discriminator.
        ToolError: a loss became NaN, or a metric scored not a single clip.
    """
    assert config.online is not None and len(students) == len(config.online.metrics)
    check_targets(config.online.metrics, students[0].frontend.rate)
    with open_scorer(students[0].frontend.rate) as scorer:
        return _Training(students, config, config.online, sampler, seed, scorer, progress).run(validation, work)


def student_loss(score: Tensor, own: Tensor, others: Sequence[Tensor], distillation: float) -> Tensor:
    """What a student follows: a scalar.

    Args:
        score: prediction of its metric `[batch]`.
        own: its output as log(1 + |spectrum|), `[batch, frames, bins]`.
        others: of the other students, alike; no gradient reaches them.
        distillation: weight of the distance to them.
    """
    loss = (score - 1).square().mean()
    for other in others:
        loss = loss + distillation * (own - other.detach()).square().mean()
    return loss


def discriminator_loss(scores: Tensor, targets: Tensor) -> Tensor:
    """Mean squared error of predictions `[batch, metrics]`, over known (not NaN) targets; 0 without any."""
    known = ~targets.isnan()
    error = (scores - targets.nan_to_num()).square() * known
    return error.sum() / known.sum().clamp_min(1)


class _Drawn(NamedTuple):
    """The clips of an epoch: signals `[clips, samples]`, scaled metrics of two of them `[clips, metrics]`."""

    clips: ScoredClips
    noisy: Tensor
    noisy_targets: Tensor


class _Optimisers:
    """Several optimisers as one, for the snapshot."""

    def __init__(self, parts: Sequence[Any]) -> None:
        self._parts = parts

    def state_dict(self) -> dict[str, Any]:
        return {str(index): part.state_dict() for index, part in enumerate(self._parts)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for index, part in enumerate(self._parts):
            part.load_state_dict(state[str(index)])


class _Training:
    def __init__(
        self,
        students: Sequence[StreamingModel],
        config: DistillConfig,
        online: OnlineConfig,
        sampler: TrainSampler,
        seed: int,
        scorer: MetricScorer,
        progress: Progress,
    ) -> None:
        self.config, self.online, self.sampler, self.seed = config, online, sampler, seed
        self.scorer, self.progress = scorer, progress
        launcher = config.launcher
        self.fabric = Fabric(accelerator=launcher.accelerator, devices=1, precision=launcher.precision)
        self.fabric.launch()
        self.fabric.seed_everything(seed, verbose=False)
        torch.set_num_threads(launcher.threads or len(usable_cores()))
        self.frontend: Frontend = students[0].frontend
        discriminator = MetricDiscriminator(len(online.metrics), online.widths)
        self._check_sizes(discriminator.smallest)
        self.learner = nn.ModuleList([*students, discriminator])
        self.students, self.optimisers = [], []
        for student in students:
            optimiser = torch.optim.AdamW(
                student.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
            )
            wrapped, optimiser = self.fabric.setup(student, optimiser)
            self.students.append(wrapped)
            self.optimisers.append(optimiser)
        judge_optimiser = torch.optim.Adam(discriminator.parameters(), lr=online.learning_rate)
        self.judge, self.judge_optimiser = self.fabric.setup(discriminator, judge_optimiser)
        self.stays = students[online.stays]
        self.scored = online.scored or config.steps_per_epoch

    def run(self, validation: Sequence[EvalPair], work: Path) -> Trained:
        config = self.config
        optimisers = _Optimisers([*self.optimisers, self.judge_optimiser])
        online = self.online
        replay = Replay(work / "replay", self.scored * config.batch, online.history, online.remembered, online.alone)
        fresh = copy.deepcopy(self.learner.state_dict()), copy.deepcopy(optimisers.state_dict())
        state = restore(work, self.learner, optimisers)
        if not state.curves or not replay.is_whole(len(state.curves)):
            self.learner.load_state_dict(fresh[0])
            optimisers.load_state_dict(fresh[1])
            state = Snapshot()
        references = [pair.load() for pair in validation]
        log = open_log(config.log, work)
        self.progress.start("train", config.epochs * config.steps_per_epoch)
        if state.curves:
            self.progress.advance(len(state.curves) * config.steps_per_epoch, "resumed")
        for epoch in range(len(state.curves), config.epochs):
            if epochs_since_best(state.curves, online.first_judged) >= config.patience:
                break
            torch.manual_seed(_seed(self.seed, epoch))  # for networks that draw while they train
            loss = self._train_students(epoch)
            validated, metrics = self._validate(references)
            if epoch >= online.alone:
                drawn = self._score(epoch)
                self._train_discriminator(epoch, drawn, replay)
                replay.add(epoch, drawn.clips)
            least = min((curve.validation_loss for curve in state.curves if curve.best), default=math.inf)
            best = epoch >= online.first_judged and validated < least
            curve = Curve(epoch, loss, validated, best, metrics)
            weights = copy.deepcopy(self.stays.state_dict()) if best else state.best_weights
            state = Snapshot((*state.curves, curve), weights)
            log(curve)
            store(work, state, self.learner, optimisers)
            replay.forget(epoch + 1)
        if state.best_weights is None:
            raise ToolError(
                f"not a single validation clip could be scored by '{self.online.metrics[self.online.stays]}'",
                "lower learning_rate, or check the data",
            )
        self.progress.finish(f"validation loss {min(one.validation_loss for one in state.curves if one.best):.4f}")
        self.stays.load_state_dict(state.best_weights)
        return Trained(self.stays.cpu().requires_grad_(True).eval(), state.curves)

    def _train_students(self, epoch: int) -> float:
        """One pass of all students over the epoch's clips; the mean loss. At first only the task can be learnt."""
        judged = epoch >= self.online.first_judged
        if not judged and not self.online.task:
            self.progress.advance(self.config.steps_per_epoch, "the discriminator learns first")
            return 0.0
        self.judge.train().requires_grad_(False)
        total = 0.0
        for step, (clean, noisy) in self._batches(epoch, self.config.steps_per_epoch):
            analysed = self.frontend.analyse(noisy)
            target = _features(self.frontend.judged.spectrum(clean))
            spectra = [
                self.frontend.enhanced_spectrum(analysed, student.train()(analysed.sequence))
                for student in self.students
            ]
            outputs = [_features(spectrum) for spectrum in spectra]
            losses = []
            for index, (own, spectrum) in enumerate(zip(outputs, spectra, strict=True)):
                loss = own.new_zeros(())
                if judged:
                    others = outputs[:index] + outputs[index + 1 :]
                    score = self.judge(target, own)[:, index]
                    loss = student_loss(score, own, others, self.online.distillation)
                if self.online.task:
                    heard = task_loss(self.config.loss, self.frontend.judged, spectrum, clean, noisy)
                    loss = loss + self.online.task * heard
                losses.append(loss)
            for name, loss, student, optimiser in zip(
                self.online.metrics, losses, self.students, self.optimisers, strict=True
            ):
                for group in optimiser.param_groups:
                    group["lr"] = learning_rate(self.config, step)
                self._step(f"the student's for {name}", loss, student, optimiser, step)
            mean = sum(float(loss.detach()) for loss in losses) / len(losses)
            total += mean
            self.progress.advance(1, f"loss {mean:.4f}")
        return total / self.config.steps_per_epoch

    @torch.no_grad()
    def _score(self, epoch: int) -> _Drawn:
        """The epoch's scored clips, enhanced by one student, with the real metrics of enhanced and noisy signals."""
        chosen = self.students[int(np.random.default_rng([self.seed, epoch, 0]).integers(len(self.students)))].eval()
        parts = []
        for _, (clean, noisy) in self._batches(epoch, self.scored):
            analysed = self.frontend.analyse(noisy)
            enhanced = self.frontend.synthesise(analysed, chosen(analysed.sequence))
            parts.append(
                [sound.float().cpu() for sound in (clean, noisy if noisy.dim() == 2 else noisy[:, 0], enhanced)]
            )
        clean, noisy, enhanced = (torch.cat(sounds) for sounds in zip(*parts, strict=True))
        count = len(clean)
        targets = self.scorer.score(
            self.online.metrics, [*clean.numpy(), *clean.numpy()], [*enhanced.numpy(), *noisy.numpy()]
        )
        for index, name in enumerate(self.online.metrics):
            if np.isnan(targets.values[:, index]).all():
                raise ToolError(
                    f"metric '{name}' could score none of {count} training clips: {targets.reasons[name]}",
                    "check the data, or train towards another metric",
                )
        values = torch.from_numpy(targets.values)
        return _Drawn(ScoredClips(clean, enhanced, values[:count]), noisy, values[count:])

    def _train_discriminator(self, epoch: int, drawn: _Drawn, replay: Replay) -> None:
        self.judge.train().requires_grad_(True)
        order = torch.from_numpy(np.random.default_rng([self.seed, epoch, 1]).permutation(len(drawn.clips)))
        self._on_all_kinds(epoch, drawn, order)
        earlier = replay.draw(epoch, self.seed)
        again = drawn.clips if earlier is None else earlier.joined(drawn.clips)
        mixed = torch.from_numpy(np.random.default_rng([self.seed, epoch, 3]).permutation(len(again)))
        for rows in mixed.split(self.config.batch):
            part = again.of(rows)
            self._learn(epoch, part.clean, part.enhanced, part.targets)
        self._on_all_kinds(epoch, drawn, order)

    def _on_all_kinds(self, epoch: int, drawn: _Drawn, order: Tensor) -> None:
        for rows in order.split(self.config.batch):
            part = drawn.clips.of(rows)
            self._learn(epoch, part.clean, part.enhanced, part.targets)
            self._learn(epoch, part.clean, drawn.noisy[rows], drawn.noisy_targets[rows])
            self._learn(epoch, part.clean, part.clean, torch.ones_like(part.targets))

    def _learn(self, epoch: int, clean: Tensor, judged: Tensor, targets: Tensor) -> None:
        device, frontend = self.fabric.device, self.frontend.judged
        spectra = (_features(frontend.spectrum(sound.to(device))) for sound in (clean, judged))
        loss = discriminator_loss(self.judge(*spectra), targets.to(device))
        self._step("the discriminator's", loss, self.judge, self.judge_optimiser, epoch * self.config.steps_per_epoch)

    def _step(self, whose: str, loss: Tensor, module: Any, optimiser: Any, step: int) -> None:
        value = float(loss.detach())
        if not math.isfinite(value):
            raise ToolError(
                f"the training loss became {value} ({whose}) at step {step}",
                "lower distill.learning_rate or distill.online.learning_rate, or check the data",
            )
        optimiser.zero_grad()
        self.fabric.backward(loss)
        self.fabric.clip_gradients(module, optimiser, max_norm=self.config.clip, error_if_nonfinite=False)
        optimiser.step()

    @torch.no_grad()
    def _validate(self, references: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[float, Mapping[str, float]]:
        """Of the student that stays: 1 - its mean scaled metric, infinite where it scores nothing; means of all."""
        self.stays.eval()
        enhanced = [
            self.stays.enhance(torch.from_numpy(noisy)[None].to(self.fabric.device))[0].float().cpu().numpy()
            for _, noisy in references
        ]
        targets = self.scorer.score(self.online.metrics, [clean for clean, _ in references], enhanced)
        values = targets.values[:, self.online.stays]
        loss = math.inf if np.isnan(values).all() else 1 - float(np.nan_to_num(values).mean(dtype=np.float64))
        return loss, targets.means

    def _batches(self, epoch: int, count: int) -> Iterator[tuple[int, tuple[Tensor, Tensor]]]:
        """(step, (clean, noisy)) of an epoch's first `count`, on the device; the same ones whenever asked for."""
        first = epoch * self.config.steps_per_epoch
        steps = range(first, first + count)
        for step, (clean, noisy) in zip(steps, batches(self.sampler, steps, self.config.batch), strict=True):
            yield step, (clean.to(self.fabric.device), noisy.to(self.fabric.device))

    def _check_sizes(self, smallest: int) -> None:
        judged = self.frontend.judged
        frames = judged.frames(round(self.config.segment_seconds * judged.rate))
        if min(frames, judged.bins) < smallest:
            raise ModelError(
                f"the discriminator needs {smallest} frames and bins at least, these segments have {frames} of "
                f"{judged.bins} bins",
                "raise distill.segment_seconds or frontend.fft, or name fewer distill.online.widths",
            )


def _features(spectrum: Tensor) -> Tensor:
    """log(1 + |spectrum|) of complex64 `[batch, frames, bins]`."""
    return (spectrum.real.square() + spectrum.imag.square() + _EPSILON).sqrt().log1p()


def _seed(seed: int, epoch: int) -> int:
    return int(np.random.default_rng([seed, epoch, 4]).integers(2**31))
