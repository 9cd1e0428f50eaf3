"""DFKD, dynamic frequency-adaptive distillation of the output (arXiv 2502.04711).

    k*(t)   = argmax_k | |Y_T(k+1, t)| - |Y_T(k, t)| |, averaged over neighbouring frames
    L_low   = 1 - cos(|Y_S| below k*, |Y_T| below k*)
    L_high  = mean over k >= k* of w(k, t) | |Y_S| - |Y_T| |,     w = |Y_T| / mean |Y_T|

Known: a crossover per output where the teacher's magnitude has its steepest slope over frequency, a modified cosine
loss below it and a weighted loss above. Reconstructed: both formulas, the smoothing over nine frames, magnitudes to the
power of 0.3, and the weight.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from earshot.pipeline.distillation.base import DistillationMethod, View
from earshot.pipeline.distillation.output import compressed

SMOOTHED_FRAMES = 9


class FrequencyAdaptive(DistillationMethod):
    """The teacher's output, by shape below a moving crossover and by size above it (DFKD, arXiv 2502.04711)."""

    def forward(self, student: View, teacher: View | None, clean: Tensor) -> Tensor:
        """L_low + L_high."""
        assert teacher is not None
        ours, theirs = compressed(student.spectrum)[1], compressed(teacher.spectrum.detach())[1]
        below = torch.arange(theirs.shape[-1], device=theirs.device) < crossover(theirs)[..., None]
        low = functional.cosine_similarity(ours * below, theirs * below, dim=-1)
        # A frame of silence has no shape to follow.
        heard = (theirs * below).square().sum(-1) > 0
        weight = theirs / theirs.mean().clamp_min(1e-6)
        high = (weight * (ours - theirs).abs() * ~below).sum() / (~below).sum().clamp_min(1)
        return ((1 - low) * heard).sum() / heard.sum().clamp_min(1) + high


def crossover(magnitudes: Tensor) -> Tensor:
    """k* of every frame, `[batch, frames]`, for magnitudes `[batch, frames, bins]`; at least one bin lies below."""
    steepest = magnitudes.diff(dim=-1).abs().argmax(-1).float()
    padded = functional.pad(steepest[:, None], (SMOOTHED_FRAMES // 2,) * 2, mode="replicate")
    return functional.avg_pool1d(padded, SMOOTHED_FRAMES, stride=1)[:, 0].round().clamp_min(1)
