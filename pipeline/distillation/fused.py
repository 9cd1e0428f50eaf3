"""Distillation through fused layers: knowledge review (Chen et al. 2021, arXiv 2104.09044), as in arXiv 2507.19208.

    fused   from the deepest stage to the first: f_l = A_l * x_l + B_l * up(f_{l+1}),  x_l = 1x1(layer l of the student)
            A_l, B_l = sigmoid(1x1([x_l, up(f_{l+1})]))           attention-based fusion
            L = sum_l HCL(1x1(f_l), layer l of the teacher)
    HCL     squared distance of both maps, and of their means over 4, 2 and 1 parts per axis with weights 1/2, 1/4, 1/8,
            the weights divided by their sum                      hierarchical context loss
    similarity   L = mean_l of the similarity-preserving distance between f_l and the teacher's layer (similarity.py)

Recalled: fusion of student stages by attention and a hierarchical pooled L2 to the teacher's; self-similarity on the
fused features. Reconstructed: widths, pairing by relative depth, and averaging to the coarser resolution.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from earshot.models.streaming import StreamingModel
from earshot.pipeline.distillation.base import View, probe
from earshot.pipeline.distillation.compare import pairs, pool, same_frames, similarity, squared_distance
from earshot.pipeline.distillation.similarity import LayerMethod

LEVELS = {4: 0.5, 2: 0.25, 1: 0.125}
WIDEST = 64


class Fusion(nn.Module):
    """Attention-based fusion of one network's layers, deepest first.

    Args:
        channels: of every layer.
        width: of the fused maps.
    """

    def __init__(self, channels: list[int], width: int) -> None:
        super().__init__()
        self.into = nn.ModuleList(nn.Conv2d(inputs, width, 1) for inputs in channels)
        self.attention = nn.ModuleList(nn.Conv2d(2 * width, 2, 1) for _ in channels[1:])

    def forward(self, layers: tuple[Tensor, ...]) -> list[Tensor]:
        """Fused maps `[batch, width, frames, bins]`, one for every layer, in the order of the layers."""
        into = [part(layer) for part, layer in zip(self.into, layers, strict=True)]
        fused = [into[-1]]
        for current, attention in zip(reversed(into[:-1]), self.attention, strict=True):
            deeper = functional.interpolate(fused[-1], current.shape[2:], mode="nearest")
            gates = torch.sigmoid(attention(torch.cat([current, deeper], 1)))
            fused.append(gates[:, :1] * current + gates[:, 1:] * deeper)
        return fused[::-1]


class FusedLayers(LayerMethod):
    """The student's layers, fused from the deepest up, follow the teacher's (knowledge review, arXiv 2104.09044)."""

    def __init__(self, student: StreamingModel, teacher: StreamingModel | None) -> None:
        super().__init__(student, teacher)
        assert teacher is not None
        ours, theirs = probe(student).layers, probe(teacher).layers
        width = min(WIDEST, max(layer.shape[1] for layer in theirs))
        self.fusion = Fusion([layer.shape[1] for layer in ours], width)
        self.out = nn.ModuleList(nn.Conv2d(width, paired.shape[1], 1) for _, paired in pairs(ours, theirs))

    def forward(self, student: View, teacher: View | None, clean: Tensor) -> Tensor:
        """`fused` above, averaged over layers."""
        assert teacher is not None
        fused = [out(layer) for out, layer in zip(self.out, self.fusion(student.layers), strict=True)]
        found = [self.compare(ours, theirs) for ours, theirs in pairs(fused, teacher.layers)]
        return torch.stack(found).mean()

    def compare(self, ours: Tensor, theirs: Tensor) -> Tensor:
        """HCL of maps of equal width."""
        for dim in (2, 3):
            ours, theirs = same_frames(ours, theirs, dim)
        loss, weight = functional.mse_loss(ours, theirs), 1.0
        for parts, share in LEVELS.items():
            if parts >= min(ours.shape[2:]):
                continue
            pooled = [pool(pool(maps, parts, 2), parts, 3) for maps in (ours, theirs)]
            loss, weight = loss + share * functional.mse_loss(pooled[0], pooled[1]), weight + share
        return loss / weight


class FusedSimilarity(LayerMethod):
    """Which clips look alike to the teacher, seen in the student's fused layers (arXiv 2507.19208)."""

    def __init__(self, student: StreamingModel, teacher: StreamingModel | None) -> None:
        super().__init__(student, teacher)
        channels = [layer.shape[1] for layer in probe(student).layers]
        self.fusion = Fusion(channels, min(WIDEST, max(channels)))

    def forward(self, student: View, teacher: View | None, clean: Tensor) -> Tensor:
        """`similarity` above."""
        assert teacher is not None
        found = [self.compare(ours, theirs) for ours, theirs in pairs(self.fusion(student.layers), teacher.layers)]
        return torch.stack(found).mean()

    def compare(self, ours: Tensor, theirs: Tensor) -> Tensor:
        """The similarity-preserving distance; widths may differ."""
        return squared_distance(similarity(ours.flatten(1)), similarity(theirs.flatten(1)))
