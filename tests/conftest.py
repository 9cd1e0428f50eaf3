"""Tests share their cores: torch computes on one thread, as it does in the processes the tests start."""

import os
import sys

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    if "torch" in sys.modules:  # most tests need no torch, and do not pay for it
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture(scope="module", autouse=True)
def settings_given_back():
    """A setting of earshot that one file's tests leave behind would change what the files after it test."""
    before = settings()
    yield
    assert settings() == before


def settings() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith("EARSHOT_")}
