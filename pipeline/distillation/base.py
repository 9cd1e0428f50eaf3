"""What a distillation method sees and returns. A method is one module here and one line in `registry.py`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from earshot.models.streaming import StreamingModel


@dataclass(frozen=True)
class View:
    """What a network made of one batch.

    Attributes:
        mask: `[batch, 1, frames, bins]`.
        spectrum: the enhanced spectrum, complex64 `[batch, frames, bins]`.
        latent: the bottleneck, `[batch, frames, width]`.
    """

    mask: Tensor
    spectrum: Tensor
    latent: Tensor


class DistillationMethod(nn.Module):
    """Base of every method. Its own parameters (projections) train with the student and are dropped afterwards.

    The first line of a method's docstring says what it is and where it comes from; `earshot methods` shows it.

    Attributes:
        needs_teacher: False only for `none`.
    """

    needs_teacher: ClassVar[bool] = True

    def __init__(self, student: StreamingModel, teacher: StreamingModel | None) -> None:
        super().__init__()

    def forward(self, student: View, teacher: View | None) -> Tensor:
        """The distillation loss, a scalar; gradients reach the student and the method's own parameters only."""
        raise NotImplementedError
