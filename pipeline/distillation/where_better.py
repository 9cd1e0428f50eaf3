"""The mask `only where the teacher is better`, a modifier of every method (after DISPATCH, known as composable).

w(t, k)  = 1 where |Y_T - S| < |Y_S - S|, averaged over patches; S is the clean spectrum, else 0
spectra  are multiplied by w, layers and latents by the share of a frame in which w holds, both networks' alike:
         where w is 0 nothing reaches the student
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from earshot.pipeline.distillation.base import View
from earshot.pipeline.distillation.compare import pool

PATCH_FRAMES, PATCH_BINS = 5, 9


def where_better(student: View, teacher: View, clean: Tensor) -> tuple[View, View]:
    """Both views with all silenced in which the teacher is no nearer to the clean signal than the student is.

    Args:
        student: with gradients; they stay.
        teacher: compared with.
        clean: complex64 `[batch, frames, bins]`.
    """
    with torch.no_grad():
        gain = (student.spectrum - clean).abs().square() - (teacher.spectrum - clean).abs().square()
        patches = functional.avg_pool2d(
            gain[:, None], (PATCH_FRAMES, PATCH_BINS), stride=1, padding=(PATCH_FRAMES // 2, PATCH_BINS // 2)
        )
        weight = (patches[:, 0] > 0).float()
    return _weighted(student, weight), _weighted(teacher, weight)


def _weighted(view: View, weight: Tensor) -> View:
    frames = weight.mean(-1)

    def along(features: Tensor, dim: int) -> Tensor:
        shares = (
            pool(frames, features.shape[dim], 1)
            if features.shape[dim] <= frames.shape[1]
            else functional.interpolate(frames[:, None], features.shape[dim], mode="nearest")[:, 0]
        )
        shape = [1] * features.dim()
        shape[0], shape[dim] = shares.shape
        return features * shares.reshape(shape)

    fits = view.output.shape[2:] == weight.shape[1:]
    return replace(
        view,
        output=view.output * weight[:, None] if fits else along(view.output, 2),
        spectrum=view.spectrum * weight,
        latent=along(view.latent, 1),
        layers=tuple(along(layer, 2) for layer in view.layers),
        views={kind: tuple(along(map_, 2) for map_ in maps) for kind, maps in view.views.items()},
    )
