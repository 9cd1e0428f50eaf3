"""Batches mixed ahead in a thread: in order, never far ahead, and errors come through."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from earshot.core.errors import DataError
from earshot.pipeline.training.prefetch import batches


class Counting:
    def __init__(self, fails_at: int | None = None) -> None:
        self.asked: list[int] = []
        self.threads: set[str] = set()
        self.fails_at = fails_at

    def batch(self, step: int, size: int) -> tuple[np.ndarray, np.ndarray]:
        self.asked.append(step)
        self.threads.add(threading.current_thread().name)
        if step == self.fails_at:
            raise DataError("noise/broken.wav: cannot be decoded", "replace the file")
        time.sleep(0.002 * (step % 3))
        clean = np.full((size, 4), step, np.float32)
        return clean, clean + 0.5


@pytest.mark.parametrize("steps", [range(0), range(1), range(7, 19), range(3, 30, 4)])
def test_batches_come_in_order_and_whole(steps: range) -> None:
    sampler = Counting()
    found = [(float(clean[0, 0]), float(noisy[-1, -1]), len(clean)) for clean, noisy in batches(sampler, steps, 3)]
    assert found == [(step, step + 0.5, 3) for step in steps]
    assert sampler.asked == list(steps)
    assert threading.current_thread().name not in sampler.threads


def test_an_error_of_the_sampler_surfaces_after_the_batches_before_it() -> None:
    seen = []
    with pytest.raises(DataError, match=r"broken\.wav"):
        for clean, _ in batches(Counting(fails_at=3), range(10), 1):
            seen.append(int(clean[0, 0]))
    assert seen == [0, 1, 2]


def test_a_loop_that_ends_early_stops_the_mixing() -> None:
    sampler = Counting()
    stream = batches(sampler, range(1000), 1)
    next(stream)
    stream.close()
    asked = len(sampler.asked)
    assert asked <= 3, "more than two batches ahead"
    time.sleep(0.05)
    assert len(sampler.asked) == asked
