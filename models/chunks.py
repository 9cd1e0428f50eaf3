"""Signals as chunks that overlap by half, and back: what dual-path networks attend over.

split    chunk p holds x[p size/2 - before : p size/2 - before + size], zeros outside the signal
merge    overlap-add; every sample lies in two chunks, so merge(split(x)) = 2 x where `before` is size/2 or more
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def split(signal: Tensor, size: int, before: int, after: int) -> Tensor:
    """`[batch, channels, time] -> [batch, channels, chunks, size]`; what does not fill a chunk is left out.

    Args:
        size: of a chunk, even.
        before, after: zeros put before and after the signal.
    """
    return functional.pad(signal, (before, after)).unfold(-1, size, size // 2)


def merge(chunks: Tensor, before: int, time: int) -> Tensor:
    """`[batch, channels, chunks, size] -> [batch, channels, time]`, the zeros of `split` cut off again."""
    first, second = chunks.unflatten(-1, (2, -1)).unbind(-2)
    halves = functional.pad(first, (0, 0, 0, 1)) + functional.pad(second, (0, 0, 1, 0))
    return halves.flatten(2)[..., before : before + time]
