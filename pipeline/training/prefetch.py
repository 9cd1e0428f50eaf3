"""Mixes the next batches in a thread while the network is busy."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from earshot.pipeline.data.base import TrainSampler

if TYPE_CHECKING:
    from torch import Tensor

_AHEAD = 2


def batches(sampler: TrainSampler, steps: range, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """(clean, noisy) float32 `[size, samples]` of every step, in order; errors of the sampler surface here."""
    import torch

    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="mixing") as pool:
        waiting: deque[Future] = deque()
        upcoming = iter(steps)
        try:
            for _ in steps:
                while len(waiting) < _AHEAD and (step := next(upcoming, None)) is not None:
                    waiting.append(pool.submit(sampler.batch, step, size))
                clean, noisy = waiting.popleft().result()
                yield torch.from_numpy(clean), torch.from_numpy(noisy)
        finally:
            for future in waiting:
                future.cancel()
