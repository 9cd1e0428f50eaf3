"""Spectrograms against scipy's, and their pictures pixel by pixel."""

import io

import numpy as np
import pytest
from PIL import Image
from scipy import signal

from earshot.pipeline.spectrogram import COLUMNS, ROWS, SHADES, palette, picture, spectrogram


@pytest.mark.parametrize("rate", [16000, 48000])
def test_levels_are_those_of_scipy(rate):
    noise = np.random.default_rng(0).normal(0, 0.1, rate).astype(np.float32)
    levels = spectrogram(noise, rate)
    bins = rate // 8000
    size, hop = 2 * ROWS * bins, max(ROWS * bins // 2, -(-rate // COLUMNS))
    padded = np.pad(noise.astype(np.float64), size // 2)
    *_, power = signal.spectrogram(
        padded, rate, window="hann", nperseg=size, noverlap=size - hop, detrend=False, scaling="spectrum", mode="psd"
    )
    # scipy gives the mean power of a sine, half its peak's, and folds all but the two ends of the spectrum.
    power[-1] *= 2
    loudest = (2 * power[1:]).reshape(ROWS, bins, -1).max(1)
    assert levels.shape[0] == ROWS and abs(levels.shape[1] - loudest.shape[1]) <= 1
    both = min(levels.shape[1], loudest.shape[1])
    np.testing.assert_allclose(levels[:, :both], 10 * np.log10(loudest[:, :both]), atol=1e-6)


def test_a_full_scale_sine_is_0_db_in_its_own_row_and_silence_has_a_level():
    rate, tone = 16000, 3000
    sound = np.sin(2 * np.pi * tone * np.arange(rate) / rate).astype(np.float32)
    levels = spectrogram(sound, rate)
    middle = levels[:, levels.shape[1] // 2]
    assert middle.max() == pytest.approx(0, abs=0.01)
    assert abs(int(middle.argmax()) - tone / (rate / 2) * ROWS) <= 1
    assert middle[:40].max() < -60
    assert np.isfinite(spectrogram(np.zeros(100, np.float32), rate)).all()


@pytest.mark.parametrize("samples", [1, 100, 511, 512, 96_000, 1_000_000])
def test_there_are_never_more_columns_than_fit(samples):
    rows, columns = spectrogram(np.zeros(samples, np.float32), 16000).shape
    assert rows == ROWS and 1 <= columns <= COLUMNS


def test_a_picture_has_the_first_row_below_and_the_ends_of_the_scale():
    levels = np.array([[-100.0, -60.0, -20.0], [0.0, -200.0, -60.0]])
    image = Image.open(io.BytesIO(picture(levels, -100, -20)))
    shades = np.asarray(image)
    assert image.format == "PNG" and shades.dtype == np.uint8
    middle = round(0.5 * (SHADES - 1))
    assert shades.tolist() == [[SHADES - 1, 0, middle], [0, middle, SHADES - 1]]
    colours = np.asarray(image.convert("RGB"))
    assert colours[1, 0].tolist() == palette()[0].tolist() and colours[0, 0].tolist() == palette()[-1].tolist()


def test_a_higher_level_is_always_brighter():
    red, green, blue = palette().astype(float).T
    luminance = 0.2126 * (red / 255) ** 2.2 + 0.7152 * (green / 255) ** 2.2 + 0.0722 * (blue / 255) ** 2.2
    assert palette().shape == (SHADES, 3)
    assert (np.diff(luminance) > 0).all()
