"""How features of networks that differ in width, depth and frame rate are brought to one shape."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional


def pairs(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Every layer of the student with the teacher's at the same relative depth, the teacher's detached."""
    last = max(1, len(student) - 1)
    return [(layer, teacher[round(index * (len(teacher) - 1) / last)].detach()) for index, layer in enumerate(student)]


def same_frames(ours: Tensor, theirs: Tensor, dim: int = 2) -> tuple[Tensor, Tensor]:
    """Both with as many frames as the one that has fewer, means over what falls together."""
    frames = min(ours.shape[dim], theirs.shape[dim])
    return pool(ours, frames, dim), pool(theirs, frames, dim)


def pool(features: Tensor, size: int, dim: int) -> Tensor:
    """Means along `dim`, so that `size` values are left."""
    if features.shape[dim] == size:
        return features
    moved = features.movedim(dim, -1)
    pooled = functional.adaptive_avg_pool1d(moved.reshape(1, -1, moved.shape[-1]), size)
    return pooled.reshape(*moved.shape[:-1], size).movedim(-1, dim)


def similarity(rows: Tensor) -> Tensor:
    """Gram matrices with rows of unit length: `[..., n, features] -> [..., n, n]`.

    G = Q Qᵀ, each row divided by its L2 norm (Tung and Mori 2019, eq. 2 and 3).
    """
    return functional.normalize(rows @ rows.transpose(-1, -2), dim=-1)


def squared_distance(ours: Tensor, theirs: Tensor) -> Tensor:
    """Mean squared Frobenius distance of matrices `[..., n, n]`, divided by n²."""
    return (ours - theirs).square().mean(dim=(-1, -2)).mean()


def unit(features: Tensor) -> Tensor:
    """Each of a batch as a vector of unit length: `[batch, ...] -> [batch, features]`."""
    return functional.normalize(features.flatten(1), dim=1)


def total(losses: Sequence[Tensor]) -> Tensor:
    """The sum of scalars."""
    return torch.stack(list(losses)).sum()
