import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes noise of its own (seeded by the name) under tmp_path; returns the path."""

    def write(name: str, seconds: float = 1.0, rate: int = 16000) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        sound = 0.1 * rng.standard_normal(int(seconds * rate))
        soundfile.write(path, sound, rate, subtype="PCM_16")
        return path

    return write
