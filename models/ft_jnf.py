"""System 3: FT-JNF, a joint spatial and spectral filter for one to five microphones (arXiv 2507.19208).

Known (backbone code): real and imaginary parts of M microphones in; an LSTM of 256 over frequency, in both directions;
an LSTM of 128 over time; linear to 2 and tanh: a compressed complex mask, decompressed by

    M = -(1/C) ln((K - K m) / (K + K m)),   K = C = 1,   which is 2 artanh(m)

and applied to the reference microphone. STFT 512/256, square-root Hann, 16 kHz. Computed: with M = 5, 1,206,786
parameters with both LSTMs bidirectional and 877,826 with a causal LSTM over time; sizes 128/64 are 25.6 % of the
former, 48/24 3.9 %.

    [2M, frames, bins] ─> LSTM over bins, frame by frame ─> LSTM over frames, bin by bin ─> linear ─> tanh ─> 2 artanh
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from pydantic import Field
from torch import Tensor, nn

from earshot.core.config import Config
from earshot.models.frontend import Frontend
from earshot.models.layers import RecurrentLstm, fold
from earshot.models.streaming import State, StreamingModel, Trace

_LIMIT = 1 - 1e-4  # of the compressed mask: 2 artanh stays below 10


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

    def initial_state(self, batch: int = 1) -> State:
        """Output and cell of the LSTM over time for every bin, `[batch, 1, bins, hidden]` as channels first."""
        bins, width = self.frontend.bins, self.over_frames.hidden
        zeros = self.to_mask.weight.new_zeros(batch, width, 1, bins)
        return {"out": zeros, "cell": zeros.clone()}

    def step(self, frame: Tensor, state: State) -> tuple[Tensor, State]:
        """One frame: features `[batch, 2M, 1, bins]` -> complex mask `[batch, 2, 1, bins]`."""
        batch, _, _, bins = frame.shape
        seen = self.over_bins(frame[:, :, 0].transpose(1, 2))[0]
        held = [state[name][:, :, 0].transpose(1, 2).reshape(batch * bins, -1) for name in ("out", "cell")]
        out, cell = self.over_frames.step(seen.reshape(batch * bins, -1), *held)
        mask = decompressed(torch.tanh(self.to_mask(out))).reshape(batch, bins, 2).transpose(1, 2)[:, :, None]
        following = [value.reshape(batch, bins, -1).transpose(1, 2)[:, :, None] for value in (out, cell)]
        return mask, dict(zip(("out", "cell"), following, strict=True))

    def trace(self, sequence: Tensor) -> Trace:
        """Complex masks `[batch, 2, frames, bins]`; the latent is the time LSTM's output averaged over bins."""
        return _trace(self, sequence, self.over_frames)

    def prepare_for_export(self) -> FtJnf:
        """A copy in eval mode with the time LSTM's weights gate by gate."""
        folded = copy.deepcopy(self).eval()
        fold(folded)
        return folded


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
    mask = decompressed(torch.tanh(model.to_mask(held)))
    layers = (seen.permute(0, 3, 1, 2), held.permute(0, 3, 2, 1))
    return Trace(mask.permute(0, 3, 2, 1), held.mean(1), layers)


def decompressed(mask: Tensor) -> Tensor:
    """M = -ln((1 - m) / (1 + m)) of a compressed mask in (-1, 1)."""
    held = mask.clamp(-_LIMIT, _LIMIT)
    return torch.log((1 + held) / (1 - held))


def _check(frontend: Frontend) -> None:
    if (frontend.kind, frontend.features, frontend.mask) != ("stft", "complex", "complex"):
        raise ValueError("it filters complex spectra: frontend {features: complex, mask: complex, channels: 1 to 5}")
    if frontend.channels > 5:
        raise ValueError(f"it takes one to five microphones, not {frontend.channels}")
