"""Similarity-preserving distillation and its fine-grained forms (Tung and Mori 2019; FT-JNF study, arXiv 2507.19208).

    whole         Q_l  = layer l as [b, C T F]            G = rownorm(Q Qᵀ)
    per frame     Q_lt = frame t of layer l as [b, C F]
    per frequency Q_lf = band f of layer l as [b, C T]
    L = mean over all Q of 1/b² ||G_T - G_S||_F²

Known: the similarity-preserving loss. Recalled: that the study compares such maps per time frame or per frequency.
Reconstructed: layers pair by relative depth, and where frames or bands differ in number the finer side is averaged.
"""

from __future__ import annotations

import torch
from torch import Tensor

from earshot.core.errors import ModelError
from earshot.models.streaming import StreamingModel
from earshot.pipeline.distillation.base import DistillationMethod, View, probe
from earshot.pipeline.distillation.compare import pairs, same_frames, similarity, squared_distance


class LayerMethod(DistillationMethod):
    """A method that compares layers; a network that shows none is refused."""

    def __init__(self, student: StreamingModel, teacher: StreamingModel | None) -> None:
        super().__init__(student, teacher)
        for role, network in (("student", student), ("teacher", teacher)):
            if network is not None and not probe(network).layers:
                raise ModelError(
                    f"{type(self).__name__} compares layers, and the {role} {type(network).__name__} shows none",
                    "fill Trace.layers in its trace(), or choose method: output",
                )

    def forward(self, student: View, teacher: View | None, clean: Tensor) -> Tensor:
        """The mean over pairs of layers."""
        assert teacher is not None
        losses = [self.compare(ours, theirs) for ours, theirs in pairs(student.layers, teacher.layers)]
        return torch.stack(losses).mean()

    def compare(self, ours: Tensor, theirs: Tensor) -> Tensor:
        """The loss of one pair of layers, `[batch, channels, frames, bins]` each."""
        raise NotImplementedError


class SimilarityPreserving(LayerMethod):
    """Which clips of a batch look alike to the teacher, layer by layer (Tung and Mori 2019)."""

    def compare(self, ours: Tensor, theirs: Tensor) -> Tensor:
        """`whole` above."""
        return squared_distance(similarity(ours.flatten(1)), similarity(theirs.flatten(1)))


class FrameSimilarity(LayerMethod):
    """Fine-grained self-similarity: which clips look alike to the teacher in each time frame (arXiv 2507.19208)."""

    def compare(self, ours: Tensor, theirs: Tensor) -> Tensor:
        """`per frame` above."""
        ours, theirs = same_frames(ours, theirs)
        ours, theirs = (layer.permute(2, 0, 1, 3).flatten(2) for layer in (ours, theirs))
        return squared_distance(similarity(ours), similarity(theirs))


class BandSimilarity(LayerMethod):
    """Fine-grained self-similarity: which clips look alike to the teacher in each frequency band (arXiv 2507.19208)."""

    def compare(self, ours: Tensor, theirs: Tensor) -> Tensor:
        """`per frequency` above."""
        ours, theirs = same_frames(ours, theirs, dim=3)
        ours, theirs = (layer.permute(3, 0, 1, 2).flatten(2) for layer in (ours, theirs))
        return squared_distance(similarity(ours), similarity(theirs))
