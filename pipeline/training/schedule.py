"""Learning-rate and teaching schedules as pure functions of the step, so that a resumed run continues exactly."""

from __future__ import annotations

import math
from typing import NamedTuple

from earshot.pipeline.training.config import TeachingConfig, TrainConfig

_FLOOR = 0.02  # of the peak, at the last step
_RISE = 0.3  # part of a one-cycle schedule that rises (Smith & Topin 2018)


def learning_rate(config: TrainConfig, step: int) -> float:
    """The learning rate of optimiser step `step`, counted from 0."""
    total = config.epochs * config.steps_per_epoch
    if config.schedule == "one_cycle":
        rise = max(1, round(_RISE * total))
        if step < rise:
            return config.learning_rate * (0.04 + 0.96 * _half_cosine(1 - step / rise))
        return config.learning_rate * (_FLOOR + (1 - _FLOOR) * _half_cosine((step - rise) / max(1, total - rise)))
    warmup = min(1.0, (step + 1) / max(1, config.warmup_steps))
    return config.learning_rate * warmup * (_FLOOR + (1 - _FLOOR) * _half_cosine(step / total))


class Shares(NamedTuple):
    """Weights of the task loss and of the distillation loss at one step."""

    task: float
    teaching: float


def shares(config: TeachingConfig, step: int) -> Shares:
    """What optimiser step `step` learns from.

    With `two_step`, the first part of the steps follows the teacher alone and the rest the task alone (Nathoo et al.
    2023, arXiv 2309.08144); otherwise both are added at every step.
    """
    if config.two_step is None:
        return Shares(1.0, config.weight)
    taught = step < config.two_step * config.epochs * config.steps_per_epoch
    return Shares(0.0, config.weight) if taught else Shares(1.0, 0.0)


def _half_cosine(progress: float) -> float:
    """From 1 at the start to 0 at the end."""
    return 0.5 * (1 + math.cos(math.pi * progress))
