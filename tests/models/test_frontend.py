"""The signal processing around a graph, against scipy and against its own promises."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.signal
import torch

from earshot.core.config import parse
from earshot.core.errors import ConfigError
from earshot.models.frontend import Frontend

FRONTENDS = [
    Frontend(),
    Frontend(window=320, hop=160, fft=512),
    Frontend(rate=48000, window=1024, hop=512, fft=1024),
    Frontend(rate=8000, window=64, hop=32, fft=64, compression=1.0),
]
SOUND = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 5000)).astype(np.float32))


@pytest.mark.parametrize("frontend", FRONTENDS)
@pytest.mark.parametrize("samples", [1, 31, 32, 1024, 4999])
def test_a_mask_of_one_gives_the_signal_back(frontend: Frontend, samples: int) -> None:
    sound = SOUND[:, :samples]
    spectrum = frontend.spectrum(sound)
    assert spectrum.shape == (2, frontend.frames(samples), frontend.bins)
    mask = torch.ones(2, 1, *spectrum.shape[1:])
    back = frontend.signal(frontend.apply_mask(spectrum, mask), samples)
    assert back.shape == sound.shape
    assert float((back - sound).abs().max()) < 1e-5
    halved = frontend.signal(frontend.apply_mask(spectrum, mask / 2), samples)
    assert torch.allclose(halved, sound / 2, atol=1e-5)


@pytest.mark.parametrize("frontend", FRONTENDS)
def test_spectra_are_those_of_scipy(frontend: Frontend) -> None:
    sound = SOUND[0].numpy()
    window = np.sqrt(scipy.signal.get_window("hann", frontend.window))
    assert np.allclose(frontend.window_array(), window, atol=1e-7)
    spectrum = frontend.spectrum(SOUND)[0].numpy()
    padded = np.concatenate([np.zeros(frontend.window - frontend.hop), sound, np.zeros(2 * frontend.window)])
    for index in (0, 1, 7):
        frame = padded[index * frontend.hop :][: frontend.window] * window
        dft = np.exp(-2j * np.pi * np.outer(np.arange(frontend.bins), np.arange(frontend.window)) / frontend.fft)
        assert np.allclose(spectrum[index], dft @ frame, atol=1e-3)
    transform = scipy.signal.ShortTimeFFT(window, frontend.hop, frontend.rate, mfft=frontend.fft, phase_shift=None)
    theirs = transform.stft(padded, p0=1, p1=1 + 8, k_offset=frontend.window // 2 - frontend.hop).T
    assert np.allclose(spectrum[:8], theirs, atol=1e-3)


def test_features_are_compressed_magnitudes() -> None:
    frontend = Frontend(window=64, hop=32, fft=64)
    spectrum = torch.tensor([[[3 + 4j, 0, -2j]]], dtype=torch.complex64)
    found = frontend.features(spectrum)
    assert found.shape == (1, 1, 1, 3)
    # |3 + 4j| = 5; silence keeps eps = 1e-10: (1e-10)^0.15 = 10^-1.5
    assert found.flatten().tolist() == pytest.approx([5**0.3, 10**-1.5, 2**0.3], rel=1e-5)


@pytest.mark.parametrize("frontend", FRONTENDS)
def test_an_impulse_leaves_the_stream_delay_samples_later(frontend: Frontend) -> None:
    """A stream that hands out each hop as its frame completes, written out sample by sample."""
    window = frontend.window_array()
    sound = np.zeros(8 * frontend.hop, np.float32)
    at = 3 * frontend.hop + 5
    sound[at] = 1
    held, tail, heard = np.zeros(frontend.window - frontend.hop), np.zeros(frontend.window), []
    for hop in sound.reshape(-1, frontend.hop):
        frame = np.concatenate([held, hop])
        held = frame[frontend.hop :]
        tail += np.fft.irfft(np.fft.rfft(frame * window, frontend.fft), frontend.fft)[: frontend.window] * window
        heard.append(tail[: frontend.hop].copy())
        tail = np.concatenate([tail[frontend.hop :], np.zeros(frontend.hop)])
    output = np.concatenate(heard)
    assert int(np.argmax(np.abs(output))) == at + frontend.delay_samples
    assert output[at + frontend.delay_samples] == pytest.approx(1, abs=1e-5)
    assert frontend.algorithmic_latency_samples == frontend.delay_samples + frontend.hop
    assert frontend.hop_seconds == frontend.hop / frontend.rate


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"window": 512, "hop": 128}, "window = 2"),
        ({"window": 512, "hop": 256, "fft": 256}, "at least window"),
        ({"rate": 0}, "positive"),
        ({"hop": -1, "window": -2}, "positive"),
        ({"compression": 0}, "compression"),
        ({"compression": 1.5}, "compression"),
        ({"compression": float("nan")}, "finite"),
        ({"window_kind": "hann"}, "sqrt_hann"),
        ({"kind": "mel"}, "stft"),
        ({"mask": "complex"}, "magnitude"),
        ({"windw": 512}, "did you mean 'window'"),
    ],
)
def test_a_frontend_that_cannot_be_is_refused(values: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse(Frontend, values, "recipe.yaml")
