"""The agent's signal path against the torch frontend that networks are trained with."""

import numpy as np
import pytest
import torch

from earshot.models.frontend import Frontend
from earshot.targets import agent
from earshot.targets.agent import AgentError, Stft, StreamEnhancer

FRONTENDS = [
    Frontend(),
    Frontend(rate=8000, window=256, hop=128, fft=256),
    Frontend(rate=16000, window=320, hop=160, fft=512, compression=0.5),
    Frontend(rate=48000, window=960, hop=480, fft=960),
    Frontend(rate=48000, window=1024, hop=512, fft=2048, compression=1.0),
]


def noise(samples, seed=0):
    return (np.random.default_rng(seed).standard_normal(samples) * 0.1).astype(np.float32)


def random_blocks(hops, seed):
    generator = np.random.default_rng(seed)
    while hops:
        size = min(hops, int(generator.choice([1, 2, 3, 17, 64])))
        hops -= size
        yield size


def streamed(stft, signal, sizes):
    """Features, spectra and resynthesised sound of a signal cut into blocks of `sizes` hops."""
    features, spectra, sound, start = [], [], [], 0
    for size in sizes:
        spectrum = stft.analyse(signal[start : start + size * stft.hop])
        start += size * stft.hop
        spectra.append(spectrum.copy())
        features.append(stft.features(spectrum))
        sound.append(stft.synthesise(spectrum))
    return np.concatenate(features), np.concatenate(spectra), np.concatenate(sound)


@pytest.mark.parametrize("frontend", FRONTENDS, ids=lambda f: f"{f.rate}-{f.window}-{f.fft}")
def test_streaming_equals_the_offline_frontend(frontend):
    signal = noise(frontend.hop * 83)
    stft = Stft(frontend.model_dump())
    features, spectra, sound = streamed(stft, signal, random_blocks(83, seed=1))

    reference = frontend.spectrum(torch.from_numpy(signal)[None])
    assert np.abs(spectra - reference[0, :83].numpy()).max() < 1e-5
    assert np.abs(features - frontend.analyse(torch.from_numpy(signal)[None]).sequence[0, 0, :83].numpy()).max() < 1e-5
    whole = frontend.signal(reference, len(signal))[0].numpy()
    assert np.abs(sound[stft.delay :] - whole[: -stft.delay]).max() < 1e-6
    # Negative control: a hop of offset is far outside the tolerance.
    assert np.abs(sound[: -stft.delay] - whole[: -stft.delay]).max() > 0.01


@pytest.mark.parametrize("frontend", FRONTENDS[:3], ids=lambda f: f"{f.rate}-{f.window}-{f.fft}")
def test_the_cut_of_a_stream_does_not_change_a_bit(frontend):
    signal = noise(frontend.hop * 60)
    whole = streamed(Stft(frontend.model_dump()), signal, [60])
    for seed in range(3):
        cut = streamed(Stft(frontend.model_dump()), signal, random_blocks(60, seed))
        for ours, theirs in zip(cut, whole, strict=True):
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("frontend", FRONTENDS, ids=lambda f: f"{f.rate}-{f.window}-{f.fft}")
def test_an_impulse_comes_out_after_the_stated_delay(frontend):
    stft = Stft(frontend.model_dump())
    for place in (0, 7, frontend.hop - 1, frontend.hop, 3 * frontend.hop + 5):
        signal = np.zeros(8 * frontend.hop, np.float32)
        signal[place] = 1
        stft.reset()
        _, _, sound = streamed(stft, signal, [1] * 8)
        assert int(np.argmax(np.abs(sound))) == place + frontend.delay_samples
        assert sound[place + stft.delay] == pytest.approx(1, abs=1e-5)


def test_the_compiled_transforms_are_used_where_numpy_has_them():
    forward, inverse = agent._transforms(512, 512)
    names = {forward.__name__, inverse.__name__}
    assert names == ({"rfft_n_even", "irfft"} if int(np.__version__[0]) >= 2 else {"forward", "inverse"})


def test_reset_forgets_the_past():
    stft, frontend = Stft(Frontend().model_dump()), Frontend()
    signal = noise(frontend.hop * 5)
    first = streamed(stft, signal, [5])[2]
    assert not np.array_equal(streamed(stft, signal, [5])[2], first)  # negative control: the past is heard
    stft.reset()
    np.testing.assert_array_equal(streamed(stft, signal, [5])[2], first)


@pytest.mark.parametrize("change", [{"window": 500}, {"fft": 256}, {"kind": "mdct"}, {"mask": "phase"}])
def test_an_unknown_frontend_is_refused(change):
    with pytest.raises(AgentError, match="does not know the frontend"):
        Stft({**Frontend().model_dump(), **change})


@pytest.mark.parametrize("samples", [0, 255, 257])
def test_a_block_of_broken_hops_is_refused(samples):
    with pytest.raises(ValueError, match="whole hops"):
        Stft(Frontend().model_dump()).analyse(np.zeros(samples, np.float32))


@pytest.mark.parametrize("samples", [1, 31, 32, 33, 1000, 64 * 32, 5000])
def test_enhancing_through_the_identity_returns_the_input(tiny, samples):
    signal = noise(samples)
    enhanced = StreamEnhancer(tiny("identity")).enhance(signal)
    assert enhanced.shape == signal.shape
    np.testing.assert_allclose(enhanced, signal, atol=1e-6)


@pytest.mark.parametrize("variant", [{}, {"integer": True}, {"integer": True, "loose": True}])
def test_blocks_of_any_size_give_the_same_sound(tiny, variant):
    enhancer = StreamEnhancer(tiny(**variant))
    signal = noise(enhancer.hop * 100) * 10
    signal[enhancer.hop * 40 : enhancer.hop * 60] = 0
    whole = enhancer.process(signal)
    enhancer.reset()
    pieces, start = [], 0
    for size in random_blocks(100, seed=3):
        pieces.append(enhancer.process(signal[start : start + size * enhancer.hop]))
        start += size * enhancer.hop
    np.testing.assert_array_equal(np.concatenate(pieces), whole)
    again = enhancer.process(signal)  # negative control: without a reset the state is heard
    assert not np.array_equal(again, whole)


def test_single_hops_take_the_short_path(tiny, monkeypatch):
    enhancer = StreamEnhancer(tiny())
    monkeypatch.delattr(Stft, "analyse")
    assert enhancer.process(noise(enhancer.hop)).shape == (enhancer.hop,)
    with pytest.raises(AttributeError, match="analyse"):  # negative control: blocks do not
        enhancer.process(noise(2 * enhancer.hop))


def test_a_hop_leaves_its_input_and_earlier_outputs_alone(tiny):
    enhancer = StreamEnhancer(tiny("identity"))
    signal = noise(enhancer.hop * 3)
    kept = signal.copy()
    first, second, third = (enhancer.process(hop) for hop in signal.reshape(3, -1))
    np.testing.assert_array_equal(signal, kept)
    np.testing.assert_allclose(np.concatenate((second, third)), signal[: -enhancer.hop], atol=1e-6)
    assert np.abs(first).max() < 1e-6


def test_enhance_starts_afresh_each_time(tiny):
    enhancer = StreamEnhancer(tiny())
    np.testing.assert_array_equal(enhancer.enhance(noise(5000)), enhancer.enhance(noise(5000)))
