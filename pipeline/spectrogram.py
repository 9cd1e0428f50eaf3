"""Spectrograms as pictures of a few kilobytes."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from earshot.pipeline.data.base import Audio

COLUMNS, ROWS = 480, 128
WINDOW_SECONDS = 0.032
FLOOR = 1e-12  # power of -120 dB: digital silence has a level too
SHADES = 64
# matplotlib's "magma" (van der Walt and Smith, CC0) at nine places: even steps of level look like even steps.
MAGMA = ("000004", "1d1147", "51127c", "822681", "b63679", "e65164", "fb8861", "fec287", "fcfdbf")


def spectrogram(sound: Audio, rate: int) -> np.ndarray:
    """Levels over time and frequency.

    Args:
        sound: float `[samples]`, full scale ±1.
        rate: Hz.

    Returns:
        float64 dB `[ROWS, columns]`, a full-scale sine is 0; row 0 is the lowest band, column 0 the beginning. At most
        `COLUMNS` columns of Hann windows of about 32 ms; a band has the level of its loudest bin, 0 Hz is left out.
    """
    bins = max(1, round(WINDOW_SECONDS * rate / (2 * ROWS)))
    size = 2 * ROWS * bins
    hop = max(size // 4, -(-len(sound) // COLUMNS))
    padded = np.pad(sound.astype(np.float64), (size // 2, size // 2))  # column k stands for the time k * hop
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[:-1:hop][:COLUMNS]
    window = np.hanning(size + 1)[:-1]
    amplitude = np.abs(np.fft.rfft(frames * window)) / (window.sum() / 2)
    power = (amplitude[:, 1:] ** 2).reshape(len(frames), ROWS, bins).max(2)
    return 10 * np.log10(np.maximum(power.T, FLOOR))


def picture(levels: np.ndarray, low: float, high: float) -> bytes:
    """A PNG of levels `[rows, columns]` in dB, the first row below; `low` and less is dark, `high` and more bright."""
    from PIL import Image

    share = np.clip((levels[::-1] - low) / (high - low), 0, 1)
    image = Image.fromarray(np.round(share * (SHADES - 1)).astype(np.uint8)).convert("P")
    image.putpalette(palette().tobytes())
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return file.getvalue()


def palette() -> np.ndarray:
    """Red, green and blue of every shade, uint8 `[SHADES, 3]`."""
    anchors = np.array([[int(colour[at : at + 2], 16) for at in (0, 2, 4)] for colour in MAGMA])
    places, wanted = np.linspace(0, 1, len(anchors)), np.linspace(0, 1, SHADES)
    return np.stack([np.interp(wanted, places, anchors[:, part]) for part in range(3)], 1).round().astype(np.uint8)
