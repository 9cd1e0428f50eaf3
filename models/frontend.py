"""The signal processing around a graph: window, FFT, features, mask and overlap-add, or plain chunks of samples.

A `Frontend` is a value. It is saved with every checkpoint and every .tflite, and the device-side agent rebuilds the
same arithmetic from it. The torch form here works on whole signals, for training; streaming one hop at a time gives
the same samples because both frame the signal alike.

    kind stft   frame t covers x[t*hop + hop - window : t*hop + hop], zeros before the first sample
                X[t] = rfft(w * frame t)                      analysis, `bins` = fft / 2 + 1
                features[t] = (|X[t]|² + eps)^(compression/2)        magnitude
                              log(1 + |X[t]|)                        log1p
                              Re X[t], Im X[t] of every microphone   complex
                Y[t] = G[t] * X_ref[t]          G: a real gain (mask magnitude) or a complex one (mask complex)
                y    = overlap-add of  w * irfft(Y[t])        w² overlaps to one (square-root Hann, window = 2 hop)
    kind wave   features[t] = x[t*hop : t*hop + hop], and the graph's output is that much of y

The enhanced sample of input sample n leaves the stream `delay_samples` later; one more hop passes while the first
sample of a hop waits for its frame to fill, hence `algorithmic_latency_samples` = delay + hop.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field, model_validator

from earshot.core.config import Config

if TYPE_CHECKING:
    from torch import Tensor

FEATURE_EPSILON = 1e-10  # on |X|²: -100 dB, below 16-bit quantisation noise
JUDGED_SECONDS = 0.016  # hop of the spectra on which losses judge what has none of its own


@dataclass(frozen=True, eq=False)
class Analysed:
    """Whole signals as a network sees them.

    Attributes:
        sequence: features float32 `[batch, inputs, frames, bins]`.
        spectrum: of the reference microphone, complex64 `[batch, frames, bins]`; None for kind `wave`.
        samples: length of the signals.
    """

    sequence: Tensor
    spectrum: Tensor | None
    samples: int


class Frontend(Config):
    """Short-time Fourier frontend with a mask, or chunks of samples.

    Attributes:
        kind: `stft`, or `wave` for networks that work on samples.
        rate: sample rate in Hz.
        window: frame length in samples; of a `wave` frontend always its hop.
        hop: samples between frames.
        fft: FFT length in samples, at least `window` (frames are zero-padded at the end); of a `wave` frontend its hop.
        window_kind: `sqrt_hann`, on analysis and synthesis.
        compression: exponent on magnitudes, features = |X|^compression; unused by other features.
        mask: what the graph's output is: `magnitude` = a real gain for every bin, `complex` = real and imaginary part.
        features: what the graph's input is.
        channels: microphones; the first is the one whose sound is enhanced.
    """

    kind: Literal["stft", "wave"] = "stft"
    rate: int = 16000
    window: int = 512
    hop: int = 256
    fft: int = 512
    window_kind: Literal["sqrt_hann"] = "sqrt_hann"
    compression: float = 0.3
    mask: Literal["magnitude", "complex"] = "magnitude"
    features: Literal["magnitude", "log1p", "complex"] = "magnitude"
    channels: int = Field(default=1, ge=1, le=16)

    @model_validator(mode="before")
    @classmethod
    def _whole_chunks(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and value.get("kind") == "wave" and "hop" in value:
            return {"window": value["hop"], "fft": value["hop"], "compression": 1.0, **value}
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Frontend:
        if self.rate <= 0 or self.hop <= 0:
            raise ValueError("rate and hop must be positive")
        if not 0 < self.compression <= 1:
            raise ValueError("compression must be in (0, 1]")
        if self.kind == "wave":
            if not self.window == self.fft == self.hop:
                raise ValueError("a wave frontend has chunks only: leave out window and fft, they equal hop")
            if (self.features, self.mask) != ("magnitude", "magnitude"):
                raise ValueError("a wave frontend has samples in and out: leave out features and mask")
            return self
        if self.window != 2 * self.hop:
            raise ValueError(f"a sqrt_hann window needs window = 2 * hop, got {self.window} and {self.hop}")
        if self.fft < self.window:
            raise ValueError(f"fft ({self.fft}) must be at least window ({self.window})")
        if self.channels > 1 and self.features != "complex":
            raise ValueError("several microphones differ in phase: set features: complex")
        return self

    @property
    def bins(self) -> int:
        """Width of a frame: frequency bins, or samples of a chunk."""
        return self.hop if self.kind == "wave" else self.fft // 2 + 1

    @property
    def inputs(self) -> int:
        """Channels of the graph's input."""
        return self.channels * (2 if self.features == "complex" else 1)

    @property
    def outputs(self) -> int:
        """Channels of the graph's output."""
        return 2 if self.mask == "complex" else 1

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

    @property
    def judged(self) -> Frontend:
        """The frontend whose spectra losses compare: its own, or for a `wave` frontend a usual one of its rate."""
        if self.kind == "stft":
            return self
        hop = max(8, 2 * round(JUDGED_SECONDS * self.rate / 2))
        return Frontend(rate=self.rate, window=2 * hop, hop=hop, fft=2 * hop)

    def window_array(self) -> np.ndarray:
        """The periodic square-root Hann window, float32 `[window]`."""
        phase = 2 * np.pi * np.arange(self.window) / self.window
        return np.sqrt(0.5 - 0.5 * np.cos(phase)).astype(np.float32)

    def frames(self, samples: int) -> int:
        """Frames that cover a signal of `samples`, the flush of the last hop included."""
        return -(-(samples + self.delay_samples) // self.hop)

    def analyse(self, noisy: Tensor) -> Analysed:
        """What a network sees of whole signals, float32 `[batch, samples]` or `[batch, channels, samples]`."""
        import torch

        if noisy.dim() == 2:
            noisy = noisy.unsqueeze(1)
        if noisy.shape[1] != self.channels:
            raise ValueError(f"sound of {noisy.shape[1]} channels for a frontend of {self.channels} microphones")
        samples = noisy.shape[-1]
        if self.kind == "wave":
            padded = torch.nn.functional.pad(noisy, (0, self.frames(samples) * self.hop - samples))
            return Analysed(padded.unflatten(-1, (-1, self.hop)), None, samples)
        spectra = self.spectrum(noisy.flatten(0, 1)).unflatten(0, noisy.shape[:2])
        reference = spectra[:, 0]
        if self.features == "complex":
            parts = torch.view_as_real(spectra)  # [batch, channels, frames, bins, 2]
            return Analysed(parts.permute(0, 1, 4, 2, 3).flatten(1, 2), reference, samples)
        power = reference.real.square() + reference.imag.square() + FEATURE_EPSILON
        if self.features == "log1p":
            return Analysed(power.sqrt().log1p().unsqueeze(1), reference, samples)
        return Analysed(power.pow(self.compression / 2).unsqueeze(1), reference, samples)

    def enhanced_spectrum(self, analysed: Analysed, output: Tensor) -> Tensor:
        """The estimate that losses compare, complex64 `[batch, frames, bins]` of the `judged` frontend.

        Args:
            analysed: the noisy signals.
            output: what the graph made of them, `[batch, outputs, frames, bins]`.
        """
        if analysed.spectrum is None:
            return self.judged.spectrum(self.synthesise(analysed, output))
        return self._masked(analysed.spectrum, output)

    def synthesise(self, analysed: Analysed, output: Tensor) -> Tensor:
        """Enhanced signals float32 `[batch, samples]`, aligned with the analysed ones."""
        if analysed.spectrum is None:
            return output[:, 0].flatten(1)[:, : analysed.samples]
        return self.signal(self._masked(analysed.spectrum, output), analysed.samples)

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

    def _masked(self, spectrum: Tensor, output: Tensor) -> Tensor:
        if self.mask == "magnitude":
            return spectrum * output[:, 0]
        import torch

        return spectrum * torch.complex(output[:, 0], output[:, 1])

    def _window(self, like: Tensor) -> Tensor:
        import torch

        return torch.from_numpy(self.window_array()).to(like.device)
