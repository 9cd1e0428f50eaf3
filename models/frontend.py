"""The signal processing around a graph: framing, window, FFT, feature compression, mask and overlap-add.

A `Frontend` is a value. It is saved with every checkpoint and every .tflite, and the device-side agent rebuilds the
same arithmetic from it. The torch form here works on whole signals, for training; streaming one hop at a time gives
the same samples because both frame the signal alike:

    frame t covers x[t*hop + hop - window : t*hop + hop], zeros before the first sample
    X[t] = rfft(w * frame t)                      analysis, `bins` = fft / 2 + 1
    features[t] = (|X[t]|² + eps)^(compression/2)
    Y[t] = mask[t] * X[t]
    y    = overlap-add of  w * irfft(Y[t])        w² overlaps to one (square-root Hann, window = 2 hop)

The enhanced sample of input sample n leaves the stream `delay_samples` = window - hop later; one more hop passes while
the first sample of a hop waits for its frame to fill, hence `algorithmic_latency_samples` = window.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import model_validator

from earshot.core.config import Config

if TYPE_CHECKING:
    from torch import Tensor

FEATURE_EPSILON = 1e-10  # on |X|²: -100 dB, below 16-bit quantisation noise


class Frontend(Config):
    """Short-time Fourier frontend with a real-valued mask.

    Attributes:
        rate: sample rate in Hz.
        window: frame length in samples.
        hop: samples between frames.
        fft: FFT length in samples, at least `window` (frames are zero-padded at the end).
        window_kind: `sqrt_hann`, on analysis and synthesis.
        compression: exponent on magnitudes, features = |X|^compression.
        mask: what the graph's output is: `magnitude` = a real gain for every bin.
    """

    kind: Literal["stft"] = "stft"
    rate: int = 16000
    window: int = 512
    hop: int = 256
    fft: int = 512
    window_kind: Literal["sqrt_hann"] = "sqrt_hann"
    compression: float = 0.3
    mask: Literal["magnitude"] = "magnitude"

    @model_validator(mode="after")
    def _consistent(self) -> Frontend:
        if self.rate <= 0 or self.hop <= 0:
            raise ValueError("rate and hop must be positive")
        if self.window != 2 * self.hop:
            raise ValueError(f"a sqrt_hann window needs window = 2 * hop, got {self.window} and {self.hop}")
        if self.fft < self.window:
            raise ValueError(f"fft ({self.fft}) must be at least window ({self.window})")
        if not 0 < self.compression <= 1:
            raise ValueError("compression must be in (0, 1]")
        return self

    @property
    def bins(self) -> int:
        """Frequency bins of a frame."""
        return self.fft // 2 + 1

    @property
    def delay_samples(self) -> int:
        """Samples between an input sample and its enhanced form in the output stream (impulse test)."""
        return self.window - self.hop

    @property
    def algorithmic_latency_samples(self) -> int:
        """Worst wait of a sample, compute excluded: the delay plus the hop that must fill first."""
        return self.window

    @property
    def hop_seconds(self) -> float:
        """Audio time of one frame: the deadline of one step."""
        return self.hop / self.rate

    def window_array(self) -> np.ndarray:
        """The periodic square-root Hann window, float32 `[window]`."""
        phase = 2 * np.pi * np.arange(self.window) / self.window
        return np.sqrt(0.5 - 0.5 * np.cos(phase)).astype(np.float32)

    def frames(self, samples: int) -> int:
        """Frames that cover a signal of `samples`, the flush of the last hop included."""
        return -(-(samples + self.delay_samples) // self.hop)

    def spectrum(self, signal: Tensor) -> Tensor:
        """Complex spectra of whole signals.

        Args:
            signal: float32 `[batch, samples]`.

        Returns:
            complex64 `[batch, frames, bins]`.
        """
        import torch

        count = self.frames(signal.shape[-1])
        padding = (self.delay_samples, count * self.hop - signal.shape[-1])
        framed = torch.nn.functional.pad(signal, padding).unfold(-1, self.window, self.hop)
        return torch.fft.rfft(framed * self._window(signal), n=self.fft)

    def features(self, spectrum: Tensor) -> Tensor:
        """Compressed magnitudes, float32 `[batch, 1, frames, bins]`, from complex64 `[batch, frames, bins]`."""
        power = spectrum.real.square() + spectrum.imag.square() + FEATURE_EPSILON
        return power.pow(self.compression / 2).unsqueeze(1)

    def apply_mask(self, spectrum: Tensor, mask: Tensor) -> Tensor:
        """Masked spectra: `[batch, frames, bins]` times `[batch, 1, frames, bins]`."""
        return spectrum * mask.squeeze(1)

    def signal(self, spectrum: Tensor, samples: int) -> Tensor:
        """Overlap-add back to float32 `[batch, samples]`, aligned with the analysed signal."""
        import torch

        framed = torch.fft.irfft(spectrum, n=self.fft)[..., : self.window]
        framed = framed * self._window(framed)
        length = (framed.shape[1] - 1) * self.hop + self.window
        overlapped = torch.nn.functional.fold(
            framed.transpose(1, 2), (1, length), kernel_size=(1, self.window), stride=(1, self.hop)
        )
        return overlapped[:, 0, 0, self.delay_samples : self.delay_samples + samples]

    def _window(self, like: Tensor) -> Tensor:
        import torch

        return torch.from_numpy(self.window_array()).to(like.device)
