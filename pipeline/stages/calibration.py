"""The sound that calibrates and compares integer models: training mixes, never validation or test."""

from __future__ import annotations

import numpy as np
import torch

from earshot.models.frontend import Frontend
from earshot.pipeline.data.base import Data

_STEP = 1 << 30  # far from any training step, so that calibration clips are drawn anew


def calibration_features(data: Data, frontend: Frontend, clips: int, seconds: float, seed: int) -> np.ndarray:
    """Features of fresh training mixes, float32 `[clips, 1, frames, bins]`."""
    _, noisy = data.sampler(seed, seconds).batch(_STEP, clips)
    features = frontend.features(frontend.spectrum(torch.from_numpy(noisy)))
    return features.numpy()
