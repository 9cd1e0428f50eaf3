"""Output matching: the student's enhanced spectrum follows the teacher's (Hinton et al. 2015, on spectra).

L = mean (|Y_S|^c - |Y_T|^c)² + mean | |Y_S|^(c-1) Y_S - |Y_T|^(c-1) Y_T |²,   c = 0.3
"""

from __future__ import annotations

import torch
from torch import Tensor

from earshot.pipeline.distillation.base import DistillationMethod, View

_EXPONENT, _EPSILON = 0.3, 1e-6


class OutputMatching(DistillationMethod):
    """Compressed-spectrum distance to the teacher's output, free of both networks' sizes (Hinton et al. 2015)."""

    def forward(self, student: View, teacher: View | None) -> Tensor:
        """The loss above; the teacher is detached."""
        assert teacher is not None
        squeezed, size = _compress(student.spectrum)
        wanted, wanted_size = _compress(teacher.spectrum.detach())
        error = squeezed - wanted
        return (size - wanted_size).square().mean() + (error.real.square() + error.imag.square()).mean()


def _compress(spectrum: Tensor) -> tuple[Tensor, Tensor]:
    magnitude = torch.sqrt(spectrum.real.square() + spectrum.imag.square() + _EPSILON**2)
    size = magnitude**_EXPONENT
    return spectrum * (size / magnitude), size
