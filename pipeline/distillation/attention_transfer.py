"""MV-AT, multi-view attention transfer (Interspeech 2022, arXiv 2208.10367), no added parameters.

    Q(A) = vec(sum_c |A_c|²) / || . ||_2            L = sum over views and layers of || Q(A_S) - Q(A_T) ||_2

Known: features are distilled through the maps of MANNER's channel, global and local views. Recalled: Q and L.
Reconstructed: maps pair within a kind of view by relative depth, averaged to the coarser of the two resolutions;
networks that share no kind of view are compared by their layers in the same way.
"""

from __future__ import annotations

import torch
from torch import Tensor

from earshot.pipeline.distillation.base import View
from earshot.pipeline.distillation.compare import pairs, same_frames, unit
from earshot.pipeline.distillation.similarity import LayerMethod


class AttentionTransfer(LayerMethod):
    """Where the teacher looks: energy maps of its attention views, or of its layers (MV-AT, arXiv 2208.10367)."""

    def forward(self, student: View, teacher: View | None, clean: Tensor) -> Tensor:
        """The loss above, averaged over maps."""
        assert teacher is not None
        shared = [kind for kind in student.views if kind in teacher.views]
        if not shared:
            return super().forward(student, teacher, clean)
        losses = [
            self.compare(ours, theirs)
            for kind in shared
            for ours, theirs in pairs(student.views[kind], teacher.views[kind])
        ]
        return torch.stack(losses).mean()

    def compare(self, ours: Tensor, theirs: Tensor) -> Tensor:
        """The distance of two maps, averaged over the batch."""
        ours, theirs = (map_.square().sum(1, keepdim=True) for map_ in (ours, theirs))
        for dim in (2, 3):
            ours, theirs = same_frames(ours, theirs, dim)
        return (unit(ours) - unit(theirs)).norm(dim=1).mean()
