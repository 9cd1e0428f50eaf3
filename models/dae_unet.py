"""System 1: a streaming denoising-autoencoder UNet with linear inverted bottlenecks and a recurrent bottleneck.

Source: Luong, Drossos, Heikkinen, Virtanen 2025 (arXiv 2505.03442). Known: a denoising-autoencoder UNet for low
resources with linear inverted bottlenecks. Reconstructed: the sizes, strides on frequency only, additive skips, the GRU
at the bottleneck, and the linear latent on which distillation compares teacher and student.

    features ─> [strided conv, inverted bottleneck] x depth ─> squeeze ─> GRU ─> latent z (linear) ─> expand
    mask <─ sigmoid <─ [transposed conv, inverted bottleneck] x depth <─ + skips <──────────┘
"""

from __future__ import annotations

import copy
import math
from typing import cast

import torch
from pydantic import model_validator
from torch import Tensor, nn

from earshot.core.config import Config
from earshot.models.frontend import Frontend
from earshot.models.layers import CausalConv, Expand, InvertedBottleneck, Recurrent, Squeeze, Upsample, fold
from earshot.models.streaming import State, StreamingModel, Trace


class DaeUnetParams(Config):
    """Sizes of the network.

    Attributes:
        channels: width after each encoder stage.
        strides: by how much each stage divides the frequency resolution (even numbers). A first stride of 4 turns every
            four bins into channels, which costs a quarter of the work at full resolution and loses nothing.
        expansion: how much wider an inverted bottleneck is inside.
        kernel_time: frames the depthwise convolutions span (look-back only).
        latent: width of the linear latent.
        hidden: width of the recurrent state.
        decoder_blocks: inverted bottlenecks in the decoder too.
        widths: inner width of every inverted bottleneck, encoder then decoder, as pruning leaves them; empty:
            `expansion` times the outer width.
    """

    channels: tuple[int, ...] = (24, 32, 48)
    strides: tuple[int, ...] = (4, 2, 2)
    expansion: int = 2
    kernel_time: int = 2
    latent: int = 96
    hidden: int = 96
    decoder_blocks: bool = True
    widths: tuple[int, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> DaeUnetParams:
        if not self.channels or min(*self.channels, self.expansion, self.kernel_time, self.latent, self.hidden) < 1:
            raise ValueError("channels, expansion, kernel_time, latent and hidden must be positive")
        if len(self.strides) != len(self.channels) or any(stride < 2 or stride % 2 for stride in self.strides):
            raise ValueError("strides must be even, one for every entry of channels")
        blocks = 2 * len(self.channels) - 1 if self.decoder_blocks else len(self.channels)
        if self.widths and len(self.widths) != blocks:
            raise ValueError(f"widths must name all {blocks} inverted bottlenecks, got {len(self.widths)}")
        return self


class DaeUnet(StreamingModel):
    """Denoising-autoencoder UNet, linear inverted bottlenecks, GRU bottleneck (system 1, arXiv 2505.03442)."""

    Params = DaeUnetParams

    def __init__(self, frontend: Frontend, params: DaeUnetParams) -> None:
        super().__init__(frontend, params)
        if (frontend.inputs, frontend.outputs, frontend.kind) != (1, 1, "stft"):
            raise ValueError("it works on one channel of magnitudes: frontend {kind: stft}, one microphone")
        self.bins = [frontend.bins]
        for stride in params.strides:
            if (self.bins[-1] - 1) % stride:
                raise ValueError(
                    f"{frontend.bins} bins cannot be divided by strides {params.strides}: "
                    f"use an FFT that is a multiple of {2 * math.prod(params.strides)}"
                )
            self.bins.append((self.bins[-1] - 1) // stride + 1)
        self.down = nn.ModuleList(
            CausalConv(inputs, outputs, 1, 2 * stride + 1 if index == 0 else stride + 1, stride=stride)
            for index, (inputs, outputs, stride) in enumerate(
                zip((1, *params.channels[:-1]), params.channels, params.strides, strict=True)
            )
        )
        outputs = [*reversed(params.channels[:-1]), 1]
        outer = [*params.channels, *(outputs[:-1] if params.decoder_blocks else [])]
        inner = params.widths or [width * params.expansion for width in outer]
        blocks = [InvertedBottleneck(width, wide, params.kernel_time) for width, wide in zip(outer, inner, strict=True)]
        self.encoder = nn.ModuleList(blocks[: len(params.channels)])
        self.decoder = nn.ModuleList(blocks[len(params.channels) :])
        self.squeeze = Squeeze(params.channels[-1], self.bins[-1], params.latent)
        self.recurrent = Recurrent(params.latent, params.hidden)
        self.to_latent = nn.Linear(params.hidden, params.latent)
        self.expand = Expand(params.latent, params.channels[-1], self.bins[-1])
        self.up = nn.ModuleList(
            Upsample(inputs, width, stride, norm=index < len(params.channels) - 1)
            for index, (inputs, width, stride) in enumerate(
                zip(reversed(params.channels), outputs, reversed(params.strides), strict=True)
            )
        )

    def _stage_blocks(self) -> tuple[list[CausalConv], list[InvertedBottleneck], list[InvertedBottleneck]]:
        """Strided convolutions, encoder blocks and decoder blocks, with the types that a ModuleList forgets."""
        return (
            cast("list[CausalConv]", list(self.down)),
            cast("list[InvertedBottleneck]", list(self.encoder)),
            cast("list[InvertedBottleneck]", list(self.decoder)),
        )

    def layer_params(self) -> DaeUnetParams:
        """The sizes as the layers have them now, after pruning."""
        assert isinstance(self.params, DaeUnetParams)
        strided, encoder, decoder = self._stage_blocks()
        return self.params.model_copy(
            update={
                "channels": tuple(down.conv.out_channels for down in strided),
                "latent": self.to_latent.out_features,
                "hidden": self.to_latent.in_features,
                "widths": tuple(block.expand.conv.out_channels for block in [*encoder, *decoder]),
            }
        )

    def initial_state(self, batch: int = 1) -> State:
        """Zero look-back of every depthwise convolution, `[batch, C, kernel_time - 1, F]`, and the GRU's."""
        _, encoder, decoder = self._stage_blocks()
        state = {}
        for index, block in enumerate(encoder):
            state[f"enc{index}"] = block.cache(batch, self.bins[index + 1])
        state["gru"] = self.recurrent.cache(batch)
        for index, block in enumerate(decoder):
            state[f"dec{index}"] = block.cache(batch, self.bins[-2 - index])
        return {name: value for name, value in state.items() if value.numel()}

    def step(self, frame: Tensor, state: State) -> tuple[Tensor, State]:
        """One frame: features `[batch, 1, 1, bins]` -> mask `[batch, 1, 1, bins]`."""
        strided, encoder, decoder = self._stage_blocks()
        following: State = {}

        def advance(block: InvertedBottleneck, name: str, current: Tensor) -> Tensor:
            if name not in state:
                return block(current)
            current, following[name] = block.step(current, state[name])
            return current

        current, skips = frame, []
        for index, (down, block) in enumerate(zip(strided, encoder, strict=True)):
            current = advance(block, f"enc{index}", down(current))
            skips.append(current)
        hidden = self.recurrent.step(self.squeeze.step(current), state["gru"])
        following["gru"] = hidden
        current = self.expand.step(self.to_latent(hidden))
        for index, up in enumerate(self.up):
            current = up(current + skips[-1 - index])
            if index < len(decoder):
                current = advance(decoder[index], f"dec{index}", current)
        return torch.sigmoid(current), following

    def trace(self, sequence: Tensor) -> Trace:
        """Masks `[batch, 1, frames, bins]`, latents `[batch, frames, latent]`, every stage of encoder and decoder."""
        current, skips = sequence, []
        for down, block in zip(self.down, self.encoder, strict=True):
            current = block(down(current))
            skips.append(current)
        latent = self.to_latent(self.recurrent(self.squeeze(current)))
        current = self.expand(latent)
        layers = list(skips)
        for index, up in enumerate(self.up):
            current = up(current + skips[-1 - index])
            if index < len(self.decoder):
                current = self.decoder[index](current)
            if index < len(self.up) - 1:
                layers.append(current)
        return Trace(torch.sigmoid(current), latent, tuple(layers))

    def prepare_for_export(self) -> DaeUnet:
        """A copy in eval mode with every BatchNorm folded into its convolution."""
        folded = copy.deepcopy(self).eval()
        fold(folded)
        return folded
