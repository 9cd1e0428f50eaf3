"""What a distillation method sees and returns. A method is one module here and one line in `registry.py`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from earshot.models.frontend import Frontend
from earshot.models.streaming import StreamingModel, Trace


@dataclass(frozen=True, eq=False)
class View:
    """What a network made of one batch.

    Attributes:
        output: what the graph gives, `[batch, outputs, frames, bins]`: a mask, or chunks of samples.
        spectrum: the enhanced spectrum, complex64 `[batch, frames, bins]`, in the student's `judged` frontend.
        latent: the bottleneck, `[batch, frames, width]`.
        layers: features of its stages from input to output, `[batch, channels, frames, bins]` each.
        views: attention maps by kind, `[batch, channels, frames, bins]` each; none for networks without attention.
        frontend, samples: what turns the spectrum back into signals.
    """

    output: Tensor
    spectrum: Tensor
    latent: Tensor
    layers: tuple[Tensor, ...]
    views: Mapping[str, tuple[Tensor, ...]]
    frontend: Frontend
    samples: int

    @property
    def signal(self) -> Tensor:
        """Computed from the spectrum when asked for."""
        return self.frontend.signal(self.spectrum, self.samples)


class DistillationMethod(nn.Module):
    """Base of every method. Its own parameters (projections) train with the student and are dropped afterwards.

    The first line of a method's docstring says what it is and where it comes from; `earshot methods` shows it. A method
    is built before training begins and raises ModelError there when teacher and student give it nothing to compare.

    Attributes:
        needs_teacher: False only for `none`.
    """

    needs_teacher: ClassVar[bool] = True

    def __init__(self, student: StreamingModel, teacher: StreamingModel | None) -> None:
        super().__init__()

    def forward(self, student: View, teacher: View | None, clean: Tensor) -> Tensor:
        """The distillation loss, a scalar; gradients reach the student and the method's own parameters only.

        Args:
            student: with gradients.
            teacher: without.
            clean: spectrum of the clean signal, complex64 `[batch, frames, bins]` as `View.spectrum`.
        """
        raise NotImplementedError


@torch.no_grad()
def probe(network: StreamingModel) -> Trace:
    """What a network shows of itself, on a little silence: its layers' sizes for methods that bridge them."""
    training = network.training
    frontend = network.frontend
    device = next(network.parameters()).device
    frames = 1 if frontend.kind == "stft" else -(-PROBE_SAMPLES // frontend.hop)
    found = network.eval().trace(torch.zeros(1, frontend.inputs, frames, frontend.bins, device=device))
    network.train(training)
    return found


PROBE_SAMPLES = 4096  # networks on samples divide their length several times over
