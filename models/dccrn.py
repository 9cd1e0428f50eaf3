"""System 9: DCCRN, a deep complex convolution recurrent network with a complex LSTM (Hu et al. 2020, arXiv 2008.00264).

Named by DFKD (arXiv 2502.04711) as one of the networks it was shown on. Known: complex convolutions that look one frame
back with stride 2 on frequency, a complex LSTM, transposed complex convolutions with skips, a complex mask.
Reconstructed: plain BatchNorm over real and imaginary parts, tanh on both parts of the mask, and the smaller widths of
the defaults (the paper's: channels 32, 64, 128, 256, 256, 256, hidden 128).

    [re, im] ─> [complex convolution, BatchNorm, PReLU] x depth ─> complex LSTM ─> complex linear
    complex mask <─ tanh <─ [transposed complex convolution] x depth <─ + skips <──┘

A complex convolution W = W_r + i W_i is one real convolution of [re, im] with the matrix [[W_r, -W_i], [W_i, W_r]].
"""

from __future__ import annotations

import copy

import torch
from pydantic import model_validator
from torch import Tensor, nn
from torch.nn import functional

from earshot.core.config import Config
from earshot.models.frontend import Frontend
from earshot.models.layers import CausalConv, RecurrentLstm, Upsample
from earshot.models.layers import fold as fold_layers
from earshot.models.module_list import Parts
from earshot.models.streaming import State, StreamingModel, Trace


class DccrnParams(Config):
    """Sizes of the network.

    Attributes:
        channels: complex width after each encoder stage.
        hidden: complex width of the LSTM.
    """

    channels: tuple[int, ...] = (8, 16, 32, 32)
    hidden: int = 48

    @model_validator(mode="after")
    def _positive(self) -> DccrnParams:
        if not self.channels or min(*self.channels, self.hidden) < 1:
            raise ValueError("channels and hidden must be positive")
        return self


class ComplexWeights(nn.Module):
    """Real and imaginary part of a weight, as the one real matrix that multiplies [re, im].

    Args:
        shape: of each part; `rows` and `columns` are its output and input dimension.
    """

    def __init__(self, shape: tuple[int, ...], rows: int, columns: int) -> None:
        super().__init__()
        fan_in = 2 * shape[columns] * torch.Size(shape).numel() // (shape[rows] * shape[columns])
        self.real, self.imag = (nn.Parameter(torch.randn(shape) * fan_in**-0.5) for _ in range(2))
        self.rows, self.columns = rows, columns

    def forward(self) -> Tensor:
        """[[real, -imag], [imag, real]]."""
        upper = torch.cat([self.real, -self.imag], self.columns)
        return torch.cat([upper, torch.cat([self.imag, self.real], self.columns)], self.rows)


class ComplexConv(nn.Module):
    """Complex convolution over two frames with stride 2 on frequency, BatchNorm, PReLU; channels are [re, im]."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weights = ComplexWeights((outputs, inputs, 2, 5), 0, 1)
        self.norm: nn.Module = nn.BatchNorm2d(2 * outputs)
        self.slope = nn.PReLU(2 * outputs)
        self.folded: CausalConv | None = None

    def cache(self, batch: int, bins: int) -> Tensor:
        """The zero state, `[batch, 2 inputs, 1, bins]`."""
        return self.weights.real.new_zeros(batch, 2 * self.weights.real.shape[1], 1, bins)

    def forward(self, sequence: Tensor) -> Tensor:
        """Whole sequences."""
        return self._present(functional.pad(sequence, (0, 0, 1, 0)))

    def step(self, frame: Tensor, cache: Tensor) -> tuple[Tensor, Tensor]:
        """One frame and the one before it."""
        return self._present(torch.cat([cache, frame], 2)), frame

    def fold(self) -> None:
        """One plain convolution, its norm folded."""
        weight = self.weights()
        plain = CausalConv(weight.shape[1], weight.shape[0], 2, 5, stride=2, activation=False)
        plain.conv.weight.data.copy_(weight)
        plain.norm = self.norm
        plain.eval().fold()
        self.folded, self.norm = plain, nn.Identity()

    def _present(self, seen: Tensor) -> Tensor:
        if self.folded is not None:
            return self.slope(self.folded.conv(seen))
        return self.slope(self.norm(functional.conv2d(seen, self.weights(), stride=(1, 2), padding=(0, 2))))


class ComplexUpsample(nn.Module):
    """Transposed complex convolution over two frames: `bins -> 2 bins - 1`; the two frames come side by side."""

    def __init__(self, inputs: int, outputs: int, *, last: bool) -> None:
        super().__init__()
        self.weights = ComplexWeights((2 * inputs, outputs, 1, 5), 1, 0)
        self.norm: nn.Module = nn.Identity() if last else nn.BatchNorm2d(2 * outputs)
        self.slope: nn.Module = nn.Identity() if last else nn.PReLU(2 * outputs)
        self.bias = nn.Parameter(torch.zeros(2 * outputs)) if last else None
        self.folded: Upsample | None = None

    def cache(self, batch: int, bins: int) -> Tensor:
        """The zero state, `[batch, 2 inputs, 1, bins]`."""
        return self.weights.real.new_zeros(batch, self.weights.real.shape[0], 1, bins)

    def forward(self, sequence: Tensor) -> Tensor:
        """Whole sequences."""
        return self._present(sequence, functional.pad(sequence, (0, 0, 1, 0))[:, :, :-1])

    def step(self, frame: Tensor, cache: Tensor) -> tuple[Tensor, Tensor]:
        """One frame and the one before it."""
        return self._present(frame, cache), frame

    def fold(self) -> None:
        """One plain transposed convolution, its norm folded."""
        weight = self.weights()
        plain = Upsample(weight.shape[0], weight.shape[1], 4, norm=self.bias is None)
        plain.conv = nn.ConvTranspose2d(
            weight.shape[0], weight.shape[1], (1, 5), stride=(1, 2), bias=self.bias is not None
        )
        plain.conv.weight.data.copy_(weight)
        if self.bias is None:
            plain.norm = self.norm
        else:
            plain.conv.bias = self.bias
        plain.eval().fold()
        self.folded, self.norm = plain, nn.Identity()

    def _present(self, now: Tensor, before: Tensor) -> Tensor:
        (real, imag), (past_real, past_imag) = now.chunk(2, 1), before.chunk(2, 1)
        both = torch.cat([real, past_real, imag, past_imag], 1)
        if self.folded is not None:
            return self.slope(self.folded.conv(both)[..., 2:-2])
        raised = functional.conv_transpose2d(both, self.weights(), self.bias, stride=(1, 2))[..., 2:-2]
        return self.slope(self.norm(raised))


class Dccrn(StreamingModel):
    """DCCRN: complex convolutions and a complex LSTM, causal (system 9, arXiv 2008.00264)."""

    Params = DccrnParams
    usual = Frontend(features="complex", mask="complex")

    def __init__(self, frontend: Frontend, params: DccrnParams) -> None:
        super().__init__(frontend, params)
        if (frontend.kind, frontend.inputs, frontend.outputs) != ("stft", 2, 2):
            raise ValueError(
                "it works on complex spectra of one microphone: frontend {features: complex, mask: complex}"
            )
        self.bins = [frontend.bins]
        for _ in params.channels:
            if (self.bins[-1] - 1) % 2:
                raise ValueError(f"{frontend.bins} bins cannot be halved {len(params.channels)} times")
            self.bins.append((self.bins[-1] - 1) // 2 + 1)
        widths = params.channels
        pairs = list(zip((1, *widths[:-1]), widths, strict=True))
        self.down: Parts[ComplexConv] = Parts(ComplexConv(inputs, outputs) for inputs, outputs in pairs)
        flat = widths[-1] * self.bins[-1]
        self.real, self.imag = (RecurrentLstm(flat, params.hidden) for _ in range(2))
        self.back: Parts[nn.Linear] = Parts(nn.Linear(params.hidden, flat) for _ in range(2))
        self.up: Parts[ComplexUpsample] = Parts(
            ComplexUpsample(outputs, inputs, last=index == len(pairs) - 1)
            for index, (inputs, outputs) in enumerate(reversed(pairs))
        )

    def initial_state(self, batch: int = 1) -> State:
        """Look-backs of one frame, and output and cell of either LSTM on either part, `[batch, hidden]`."""
        state = {f"down{index}": down.cache(batch, self.bins[index]) for index, down in enumerate(self.down)}
        for lstm in ("real", "imag"):
            for part in ("real", "imag"):
                out, cell = self.real.cache(batch)
                state |= {f"{lstm}_{part}_out": out, f"{lstm}_{part}_cell": cell}
        return state | {f"up{index}": up.cache(batch, self.bins[-1 - index]) for index, up in enumerate(self.up)}

    def step(self, frame: Tensor, state: State) -> tuple[Tensor, State]:
        """One frame: features `[batch, 2, 1, bins]` -> complex mask `[batch, 2, 1, bins]`."""
        following: State = {}
        current, skips = frame, []
        for index, down in enumerate(self.down):
            current, following[f"down{index}"] = down.step(current, state[f"down{index}"])
            skips.append(current)
        parts = [part.flatten(1) for part in current.chunk(2, 1)]
        outs = {}
        for name, lstm in (("real", self.real), ("imag", self.imag)):
            for kind, part in zip(("real", "imag"), parts, strict=True):
                key = f"{name}_{kind}"
                outs[key], cell = lstm.step(part, state[f"{key}_out"], state[f"{key}_cell"])
                following |= {f"{key}_out": outs[key], f"{key}_cell": cell}
        latent = self._latent(outs["real_real"], outs["imag_imag"], outs["real_imag"], outs["imag_real"])
        current = self._expanded(*latent)
        for index, up in enumerate(self.up):
            current, following[f"up{index}"] = up.step(current + skips[-1 - index], state[f"up{index}"])
        return torch.tanh(current), following

    def trace(self, sequence: Tensor) -> Trace:
        """Complex masks `[batch, 2, frames, bins]`; the latent is the complex LSTM's output, both parts."""
        current, skips = sequence, []
        for down in self.down:
            current = down(current)
            skips.append(current)
        real, imag = (part.transpose(1, 2).flatten(2) for part in current.chunk(2, 1))
        latent = self._latent(self.real(real), self.imag(imag), self.real(imag), self.imag(real))
        frames = sequence.shape[2]
        each = self._expanded(*(part.flatten(0, 1) for part in latent))
        current = each.squeeze(2).unflatten(0, (-1, frames)).transpose(1, 2)
        layers = list(skips)
        for index, up in enumerate(self.up):
            current = up(current + skips[-1 - index])
            if index < len(self.up) - 1:
                layers.append(current)
        return Trace(torch.tanh(current), torch.cat(latent, -1), tuple(layers))

    def prepare_for_export(self) -> Dccrn:
        """A copy in eval mode: plain convolutions with their norms folded, LSTMs gate by gate."""
        folded = copy.deepcopy(self).eval()
        fold_layers(folded)
        for part in [*folded.down, *folded.up]:
            part.fold()
        return folded

    def _latent(self, rr: Tensor, ii: Tensor, ri: Tensor, ir: Tensor) -> tuple[Tensor, Tensor]:
        """The complex LSTM's rule: (LSTM_r(x_r) - LSTM_i(x_i)) + i (LSTM_r(x_i) + LSTM_i(x_r))."""
        return rr - ii, ri + ir

    def _expanded(self, real: Tensor, imag: Tensor) -> Tensor:
        """Back to `[batch, 2 channels, 1, bins]` by a complex linear layer."""
        over_real, over_imag = self.back
        parts = over_real(real) - over_imag(imag), over_real(imag) + over_imag(real)
        shaped = [part.unflatten(-1, (-1, self.bins[-1])) for part in parts]
        return torch.cat(shaped, 1).unsqueeze(2)
