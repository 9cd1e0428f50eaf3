"""Several microphones from the recipe to a file: streaming equals the checkpoint, scored and enhanced from channels."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from earshot.core.errors import DataError, ModelError
from earshot.models import checkpoint
from earshot.models.frontend import Frontend
from earshot.models.registry import build
from earshot.pipeline.enhance import enhance_file
from earshot.pipeline.enhancers import CheckpointEnhancer, Passthrough, TfliteEnhancer
from earshot.quantize.export import export_float

RATE = 16000
FRONTEND = Frontend(window=16, hop=8, fft=16, features="complex", mask="complex", channels=2)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> tuple[Path, Path]:
    """A random FT-JNF of two microphones: checkpoint and stream model."""
    folder = tmp_path_factory.mktemp("array")
    torch.manual_seed(0)
    model = build("ft_jnf", FRONTEND, {"hidden_frequency": 4, "hidden_time": 4}).eval()
    checkpoint.save(model, "ft_jnf", folder / "model.safetensors")
    export_float(model, folder / "model.tflite", "ft_jnf")
    return folder / "model.safetensors", folder / "model.tflite"


@pytest.fixture
def noisy():
    return 0.1 * np.random.default_rng(0).standard_normal((2, 4000)).astype(np.float32)


@pytest.mark.slow
def test_checkpoint_stream_and_file_agree(files, noisy, tmp_path) -> None:
    parent, stream = (
        kind(path).open(RATE) for kind, path in zip((CheckpointEnhancer, TfliteEnhancer), files, strict=True)
    )
    wanted = parent(noisy)
    assert wanted.shape == (4000,)
    np.testing.assert_allclose(stream(noisy), wanted, atol=1e-5)
    assert np.abs(parent(noisy[::-1].copy()) - wanted).max() > 1e-3  # negative control: microphones are not alike

    soundfile.write(tmp_path / "in.wav", noisy.T, RATE, subtype="FLOAT")
    report = enhance_file(files[1], tmp_path / "in.wav", tmp_path / "out.wav")
    enhanced, rate = soundfile.read(tmp_path / "out.wav", dtype="float32", always_2d=True)
    assert (rate, report.channels, enhanced.shape) == (RATE, 1, (4000, 1))
    np.testing.assert_allclose(enhanced[:, 0], wanted, atol=1e-5)


@pytest.mark.slow
def test_another_number_of_microphones_names_both(files, noisy, tmp_path) -> None:
    for kind, path in zip((CheckpointEnhancer, TfliteEnhancer), files, strict=True):
        for sound, found in ((noisy[0], 1), (np.concatenate([noisy, noisy[:1]]), 3)):
            with pytest.raises(ModelError, match=f"2 microphones, the data has {found}"):
                kind(path).open(RATE)(sound)
    soundfile.write(tmp_path / "three.wav", np.repeat(noisy[:1].T, 3, axis=1), RATE)
    with pytest.raises(DataError, match="3 channels, but 2 microphones are needed") as caught:
        enhance_file(files[1], tmp_path / "three.wav", tmp_path / "out.wav")
    assert "three.wav" in caught.value.message
    assert not (tmp_path / "out.wav").exists()


def test_the_noisy_score_is_the_first_microphones(noisy) -> None:
    assert np.array_equal(Passthrough().open(RATE)(noisy), noisy[0])
    assert np.array_equal(Passthrough().open(RATE)(noisy[1]), noisy[1])
