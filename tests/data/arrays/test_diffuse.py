"""Diffuse noise has the coherence of a spherically isotropic field, and keeps level and spectrum."""

import numpy as np
import pytest
from scipy.signal import csd, welch

from earshot.pipeline.data.arrays.diffuse import coherence, diffuse
from earshot.pipeline.data.arrays.geometry import PRESETS

RATE = 16000


@pytest.fixture(scope="module")
def noise():
    return np.random.default_rng(0).standard_normal((5, 30 * RATE)).astype(np.float32)


def measured(sound, first, second):
    """(frequencies, coherence) by Welch's method."""
    frequencies, cross = csd(sound[first], sound[second], RATE, nperseg=512)
    powers = [welch(sound[index], RATE, nperseg=512)[1] for index in (first, second)]
    return frequencies, cross.real / np.sqrt(powers[0] * powers[1])


@pytest.mark.parametrize(("first", "second", "metres"), [(0, 1, 0.04), (1, 3, 0.08), (1, 2, 0.04 * np.sqrt(2))])
def test_coherence_is_the_sinc_of_distance(noise, first, second, metres):
    frequencies, found = measured(diffuse(noise, PRESETS["compact5"], RATE), first, second)
    x = 2 * np.pi * frequencies[1:] * metres / 343.0
    assert np.abs(found[1:] - np.sin(x) / x).max() < 0.12  # 1,900 windows: standard error 0.023
    assert np.abs(measured(noise, first, second)[1]).max() < 0.12  # negative control: what went in had none


def test_level_and_spectrum_of_every_microphone_stay(noise):
    coloured = np.diff(noise, prepend=0, axis=1)
    shaped = diffuse(coloured, PRESETS["compact5"], RATE)
    assert (shaped.shape, shaped.dtype) == (noise.shape, np.float32)
    for before, after in zip(coloured, shaped, strict=True):
        ratio = welch(after, RATE, nperseg=512)[1][4:] / welch(before, RATE, nperseg=512)[1][4:]
        assert 10 * np.log10(ratio.mean()) == pytest.approx(0, abs=0.2)


def test_far_microphones_get_the_noise_as_it_is(noise):
    """Kilometres apart coherence is nil, so what comes out is what went in: the framing adds nothing of its own."""
    apart = tuple((1000.0 * index, 0.0, 0.0) for index in range(2))
    shaped = diffuse(noise[:2, :4000], apart, RATE)
    # But for the one bin at 0 Hz, where all places agree.
    assert np.abs(np.diff(shaped - noise[:2, :4000], axis=1)).max() < 0.05


def test_coherence_by_hand():
    [matrix] = coherence(((0, 0, 0), (0.343, 0, 0)), np.array([250.0]))  # half a wavelength would be at 500 Hz
    np.testing.assert_allclose(matrix, [[1, 2 / np.pi], [2 / np.pi, 1]])
