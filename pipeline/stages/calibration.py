"""The sound that calibrates and compares integer models: training mixes, never validation or test."""

from __future__ import annotations

import numpy as np
import torch

from earshot.models.frontend import Frontend
from earshot.pipeline.data.base import Data

_STEP = 1 << 30  # far from any training step, so that calibration clips are drawn anew


def calibration_features(data: Data, frontend: Frontend, clips: int, seconds: float, seed: int) -> np.ndarray:
    """Features of fresh training mixes, float32 `[clips, inputs, frames, bins]`."""
    _, noisy = data.sampler(seed, seconds).batch(_STEP, clips)
    return frontend.analyse(torch.from_numpy(noisy)).sequence.numpy()
