"""System 3: FT-JNF, a joint spatial and spectral filter for one to five microphones (arXiv 2507.19208).

Known (backbone code): real and imaginary parts of M microphones in; an LSTM of 256 over frequency, in both directions;
an LSTM of 128 over time; linear to 2 and tanh: a compressed complex mask, decompressed by

    M = -(1/C) ln((K - K m) / (K + K m)),   K = C = 1,   which is 2 artanh(m)

and applied to the reference microphone. What these constants compress they decompress: the linear layer gives M itself
here (its weights are twice the published ones), out of operators that integer devices have. STFT 512/256, square-root
Hann, 16 kHz. Computed: with M = 5, 1,206,786 parameters with both LSTMs bidirectional and 877,826 with a causal LSTM
over time; sizes 128/64 are 25.6 % of the former, 48/24 3.9 %.

    [2M, frames, bins] ─> LSTM over bins, frame by frame ─> LSTM over frames, bin by bin ─> linear ─> M
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from pydantic import Field
from torch import Tensor, nn

from earshot.core.config import Config
from earshot.models.frontend import Frontend
from earshot.models.layers import RecurrentLstm, fold, linear
from earshot.models.streaming import State, StreamingModel, Trace


class FtJnfParams(Config):
    """Sizes of the filter.

    Attributes:
        hidden_frequency: width of the LSTM over frequency, in each direction.
        hidden_time: width of the LSTM over time.
    """

    hidden_frequency: int = Field(default=256, ge=1)
    hidden_time: int = Field(default=128, ge=1)


class FtJnf(StreamingModel):
    """FT-JNF, one to five microphones, causal over time (system 3, arXiv 2507.19208)."""

    Params = FtJnfParams
    usual = Frontend(features="complex", mask="complex", channels=5)

    def __init__(self, frontend: Frontend, params: FtJnfParams) -> None:
        super().__init__(frontend, params)
        _check(frontend)
        self.over_bins = nn.LSTM(frontend.inputs, params.hidden_frequency, batch_first=True, bidirectional=True)
        self.over_frames = RecurrentLstm(2 * params.hidden_frequency, params.hidden_time)
        self.to_mask = nn.Linear(params.hidden_time, 2)
        self.folded: WrittenOut | None = None

    def initial_state(self, batch: int = 1) -> State:
        """Output and cell of the LSTM over time for every bin, `[batch, 1, bins, hidden]` as channels first."""
        bins, width = self.frontend.bins, self.over_frames.hidden
        zeros = self.to_mask.weight.new_zeros(batch, width, 1, bins)
        return {"out": zeros, "cell": zeros.clone()}

    def step(self, frame: Tensor, state: State) -> tuple[Tensor, State]:
        """One frame: features `[batch, 2M, 1, bins]` -> complex mask `[batch, 2, 1, bins]`."""
        batch, _, _, bins = frame.shape
        rows = frame[:, :, 0].transpose(1, 2)
        seen = self.over_bins(rows)[0] if self.folded is None else self.folded(rows)
        held = [state[name][:, :, 0].transpose(1, 2).reshape(batch * bins, -1) for name in ("out", "cell")]
        out, cell = self.over_frames.step(seen.reshape(batch * bins, -1), *held)
        mask = self.to_mask(out).reshape(batch, bins, 2).transpose(1, 2)[:, :, None]
        following = [value.reshape(batch, bins, -1).transpose(1, 2)[:, :, None] for value in (out, cell)]
        return mask, dict(zip(("out", "cell"), following, strict=True))

    def trace(self, sequence: Tensor) -> Trace:
        """Complex masks `[batch, 2, frames, bins]`; the latent is the time LSTM's output averaged over bins."""
        return _trace(self, sequence, self.over_frames)

    def prepare_for_export(self) -> FtJnf:
        """A copy in eval mode with the time LSTM's weights gate by gate, and the LSTM over bins written out."""
        folded = copy.deepcopy(self).eval()
        fold(folded)
        folded.folded = WrittenOut(folded.over_bins)
        return folded


class WrittenOut(nn.Module):
    """An LSTM over a sequence in both directions, step by step, for graphs without loops.

    Step k of one direction and step k of the other are two rows of the same tensors, so that they share all operators
    but their weights: 21 of them a step, where two LSTMs of their own take 32. Gates stand side by side as
    [input, forget, output | cell].

    Args:
        lstm: one layer, `batch_first`, bidirectional.
    """

    def __init__(self, lstm: nn.LSTM) -> None:
        super().__init__()
        self.hidden = lstm.hidden_size

        def gates(name: str) -> Tensor:
            entering, forget, cell, leaving = lstm.get_parameter(name).chunk(4)
            return torch.cat([entering, forget, leaving, cell])

        ends = ("l0", "l0_reverse")
        biases = [gates(f"bias_ih_{end}") + gates(f"bias_hh_{end}") for end in ends]
        self.into = nn.ModuleList(
            linear(gates(f"weight_ih_{end}"), bias) for end, bias in zip(ends, biases, strict=True)
        )
        self.again = nn.ModuleList(linear(gates(f"weight_hh_{end}"), None) for end in ends)

    def forward(self, sequence: Tensor) -> Tensor:
        """`[batch, length, inputs]` -> `[batch, length, 2 hidden]`, as the LSTM's output."""
        batch, length, _ = sequence.shape
        forth, back = (into(sequence.transpose(0, 1).flatten(0, 1)).split(batch) for into in self.into)
        cell: Tensor | None = None
        outputs: list[tuple[Tensor, ...]] = []
        for rows in zip(forth, reversed(back), strict=True):
            past = outputs[-1] if outputs else ()
            heard = [row + again(held) for row, again, held in zip(rows, self.again, past, strict=False)] or rows
            both = torch.cat(tuple(heard))
            entering, forget, leaving = torch.sigmoid(both[:, : -self.hidden]).chunk(3, 1)
            new = entering * torch.tanh(both[:, -self.hidden :])
            cell = new if cell is None else forget * cell + new
            outputs.append((leaving * torch.tanh(cell)).split(batch))
        ahead, behind = zip(*outputs, strict=True)
        joined = torch.cat([torch.cat(ahead), torch.cat(behind[::-1])], 1)
        return joined.unflatten(0, (length, batch)).transpose(0, 1)


class FtJnfOffline(StreamingModel):
    """FT-JNF with both LSTMs in both directions: a teacher (system 3, arXiv 2507.19208)."""

    Params = FtJnfParams
    usual = Frontend(features="complex", mask="complex", channels=5)
    causal = False

    def __init__(self, frontend: Frontend, params: FtJnfParams) -> None:
        super().__init__(frontend, params)
        _check(frontend)
        self.over_bins = nn.LSTM(frontend.inputs, params.hidden_frequency, batch_first=True, bidirectional=True)
        self.over_frames = nn.LSTM(
            2 * params.hidden_frequency, params.hidden_time, batch_first=True, bidirectional=True
        )
        self.to_mask = nn.Linear(2 * params.hidden_time, 2)

    def trace(self, sequence: Tensor) -> Trace:
        """Complex masks `[batch, 2, frames, bins]`; the latent is the time LSTM's output averaged over bins."""
        return _trace(self, sequence, lambda rows: self.over_frames(rows)[0])


def _trace(model: FtJnf | FtJnfOffline, sequence: Tensor, over_frames: Callable[[Tensor], Tensor]) -> Trace:
    batch, inputs, frames, bins = sequence.shape
    rows = sequence.permute(0, 2, 3, 1).reshape(batch * frames, bins, inputs)
    seen = model.over_bins(rows)[0].reshape(batch, frames, bins, -1)
    columns = seen.transpose(1, 2).reshape(batch * bins, frames, -1)
    held = over_frames(columns).reshape(batch, bins, frames, -1)
    mask = model.to_mask(held)
    layers = (seen.permute(0, 3, 1, 2), held.permute(0, 3, 2, 1))
    return Trace(mask.permute(0, 3, 2, 1), held.mean(1), layers)


def _check(frontend: Frontend) -> None:
    if (frontend.kind, frontend.features, frontend.mask) != ("stft", "complex", "complex"):
        raise ValueError("it filters complex spectra: frontend {features: complex, mask: complex, channels: 1 to 5}")
    if frontend.channels > 5:
        raise ValueError(f"it takes one to five microphones, not {frontend.channels}")
