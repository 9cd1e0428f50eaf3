"""Output matching: the student's output follows the teacher's (Hinton et al. 2015, on signals).

spectrum   L = mean (|Y_S|^c - |Y_T|^c)² + mean | |Y_S|^(c-1) Y_S - |Y_T|^(c-1) Y_T |²,   c = 0.3
waveform   L = mean |y_S - y_T| / mean |y_T|
mask       L = mean (M_S - M_T)²
"""

from __future__ import annotations

import torch
from torch import Tensor

from earshot.core.errors import ModelError
from earshot.models.streaming import StreamingModel
from earshot.pipeline.distillation.base import DistillationMethod, View

_EXPONENT, _EPSILON = 0.3, 1e-6


class OutputMatching(DistillationMethod):
    """Compressed-spectrum distance to the teacher's output, free of both networks' sizes (Hinton et al. 2015)."""

    def forward(self, student: View, teacher: View | None, clean: Tensor) -> Tensor:
        """`spectrum` above; the teacher is detached."""
        assert teacher is not None
        ours, our_size = compressed(student.spectrum)
        theirs, their_size = compressed(teacher.spectrum.detach())
        error = ours - theirs
        return (our_size - their_size).square().mean() + (error.real.square() + error.imag.square()).mean()


class WaveformMatching(DistillationMethod):
    """Distance to the teacher's waveform, free of both networks' sizes (Hinton et al. 2015)."""

    def forward(self, student: View, teacher: View | None, clean: Tensor) -> Tensor:
        """`waveform` above; the teacher is detached."""
        assert teacher is not None
        theirs = teacher.signal.detach()
        return (student.signal - theirs).abs().mean() / theirs.abs().mean().clamp_min(_EPSILON)


class MaskMatching(DistillationMethod):
    """Distance to the teacher's mask; both must work on the same frames (Hinton et al. 2015)."""

    def __init__(self, student: StreamingModel, teacher: StreamingModel | None) -> None:
        super().__init__(student, teacher)
        assert teacher is not None
        ours, theirs = student.frontend, teacher.frontend
        keys = ("kind", "rate", "window", "hop", "fft", "mask")
        differing = [key for key in keys if getattr(ours, key) != getattr(theirs, key)]
        if ours.kind != "stft" or differing:
            reason = f"their frontends differ in {', '.join(differing)}" if differing else "they have no masks"
            raise ModelError(
                f"the masks of {type(student).__name__} and {type(teacher).__name__} cannot be compared: {reason}",
                "choose method: output or output_waveform",
            )

    def forward(self, student: View, teacher: View | None, clean: Tensor) -> Tensor:
        """`mask` above; the teacher is detached."""
        assert teacher is not None
        return (student.output - teacher.output.detach()).square().mean()


def compressed(spectrum: Tensor) -> tuple[Tensor, Tensor]:
    """|Y|^(c-1) Y and |Y|^c of a complex spectrum."""
    magnitude = torch.sqrt(spectrum.real.square() + spectrum.imag.square() + _EPSILON**2)
    size = magnitude**_EXPONENT
    return spectrum * (size / magnitude), size
