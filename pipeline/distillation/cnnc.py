"""CNNC-Distill: feature similarity and output, between families (IEEE SPL 2024, 10.1109/LSP.2024.3388956).

    L = sum_l || n(A_S A_Sᵀ) - n(A_T A_Tᵀ) ||_F² + |y_S - y_T|_1 + | |Y_S| - |Y_T| |_1

Known: a non-causal teacher teaches a causal student of another family through feature similarity and output
distillation. Reconstructed: A_l = layer l as [frames, C F] after averaging both to a common frame rate, at most that of
the outputs' spectra (a layer of a network on samples has thousands of columns a second, and a map their square), n =
division by the Frobenius norm, and the output terms, here on the compressed spectra of both outputs, which stand for y
and Y.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from earshot.pipeline.distillation.base import View
from earshot.pipeline.distillation.compare import pool, same_frames, unit
from earshot.pipeline.distillation.output import compressed
from earshot.pipeline.distillation.similarity import LayerMethod


class FeatureSimilarity(LayerMethod):
    """Which frames of a clip look alike to the teacher, layer by layer, and its output (CNNC-Distill, SPL 2024)."""

    def forward(self, student: View, teacher: View | None, clean: Tensor) -> Tensor:
        """The loss above, the layers' terms averaged."""
        assert teacher is not None
        layers = super().forward(_slowed(student), _slowed(teacher), clean)
        (ours, our_size), (theirs, their_size) = compressed(student.spectrum), compressed(teacher.spectrum.detach())
        return layers + functional.l1_loss(_parts(ours), _parts(theirs)) + functional.l1_loss(our_size, their_size)

    def compare(self, ours: Tensor, theirs: Tensor) -> Tensor:
        """The distance of the two frame-by-frame maps, averaged over the batch."""
        ours, theirs = same_frames(ours, theirs)
        maps = [unit(rows @ rows.transpose(1, 2)) for rows in (_frames(ours), _frames(theirs))]
        return (maps[0] - maps[1]).square().sum(1).mean()


def _slowed(view: View) -> View:
    frames = view.spectrum.shape[1]
    return replace(view, layers=tuple(pool(layer, min(layer.shape[2], frames), 2) for layer in view.layers))


def _frames(layer: Tensor) -> Tensor:
    return layer.transpose(1, 2).flatten(2)


def _parts(spectrum: Tensor) -> Tensor:
    return torch.view_as_real(spectrum)
