"""System 6: the discriminator that learns to predict metrics of enhanced speech (MetricGAN-OKD, ICML 2023).

Source: the authors' code (known). Batch norm of the two inputs, four convolutions 5x5 of 16, 32, 64 and 128 channels
without padding, LeakyReLU 0.3 after each, mean over time and frequency, fully connected 50, 10 and one output a metric;
spectral norm on every layer. Computed: 276,804 + 11 a metric parameters.

    log(1 + |S|), log(1 + |Y|) ─> BN ─> 4 x [conv 5x5 ─> LeakyReLU] ─> mean ─> 50 ─> 10 ─> metrics

It takes part in training only: nothing of it is shipped or streamed, and it is no `StreamingModel`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

WIDTHS = (16, 32, 64, 128)
_KERNEL = 5
_SLOPE, _MOMENTUM = 0.3, 0.01


class MetricDiscriminator(nn.Module):
    """Predicts every metric of a clip from spectra of its clean and its judged form.

    Args:
        metrics: how many it predicts.
        widths: channels of the convolutions.
    """

    def __init__(self, metrics: int, widths: Sequence[int] = WIDTHS) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(2, momentum=_MOMENTUM)
        sizes = (2, *widths)
        self.convolutions = nn.ModuleList(
            _bounded(nn.Conv2d(before, after, _KERNEL)) for before, after in pairwise(sizes)
        )
        self.heads = nn.ModuleList(_bounded(layer) for layer in (nn.Linear(sizes[-1], 50), nn.Linear(50, 10)))
        self.scores = _bounded(nn.Linear(10, metrics))
        self.activation = nn.LeakyReLU(_SLOPE)

    @property
    def smallest(self) -> int:
        """Frames, and bins, that a spectrum must have at least."""
        return 1 + len(self.convolutions) * (_KERNEL - 1)

    def forward(self, clean: Tensor, judged: Tensor) -> Tensor:
        """Predicted metrics `[batch, metrics]`, not limited, of log(1 + |spectrum|) `[batch, frames, bins]` of both."""
        features = self.norm(torch.stack((clean, judged), dim=1))
        for layer in self.convolutions:
            features = self.activation(layer(features))
        features = features.mean(dim=(2, 3))
        for layer in self.heads:
            features = self.activation(layer(features))
        return self.scores(features)


def _bounded(layer: nn.Module) -> nn.Module:
    """Xavier weights, no bias at the start, and a largest singular value of one throughout."""
    assert isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return spectral_norm(layer)
