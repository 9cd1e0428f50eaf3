"""The sound files of a bundle's example for Raspberry Pis against libsndfile's, sample for sample."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

import earshot
from earshot.targets import agent

EXAMPLE = Path(earshot.__file__).parent / "pipeline" / "bundle" / "templates" / "raspberry-pi" / "enhance.py"
STEP = 1 / 32768


@pytest.fixture
def example(monkeypatch):
    monkeypatch.setitem(sys.modules, "agent", agent)  # it travels beside the program
    spec = importlib.util.spec_from_file_location("example_enhance", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_samples_are_rounded_and_clipped_as_libsndfile_does(example, tmp_path):
    edges = [
        0.0,
        1.0,
        -1.0,
        1.5,
        -1.5,
        1 - STEP,
        1 - STEP / 2,
        -1 - STEP / 2,
        1e9,
        -1e9,
        1e-9,
        -1e-9,
        STEP / 2,
        -STEP / 2,
    ]
    sound = np.float32([*edges, *np.random.default_rng(0).uniform(-1.2, 1.2, 5000)]).reshape(-1, 2)
    example.write_wav(tmp_path / "ours.wav", sound, 16000)
    soundfile.write(tmp_path / "theirs.wav", sound, 16000, subtype="PCM_16")
    ours, theirs = (soundfile.read(tmp_path / f"{name}.wav", dtype="int16")[0] for name in ("ours", "theirs"))
    assert np.array_equal(ours, theirs)
    assert (ours.min(), ours.max()) == (-32768, 32767)
    wrapped = (sound * 32768).astype(np.int64).astype(np.int16)
    assert not np.array_equal(ours, wrapped)  # what is too loud would turn over


def test_what_was_read_is_written_back_the_same(example, tmp_path):
    every = np.arange(-32768, 32768, dtype=np.int16).reshape(-1, 2)
    soundfile.write(tmp_path / "in.wav", every, 16000, subtype="PCM_16")
    example.write_wav(tmp_path / "out.wav", example.read_wav(tmp_path / "in.wav", 16000), 16000)
    assert np.array_equal(soundfile.read(tmp_path / "out.wav", dtype="int16")[0], every)
