"""Enhancers run real models: the stream model frame by frame, as the network computes it on whole signals."""

import numpy as np
import pytest
import torch
from scoring_doubles import RATE, MadeClip, noisy_version, speech_like

from earshot.core.errors import ModelError
from earshot.models.dae_unet import DaeUnet, DaeUnetParams
from earshot.models.frontend import Frontend
from earshot.pipeline.enhancers import Passthrough, TfliteEnhancer
from earshot.pipeline.evaluation import evaluate
from earshot.quantize.export import export_float


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    params = DaeUnetParams(channels=(4, 6), strides=(4, 4), latent=8, hidden=8)
    return DaeUnet(Frontend(), params).eval()


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


def test_stream_model_in_workers(stream_model):
    result = evaluate(TfliteEnhancer(stream_model), [MadeClip("a", 0), MadeClip("b", 1)], ["si_sdr"], RATE, workers=2)
    assert result.enhancer == "small.tflite"
    assert result.measurements()[0].n == 2


def test_wrong_rate_and_damaged_files_are_refused(stream_model, tmp_path):
    with pytest.raises(ModelError, match="works at 16000 Hz, the data is at 48000 Hz"):
        TfliteEnhancer(stream_model).open(48000)
    damaged = tmp_path / "damaged.tflite"
    damaged.write_bytes(stream_model.read_bytes()[:2000])
    with pytest.raises(ModelError, match=r"damaged\.tflite"):
        evaluate(TfliteEnhancer(damaged), [MadeClip("a")], ["si_sdr"], RATE, workers=1)
