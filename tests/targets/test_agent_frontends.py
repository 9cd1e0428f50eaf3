"""Frontends beside magnitudes, on the agent against torch: samples, log magnitudes, complex spectra, microphones."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from earshot.models.frontend import Frontend
from earshot.models.registry import build, network
from earshot.quantize.export import export_float
from earshot.targets.agent import AgentError, Chunks, Stft, StreamEnhancer

SIZES = {"window": 64, "hop": 32, "fft": 64}
FRONTENDS = [
    Frontend(**SIZES, features="log1p"),
    Frontend(**SIZES, features="complex", mask="complex"),
    Frontend(**SIZES, features="complex", mask="complex", channels=3),
]


def noise(*shape, seed=0):
    return (np.random.default_rng(seed).standard_normal(shape) * 0.1).astype(np.float32)


@pytest.mark.parametrize("frontend", FRONTENDS, ids=lambda f: f"{f.features}-{f.channels}")
def test_features_and_masked_sound_are_those_of_torch(frontend):
    sound = noise(64 * 32, frontend.channels)
    analysed = frontend.analyse(torch.from_numpy(sound.T[None]))
    stft = Stft(frontend.model_dump())
    features, heard = [], []
    output = noise(64, frontend.bins, frontend.outputs, seed=1)
    blocks = sound if frontend.channels > 1 else sound[:, 0]
    for start, hops in ((0, 1), (1, 17), (18, 46)):
        spectrum = stft.analyse(blocks[start * 32 : (start + hops) * 32])
        features.append(stft.features(spectrum).copy())
        heard.append(stft.synthesise(stft.apply(spectrum, output[start : start + hops].reshape(hops, -1))))
    wanted = analysed.sequence[0, :, :64].permute(1, 2, 0).flatten(1).numpy()
    assert np.concatenate(features).shape == wanted.shape
    assert np.abs(np.concatenate(features) - wanted).max() < 1e-5
    padded = np.concatenate([output, np.zeros((1, *output.shape[1:]), np.float32)])
    whole = frontend.synthesise(analysed, torch.from_numpy(padded).permute(2, 0, 1)[None])[0].numpy()
    assert np.abs(np.concatenate(heard)[stft.delay :] - whole[: -stft.delay]).max() < 1e-6
    assert np.abs(whole).max() > 0.01


STREAMS = [
    ("metricgan", Frontend(**SIZES, features="log1p"), {"hidden": 6, "wide": 5}),
    ("dccrn", Frontend(**SIZES, features="complex", mask="complex"), {"channels": [3, 4], "hidden": 5}),
    ("rt_senet", Frontend(kind="wave", hop=32), {"channels": [4, 6], "strides": [4, 4]}),
    ("wave_unet", Frontend(kind="wave", hop=32), {"channels": [4, 6, 8], "strides": [4, 4]}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "frontend", "params"), STREAMS, ids=[name for name, *_ in STREAMS])
def test_the_file_enhances_as_the_network_does(name, frontend, params, tmp_path):
    torch.manual_seed(0)
    model = build(name, frontend, params).eval()
    export_float(model, tmp_path / "m.tflite", network=name)
    sound = noise(1003)
    with torch.no_grad():
        wanted = model.enhance(torch.from_numpy(sound)[None])[0].numpy()
    enhancer = StreamEnhancer(tmp_path / "m.tflite")
    assert np.abs(enhancer.enhance(sound) - wanted).max() < 1e-5
    assert np.abs(wanted).max() > 1e-3
    enhancer.reset()
    hops = [enhancer.process(hop) for hop in sound[: 30 * 32].reshape(-1, 32)]
    assert np.abs(np.concatenate(hops)[enhancer.delay :] - wanted[: 30 * 32 - enhancer.delay]).max() < 1e-5


@pytest.mark.parametrize(
    "change", [{"features": "mel"}, {"mask": "phase"}, {"channels": 2}, {"features": "complex", "channels": 0}]
)
def test_a_frontend_that_the_agent_does_not_know_is_refused(change):
    with pytest.raises(AgentError, match="does not know the frontend"):
        Stft({**Frontend(**SIZES).model_dump(), **change})


def test_sound_of_the_wrong_shape_is_refused():
    two = Stft(Frontend(**SIZES, features="complex", channels=2).model_dump())
    with pytest.raises(ValueError, match="2 microphones"):
        two.analyse(noise(32))
    chunks = Chunks(Frontend(kind="wave", hop=32).model_dump())
    assert np.array_equal(chunks.synthesise(chunks.analyse(noise(64))), noise(64))
    with pytest.raises(ValueError, match="whole hops of 32"):
        chunks.analyse(noise(33))
    with pytest.raises(AgentError, match="does not know"):
        Chunks({**Frontend(kind="wave", hop=32).model_dump(), "channels": 2})


def test_usual_frontends_are_known_to_the_agent():
    for name in ("conv_tasnet", "dccrn", "ft_jnf", "metricgan", "mobile_unet", "rt_senet", "wave_unet"):
        usual = network(name).usual.model_dump()
        made = Chunks(usual) if usual["kind"] == "wave" else Stft(usual)
        assert (made.rate, made.hop) == (usual["rate"], usual["hop"])
