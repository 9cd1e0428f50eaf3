"""How a network is trained: settings shared by every stage that trains."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from earshot.core.config import Config

Positive = Annotated[int, Field(ge=1)]
Weight = Annotated[float, Field(ge=0)]


_LATER = frozenset({"waveforms", "spectra"})
_LATER_ONLINE = frozenset({"alone", "scored"})


class LossConfig(Config):
    """Weights of the task loss (see `losses.py`).

    Attributes:
        magnitude: error of compressed magnitudes.
        complex: error of compressed complex spectra.
        si_sdr: negative scale-invariant SDR in dB, divided by 10.
        stoi: 1 - STOI, in a form that can be differentiated.
        pesq: disturbance after P.862 in MOS, likewise.
        waveforms: absolute error of samples, of the signal and of the noise that the estimate leaves over.
        spectra: absolute error of uncompressed magnitudes, likewise of both.
        exponent: the compression.
    """

    magnitude: Weight = 0.7
    complex: Weight = 0.3
    si_sdr: Weight = 0.0
    stoi: Weight = 0.0
    pesq: Weight = 0.0
    waveforms: Weight = 0.0
    spectra: Weight = 0.0
    exponent: Annotated[float, Field(gt=0, le=1)] = 0.3

    @model_validator(mode="after")
    def _some(self) -> LossConfig:
        if not any(getattr(self, name) for name in type(self).model_fields if name != "exponent"):
            raise ValueError("at least one weight must be above zero")
        return self

    @model_serializer(mode="wrap")
    def _later_ones_only_where_used(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Artifacts are known by their settings: what was trained before these weights existed keeps its identity."""
        return {name: value for name, value in handler(self).items() if name not in _LATER or value}


class LauncherConfig(Config):
    """Where training runs, handed to Lightning Fabric.

    Attributes:
        accelerator: `auto` takes a GPU where there is one.
        devices: how many; more than one trains data-parallel.
        precision: Fabric's name, e.g. `32-true`, `bf16-mixed`, `16-mixed`.
        threads: CPU threads per process, 0 for all cores it may use.
    """

    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    devices: Positive = 1
    precision: str = "32-true"
    threads: Annotated[int, Field(ge=0)] = 0


class TrainConfig(Config):
    """A training run.

    Attributes:
        epochs: validation happens after each.
        steps_per_epoch: optimiser steps in an epoch.
        batch: segments per step and device.
        segment_seconds: length of a segment.
        learning_rate: peak of the schedule (AdamW).
        weight_decay: of AdamW.
        schedule: `cosine` falls from the peak after a linear warm-up; `one_cycle` rises for 30 % of
            the steps, then falls.
        warmup_steps: of the cosine schedule.
        clip: largest gradient norm.
        patience: epochs without a better validation loss before training stops.
        loss: weights of the task loss.
        launcher: device, number of devices, precision.
        log: where curves go beside the artifact: a `tensorboard` folder or an `mlflow` experiment.
    """

    epochs: Positive = 10
    steps_per_epoch: Positive = 100
    batch: Positive = 16
    segment_seconds: Annotated[float, Field(gt=0)] = 2.0
    learning_rate: Annotated[float, Field(gt=0)] = 2e-3
    weight_decay: Weight = 1e-2
    schedule: Literal["cosine", "one_cycle"] = "cosine"
    warmup_steps: Annotated[int, Field(ge=0)] = 100
    clip: Annotated[float, Field(gt=0)] = 1.0
    patience: Positive = 10
    loss: LossConfig = LossConfig()
    launcher: LauncherConfig = LauncherConfig()
    log: Literal["none", "tensorboard", "mlflow"] = "none"


class TeachingConfig(TrainConfig):
    """Training in which a teacher may take part.

    Attributes:
        method: name of a distillation method, or `package.module:Name`; `none` trains on the task loss alone.
        weight: of the distillation loss beside the task loss (lambda).
        two_step: part of the steps that follows the teacher alone, before the rest follows the task alone; None adds
            both losses at every step.
        only_where_better: learn from the teacher only where it is nearer to the clean signal than the student is.
    """

    method: str = "none"
    weight: Weight = 0.5
    two_step: Annotated[float, Field(gt=0, lt=1)] | None = None
    only_where_better: bool = False

    @model_validator(mode="after")
    def _has_a_teacher(self) -> TeachingConfig:
        if self.method == "none" and (self.two_step is not None or self.only_where_better):
            raise ValueError("two_step and only_where_better say how a teacher teaches: name a method")
        return self


class OnlineConfig(Config):
    """Online multi-metric distillation (see `online.py`): as many students as metrics, which teach each other.

    Attributes:
        metrics: each is the target of a student of its own; in MOS, or indices up to 1.
        student: the metric whose student stays in the end, and whose scores on validation choose the best epoch; None
            for the first.
        distillation: weight of the distance to the other students' outputs.
        task: weight of the task loss beside; 0 as published, where nothing but predicted metrics teaches.
        alone: epochs at the start in which the students follow the task loss alone and nothing is scored; neither these
            nor the discriminator's first epoch can be the best one.
        scored: how many of an epoch's batches are scored for real and shown to the discriminator; None for all. Scores
            and discriminator are by far the most of the work.
        history: part of the earlier epochs' scored clips that the discriminator sees again.
        remembered: how many epochs back these reach; None for all.
        learning_rate: of the discriminator (Adam).
        widths: channels of the discriminator's convolutions.
    """

    metrics: Annotated[tuple[str, ...], Field(min_length=1)] = ("pesq_wb", "csig")
    student: str | None = None
    distillation: Weight = 5.0
    task: Weight = 0.0
    alone: Annotated[int, Field(ge=0)] = 0
    scored: Positive | None = None
    history: Annotated[float, Field(ge=0, le=1)] = 0.2
    remembered: Positive | None = None
    learning_rate: Annotated[float, Field(gt=0)] = 5e-4
    widths: Annotated[tuple[Positive, ...], Field(min_length=1)] = (16, 32, 64, 128)

    @model_validator(mode="after")
    def _students_differ(self) -> OnlineConfig:
        if len(set(self.metrics)) < len(self.metrics):
            raise ValueError("a metric is named twice; each is the target of one student")
        if self.student is not None and self.student not in self.metrics:
            raise ValueError(f"student is one of the metrics: {', '.join(self.metrics)}")
        if self.alone and not self.task:
            raise ValueError("students that are left alone have nothing to follow: set task above 0")
        return self

    @model_serializer(mode="wrap")
    def _later_ones_only_where_used(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """As in `LossConfig`."""
        return {name: value for name, value in handler(self).items() if name not in _LATER_ONLINE or value}

    @property
    def stays(self) -> int:
        """Index of the student that stays."""
        return 0 if self.student is None else self.metrics.index(self.student)

    @property
    def first_judged(self) -> int:
        """The first epoch in which students follow metrics: the one before is the discriminator's."""
        return self.alone + 1


def check_online(online: OnlineConfig, train: TrainConfig) -> None:
    """Raises ValueError where online students cannot be trained so."""
    if train.launcher.devices > 1:
        raise ValueError("online students train on one device: set launcher.devices to 1")
    if train.epochs <= online.first_judged:
        after = f" after {online.alone} alone" if online.alone else ""
        raise ValueError(
            f"the first epoch with online{after} is the discriminator's: set epochs to {online.alone + 2} or more"
        )
    if online.scored is not None and online.scored > train.steps_per_epoch:
        raise ValueError(f"online.scored: an epoch has {train.steps_per_epoch} batches, not {online.scored}")


class DistillConfig(TeachingConfig):
    """The `distill` stage.

    Attributes:
        online: students that learn from each other take the place of teacher and method.
    """

    online: OnlineConfig | None = None

    @model_validator(mode="after")
    def _online_fits(self) -> DistillConfig:
        if self.online is None:
            return self
        if self.method != "none":
            raise ValueError("online students teach each other: leave out method, or online")
        check_online(self.online, self)
        return self


class PruneBudget(Config):
    """What a pruned network must fit into; the smallest ratio that fits is taken.

    Attributes:
        parameters: at most so many.
        macs_per_second: at most so many multiply-accumulates per second of audio.
        frame_us: at most so many microseconds a frame (median), measured on `target`.
        target: the device on which `frame_us` is measured.
    """

    parameters: Positive | None = None
    macs_per_second: Positive | None = None
    frame_us: Annotated[float, Field(gt=0)] | None = None
    target: str = "host"

    @model_validator(mode="after")
    def _some(self) -> PruneBudget:
        if self.parameters is None and self.macs_per_second is None and self.frame_us is None:
            raise ValueError("name at least one of parameters, macs_per_second, frame_us")
        return self


class PruneConfig(TeachingConfig):
    """The `prune` stage: structured pruning by dependency graph, then fine-tuning.

    Attributes:
        ratio: part of the channels to remove; leave out when `until` is given.
        until: prune until this budget holds.
        max_ratio: how far `until` may go.
        round_to: widths stay multiples of this.
        importance: how channels are ranked: `magnitude` = L2 norm over the dependency group, `random` for comparison.
    """

    ratio: Annotated[float, Field(gt=0, lt=1)] | None = None
    until: PruneBudget | None = None
    max_ratio: Annotated[float, Field(gt=0, lt=1)] = 0.9
    round_to: Positive = 4
    importance: Literal["magnitude", "random"] = "magnitude"

    @model_validator(mode="after")
    def _one_goal(self) -> PruneConfig:
        if (self.ratio is None) == (self.until is None):
            raise ValueError("name exactly one of ratio and until")
        return self
