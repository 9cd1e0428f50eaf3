"""Learning-rate schedules as pure functions of the step, so that a resumed run continues exactly."""

from __future__ import annotations

import math

from earshot.pipeline.training.config import TrainConfig

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


def _half_cosine(progress: float) -> float:
    """From 1 at the start to 0 at the end."""
    return 0.5 * (1 + math.cos(math.pi * progress))
