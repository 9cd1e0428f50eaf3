"""Tests share their cores: torch computes on one thread, as it does in the processes the tests start."""

import os
import sys

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    if "torch" in sys.modules:  # most tests need no torch, and do not pay for it
        sys.modules["torch"].set_num_threads(1)
