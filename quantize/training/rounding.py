"""Rounding as int8 files round, with gradients that pass straight through (Bengio et al. 2013, arXiv 1308.3432)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

LOWEST, HIGHEST = -128, 127
_STEPS = HIGHEST - LOWEST
_LEAST = 1e-9  # of a range's width, so that no scale is zero


@dataclass(frozen=True)
class Grids:
    """The numbers that int8 activations can hold, one grid for each range.

    Attributes:
        scale: float32 `[ranges]`.
        zero: the integer that stands for 0, int32 `[ranges]`.
    """

    scale: Tensor
    zero: Tensor

    @classmethod
    def of(cls, low: Tensor, high: Tensor) -> Grids:
        """Grids that hold ranges and 0; float32 `[ranges]` both."""
        low, high = low.clamp_max(0), high.clamp_min(0)
        scale = (high - low).clamp_min(_LEAST) / _STEPS
        return cls(scale, torch.round(LOWEST - low / scale).to(torch.int32))

    def round(self, values: Tensor, index: int) -> Tensor:
        """The nearest numbers of one grid, half to even; no gradient where a value lies outside the range."""
        held = torch.fake_quantize_per_tensor_affine(
            values.float(), self.scale[index], self.zero[index], LOWEST, HIGHEST
        )
        return held.to(values.dtype)


def round_weights(weights: Tensor, rows: tuple[int, ...]) -> Tensor:
    """Weights on symmetric grids of 255 numbers.

    Args:
        weights: any shape, float.
        rows: the dimensions along which each index has a scale of its own; none for one scale.
    """
    return _Through.apply(weights, rows)


class _Through(torch.autograd.Function):
    """The gradient of the rounded weights is that of the weights: nothing is clipped, so it passes everywhere."""

    @staticmethod
    def forward(ctx: Any, weights: Tensor, rows: tuple[int, ...]) -> Tensor:
        columns = tuple(dim for dim in range(weights.dim()) if dim not in rows)
        largest = weights.abs().amax(columns, keepdim=True) if columns else weights.abs()
        scale = largest.clamp_min(_LEAST) / HIGHEST
        return torch.round(weights / scale).clamp_(-HIGHEST, HIGHEST).mul_(scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None
