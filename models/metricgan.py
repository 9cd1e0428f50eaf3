"""System 6: the MetricGAN generator, two LSTM layers and a learnable sigmoid (MetricGAN-OKD, ICML 2023).

Source: the authors' code (known). Two LSTM layers of 200 (bidirectional; one direction for the causal form), fully
connected 300, LeakyReLU 0.3, fully connected 257, learnable sigmoid 1.2 σ(s x), mask >= 0.05 on log1p magnitudes, noisy
phase, 512-point FFT at 16 kHz. Computed: 1,895,514 parameters, 826,714 causal.

    log(1 + |X|) ─> LSTM ─> LSTM ─> linear ─> LeakyReLU ─> linear ─> 1.2 σ(s x) ─> max(·, 0.05) ─> mask
"""

from __future__ import annotations

import copy

import torch
from pydantic import Field
from torch import Tensor, nn

from earshot.core.config import Config
from earshot.models.frontend import Frontend
from earshot.models.layers import LeakyRelu, RecurrentLstm, fold
from earshot.models.streaming import State, StreamingModel, Trace

_SLOPE, _TOP = 0.3, 1.2


class MetricGanParams(Config):
    """Sizes of the generator.

    Attributes:
        hidden: width of each LSTM layer and direction.
        wide: width of the fully connected layer between LSTM and mask.
        floor: smallest gain.
    """

    hidden: int = Field(default=200, ge=1)
    wide: int = Field(default=300, ge=1)
    floor: float = Field(default=0.05, ge=0, lt=1)


class MetricGan(StreamingModel):
    """MetricGAN generator, causal: LSTM in one direction, learnable sigmoid (system 6, ICML 2023)."""

    Params = MetricGanParams
    usual = Frontend(features="log1p")

    def __init__(self, frontend: Frontend, params: MetricGanParams) -> None:
        super().__init__(frontend, params)
        _check(frontend)
        self.first = RecurrentLstm(frontend.bins, params.hidden)
        self.second = RecurrentLstm(params.hidden, params.hidden)
        self.head = _Head(params.hidden, params.wide, frontend.bins, params.floor)

    def initial_state(self, batch: int = 1) -> State:
        """Outputs and cells of both layers, `[batch, hidden]` each."""
        names = ("first", "second")
        pairs = zip(names, (self.first.cache(batch), self.second.cache(batch)), strict=True)
        return {
            f"{name}_{kind}": value for name, pair in pairs for kind, value in zip(("out", "cell"), pair, strict=True)
        }

    def step(self, frame: Tensor, state: State) -> tuple[Tensor, State]:
        """One frame: features `[batch, 1, 1, bins]` -> mask `[batch, 1, 1, bins]`."""
        first = self.first.step(frame.flatten(1), state["first_out"], state["first_cell"])
        second = self.second.step(first[0], state["second_out"], state["second_cell"])
        mask = self.head(second[0])[:, None, None]
        names = ("first_out", "first_cell", "second_out", "second_cell")
        return mask, dict(zip(names, (*first, *second), strict=True))

    def fixed_layers(self) -> tuple[nn.Module, ...]:
        """The layer onto bins."""
        return (self.head.gains,)

    def layer_params(self) -> MetricGanParams:
        """The sizes as the layers have them now; both LSTMs lose equally many units."""
        assert isinstance(self.params, MetricGanParams)
        sizes = {"hidden": self.second.hidden, "wide": self.head.wide.out_features}
        return self.params.model_copy(update=sizes)

    def trace(self, sequence: Tensor) -> Trace:
        """Masks `[batch, 1, frames, bins]`, the second LSTM's output as latent, both LSTMs as layers."""
        first = self.first(sequence[:, 0])
        second = self.second(first)
        return _trace(self.head(second), first, second)

    def prepare_for_export(self) -> MetricGan:
        """A copy in eval mode with the LSTMs' weights gate by gate, and the sigmoid's slopes in the layer before it."""
        folded = copy.deepcopy(self).eval()
        fold(folded)
        folded.head.fold()
        return folded


class MetricGanOffline(StreamingModel):
    """MetricGAN generator as published, LSTM in both directions: a teacher (system 6, ICML 2023)."""

    Params = MetricGanParams
    usual = Frontend(features="log1p")
    causal = False

    def __init__(self, frontend: Frontend, params: MetricGanParams) -> None:
        super().__init__(frontend, params)
        _check(frontend)
        self.first = nn.LSTM(frontend.bins, params.hidden, batch_first=True, bidirectional=True)
        self.second = nn.LSTM(2 * params.hidden, params.hidden, batch_first=True, bidirectional=True)
        self.head = _Head(2 * params.hidden, params.wide, frontend.bins, params.floor)

    def trace(self, sequence: Tensor) -> Trace:
        """Masks `[batch, 1, frames, bins]`, the second LSTM's output as latent, both LSTMs as layers."""
        first = self.first(sequence[:, 0])[0]
        second = self.second(first)[0]
        return _trace(self.head(second), first, second)


class _Head(nn.Module):
    """From the LSTM to gains."""

    def __init__(self, inputs: int, wide: int, bins: int, floor: float) -> None:
        super().__init__()
        self.wide = nn.Linear(inputs, wide)
        self.gains = nn.Linear(wide, bins)
        self.leaky = LeakyRelu(_SLOPE)
        self.slope = nn.Parameter(torch.ones(bins))
        self.floor = floor

    @torch.no_grad()
    def fold(self) -> None:
        """Puts the slopes into the weights; a factor of one leaves no operator in a graph."""
        self.gains.weight.mul_(self.slope.unsqueeze(1))
        self.gains.bias.mul_(self.slope)
        self.slope.fill_(1)

    def forward(self, hidden: Tensor) -> Tensor:
        steep = self.slope * self.gains(self.leaky(self.wide(hidden)))
        return torch.clamp_min(_TOP * torch.sigmoid(steep), self.floor)


def _trace(mask: Tensor, first: Tensor, second: Tensor) -> Trace:
    layers = tuple(layer.transpose(1, 2).unsqueeze(-1) for layer in (first, second))
    return Trace(mask.unsqueeze(1), second, layers)


def _check(frontend: Frontend) -> None:
    if frontend.kind != "stft" or frontend.inputs != 1 or frontend.outputs != 1:
        raise ValueError("it works on one channel of magnitudes: frontend {kind: stft, features: log1p}")
