"""Enhancers run real models: the stream model frame by frame, as the network computes it on whole signals."""

import numpy as np
import pytest
import torch
from scoring_doubles import RATE, MadeClip, noisy_version, speech_like

from earshot.core.errors import ModelError
from earshot.models import checkpoint
from earshot.models.dae_unet import DaeUnet, DaeUnetParams
from earshot.models.frontend import Frontend
from earshot.pipeline.enhancers import CheckpointEnhancer, Passthrough, TfliteEnhancer
from earshot.pipeline.evaluation import evaluate
from earshot.quantize.export import export_float


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    params = DaeUnetParams(channels=(4, 6), strides=(4, 4), latent=8, hidden=8)
    made = DaeUnet(Frontend(), params).eval()
    with torch.no_grad():
        made.up[-1].conv.weight.mul_(20)  # fresh weights give a mask that hardly moves
    return made


@pytest.fixture(scope="module")
def stream_model(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "small.tflite"
    export_float(network, path)
    return path


def test_passthrough_changes_nothing():
    noisy = speech_like(0)
    assert Passthrough().open(RATE)(noisy) is noisy


def test_stream_model_equals_the_network(network, stream_model):
    enhance = TfliteEnhancer(stream_model).open(RATE)
    for seed, seconds in ((0, 1.0), (1, 0.777)):  # the second starts a new stream, and is no whole number of hops
        clean = speech_like(seed, seconds)
        noisy = noisy_version(clean, seed)
        with torch.no_grad():
            expected = network.enhance(torch.from_numpy(noisy)[None])[0].numpy()
        enhanced = enhance(noisy)
        assert enhanced.shape == noisy.shape
        assert enhanced == pytest.approx(expected, abs=1e-5)
        assert np.abs(enhanced - noisy).max() > 1e-3


def test_stream_model_and_checkpoint_in_workers(network, stream_model, tmp_path, capfd):
    clips = [MadeClip("a", 0), MadeClip("b", 1)]
    checkpoint.save(network, "dae_unet", tmp_path / "small.safetensors")
    streamed = evaluate(TfliteEnhancer(stream_model), clips, ["si_sdr"], RATE, workers=2)
    whole = evaluate(CheckpointEnhancer(tmp_path / "small.safetensors"), clips, ["si_sdr"], RATE, workers=1)
    plain = evaluate(Passthrough(), clips, ["si_sdr"], RATE, workers=1)
    assert (streamed.enhancer, whole.enhancer) == ("small.tflite", "small.safetensors")
    assert streamed.measurements()[0].value == pytest.approx(whole.measurements()[0].value, abs=1e-3)
    assert streamed.measurements()[0].value != pytest.approx(
        plain.measurements()[0].value, abs=1e-2
    )  # random weights: nearly a constant gain
    assert capfd.readouterr().err == ""


def test_wrong_rate_and_damaged_files_are_refused(network, stream_model, tmp_path):
    with pytest.raises(ModelError, match="works at 16000 Hz, the data is at 48000 Hz"):
        TfliteEnhancer(stream_model).open(48000)
    checkpoint.save(network, "dae_unet", tmp_path / "small.safetensors")
    with pytest.raises(ModelError, match="works at 16000 Hz, the data is at 8000 Hz"):
        CheckpointEnhancer(tmp_path / "small.safetensors").open(8000)
    damaged = tmp_path / "damaged.tflite"
    damaged.write_bytes(stream_model.read_bytes()[:2000])
    with pytest.raises(ModelError, match=r"damaged\.tflite"):
        evaluate(TfliteEnhancer(damaged), [MadeClip("a")], ["si_sdr"], RATE, workers=1)
