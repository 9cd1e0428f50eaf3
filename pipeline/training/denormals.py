"""Numbers too small for a normal float, which training meets and nothing else should notice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def denormals_flushed() -> Iterator[None]:
    """Takes denormal floats for zero on this thread, and takes that back at the end; a decorator too.

    Gradients of a quiet mask fall below the smallest normal float, where a CPU is a hundred times slower.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
