"""System 4: RT-SENet, a causal encoder-decoder on samples (IEEE SPL 2024, 10.1109/LSP.2024.3388956).

Known: a causal student on samples in three sizes that runs by chunks and is taught by a non-causal network of another
family. Reconstructed: strided convolutions of kernel 8 and stride 4 with gated 1x1 convolutions, a GRU at the
bottleneck, transposed convolutions back, additive skips (the causal form of the DEMUCS encoder-decoder that it is
compared with), and the sizes: S `channels [24, 48, 96]`, M `[40, 80, 160]`, L `[64, 128, 256]`.

    samples ─> [strided convolution, ReLU, gated 1x1] x depth ─> GRU ─> linear
    output <─ [gated 1x1, transposed convolution] x depth <─ + skips <──┘
"""

from __future__ import annotations

import copy
import math

import torch
from pydantic import model_validator
from torch import Tensor, nn
from torch.nn import functional

from earshot.core.config import Config
from earshot.models.frontend import Frontend
from earshot.models.layers import Recurrent
from earshot.models.layers import fold as fold_layers
from earshot.models.module_list import Parts
from earshot.models.streaming import State, StreamingModel, Trace
from earshot.models.wave_layers import ChunkConv, ChunkUpsample, Walk, as_chunks, as_layer, as_signal, columns, fold


class RtSenetParams(Config):
    """Sizes of the network.

    Attributes:
        channels: width after each encoder stage.
        strides: by how much each stage divides the rate; their product divides the hop.
        kernel: of the strided convolutions, at least the stride.
    """

    channels: tuple[int, ...] = (24, 48, 96)
    strides: tuple[int, ...] = (4, 4, 4)
    kernel: int = 8

    @model_validator(mode="after")
    def _consistent(self) -> RtSenetParams:
        if not self.channels or len(self.channels) != len(self.strides) or min(*self.channels, *self.strides) < 1:
            raise ValueError("channels and strides must be positive and equally many")
        if self.kernel < max(self.strides):
            raise ValueError(f"a kernel of {self.kernel} leaves samples out at stride {max(self.strides)}")
        return self


class Gated(nn.Module):
    """1x1 convolution and gate, y = a σ(b), without look-back; two convolutions, so that nothing is sliced."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.value = nn.Conv2d(channels, channels, 1)
        self.gate = nn.Conv2d(channels, channels, 1)

    def forward(self, signal: Tensor) -> Tensor:
        """Whole signals or one chunk."""
        return self.value(signal) * torch.sigmoid(self.gate(signal))


class RtSenet(StreamingModel):
    """RT-SENet: causal encoder-decoder on samples, GRU bottleneck, by chunks (system 4, IEEE SPL 2024)."""

    Params = RtSenetParams
    usual = Frontend(kind="wave", hop=128)

    def __init__(self, frontend: Frontend, params: RtSenetParams) -> None:
        super().__init__(frontend, params)
        if frontend.kind != "wave" or frontend.channels != 1:
            raise ValueError("it works on samples of one microphone: frontend {kind: wave}")
        if frontend.hop % math.prod(params.strides):
            raise ValueError(f"a hop of {frontend.hop} samples is no multiple of strides {params.strides}")
        widths, kernel = params.channels, params.kernel
        self.down: Parts[ChunkConv] = Parts(
            ChunkConv(inputs, width, kernel, stride=stride, activation=nn.ReLU())
            for inputs, width, stride in zip((1, *widths[:-1]), widths, params.strides, strict=True)
        )
        self.into: Parts[Gated] = Parts(Gated(width) for width in widths)
        self.recurrent = Recurrent(widths[-1], widths[-1])
        self.mixed = nn.Linear(widths[-1], widths[-1])
        self.out: Parts[Gated] = Parts(Gated(width) for width in widths[::-1])
        self.up: Parts[ChunkUpsample] = Parts(
            ChunkUpsample(inputs, width, kernel, stride=stride, norm=width > 1)
            for inputs, width, stride in zip(widths[::-1], (*widths[-2::-1], 1), params.strides[::-1], strict=True)
        )

    def layer_params(self) -> RtSenetParams:
        """The sizes as the layers have them now; the GRU loses as many units as the stage before it has channels."""
        assert isinstance(self.params, RtSenetParams)
        return self.params.model_copy(update={"channels": tuple(down.conv.out_channels for down in self.down)})

    def initial_state(self, batch: int = 1) -> State:
        """Look-backs `[batch, channels, 1, samples]` and the GRU's `[batch, hidden]`."""
        state = {f"down{index}": part.cache(batch) for index, part in enumerate(self.down)}
        state["gru"] = self.recurrent.cache(batch)
        state |= {f"up{index}": part.cache(batch) for index, part in enumerate(self.up)}
        return {name: value for name, value in state.items() if value.numel()}

    def step(self, frame: Tensor, state: State) -> tuple[Tensor, State]:
        """One chunk: samples `[batch, 1, 1, hop]` -> enhanced samples of the same shape."""
        walk, current, skips = Walk(state), frame, []
        for index, (down, gated) in enumerate(zip(self.down, self.into, strict=True)):
            current = gated(walk.through(f"down{index}", down, current))
            skips.append(current)
        hidden, mixed = state["gru"], []
        for moment in columns(current):
            hidden = self.recurrent.step(moment[:, :, 0, 0], hidden)
            mixed.append(self.mixed(hidden)[:, :, None, None])
        walk.following["gru"] = hidden
        current = torch.cat(mixed, 3) if len(mixed) > 1 else mixed[0]
        for index, (up, gated) in enumerate(zip(self.up, self.out, strict=True)):
            current = walk.through(f"up{index}", up, gated(current + skips.pop()))
            if index < len(self.up) - 1:
                current = functional.relu(current)
        return current, walk.following

    def trace(self, sequence: Tensor) -> Trace:
        """Enhanced chunks `[batch, 1, frames, hop]`; the latent is the GRU's mixed output at its own rate."""
        current, skips = as_signal(sequence), []
        for down, gated in zip(self.down, self.into, strict=True):
            current = gated(down(current))
            skips.append(current)
        latent = self.mixed(self.recurrent(current[:, :, 0].transpose(1, 2)))
        current, layers = latent.transpose(1, 2)[:, :, None], list(skips)
        for index, (up, gated) in enumerate(zip(self.up, self.out, strict=True)):
            current = up(gated(current + skips.pop()))
            if index < len(self.up) - 1:
                current = functional.relu(current)
                layers.append(current)
        enhanced = as_chunks(current, self.frontend.hop)
        return Trace(enhanced, latent, tuple(as_layer(layer) for layer in layers))

    def prepare_for_export(self) -> RtSenet:
        """A copy in eval mode with every BatchNorm folded."""
        folded = copy.deepcopy(self).eval()
        fold(folded)
        fold_layers(folded)
        return folded
