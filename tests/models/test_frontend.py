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
EVERY = [
    *FRONTENDS,
    Frontend(kind="wave", hop=64),
    Frontend(features="log1p"),
    Frontend(features="complex", mask="complex"),
]
SOUND = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 5000)).astype(np.float32))


@pytest.mark.parametrize("frontend", EVERY)
@pytest.mark.parametrize("samples", [1, 31, 32, 1024, 4999])
def test_a_mask_of_one_gives_the_signal_back(frontend: Frontend, samples: int) -> None:
    sound = SOUND[:, :samples]
    analysed = frontend.analyse(sound)
    frames = (2, frontend.inputs, frontend.frames(samples), frontend.bins)
    assert (analysed.sequence.shape, analysed.samples) == (frames, samples)
    output = analysed.sequence
    if frontend.kind == "stft":
        output = torch.zeros(2, frontend.outputs, *frames[2:])
        output[:, 0] = 1
    back = frontend.synthesise(analysed, output)
    assert back.shape == sound.shape
    assert float((back - sound).abs().max()) < 1e-5
    assert torch.allclose(frontend.synthesise(analysed, output / 2), sound / 2, atol=1e-5)
    judged = frontend.enhanced_spectrum(analysed, output)
    assert torch.allclose(judged, frontend.judged.spectrum(sound), atol=1e-4)


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


def test_features_of_each_kind_by_hand() -> None:
    """A constant is a DC line whose size is the window's sum; silence keeps eps = 1e-10: (1e-10)^0.15 = 10^-1.5."""
    sizes = {"window": 64, "hop": 32, "fft": 64}
    sound = torch.cat([torch.full((1, 256), 2.0), torch.zeros(1, 256)], 1)
    dc = 2 * float(Frontend(**sizes).window_array().sum())
    compressed, log1p, parts = (
        Frontend(**sizes, features=kind).analyse(sound).sequence for kind in ("magnitude", "log1p", "complex")
    )
    assert compressed.shape == log1p.shape == (1, 1, 17, 33)
    assert parts.shape == (1, 2, 17, 33)
    assert float(compressed[0, 0, 4, 0]) == pytest.approx(dc**0.3, rel=1e-5)
    assert float(compressed[0, 0, 12, 0]) == pytest.approx(10**-1.5, rel=1e-5)
    assert float(log1p[0, 0, 4, 0]) == pytest.approx(np.log1p(dc), rel=1e-5)
    assert parts[0, :, 4, 0].tolist() == pytest.approx([dc, 0], abs=1e-4)


def test_every_microphone_is_heard_and_the_first_is_enhanced() -> None:
    frontend = Frontend(window=64, hop=32, fft=64, features="complex", mask="complex", channels=2)
    two = torch.stack([SOUND[:1], SOUND[1:]], 1)
    analysed = frontend.analyse(two)
    alone = [Frontend(window=64, hop=32, fft=64).spectrum(sound) for sound in (SOUND[:1], SOUND[1:])]
    expected = torch.stack([part for one in alone for part in (one.real, one.imag)], 1)
    assert torch.equal(analysed.sequence, expected)
    turn = torch.zeros(1, 2, *expected.shape[2:])
    turn[:, 1] = 1  # a gain of i
    assert torch.allclose(frontend.enhanced_spectrum(analysed, turn), 1j * alone[0], atol=1e-5)
    with pytest.raises(ValueError, match="1 channels for a frontend of 2 microphones"):
        frontend.analyse(SOUND)


def test_chunks_are_judged_by_spectra_of_their_rate() -> None:
    judged = Frontend(kind="wave", rate=48000, hop=100).judged
    assert (judged.kind, judged.rate, judged.hop) == ("stft", 48000, 768)
    assert Frontend().judged == Frontend()


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
        ({"mask": "phase"}, "magnitude"),
        ({"channels": 2}, "set features: complex"),
        ({"channels": 0}, "channels"),
        ({"kind": "wave", "hop": 64, "fft": 128}, "chunks only"),
        ({"kind": "wave", "hop": 64, "mask": "complex"}, "samples in and out"),
        ({"windw": 512}, "did you mean 'window'"),
    ],
)
def test_a_frontend_that_cannot_be_is_refused(values: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse(Frontend, values, "recipe.yaml")
