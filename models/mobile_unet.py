"""System 2: a full-band mobile UNet at 48 kHz (Drossos, Heikkinen, Tsiaflakis, MMSP 2025, arXiv 2509.05079).

Known: 48 kHz, causal, frame by frame; magnitudes in, mask out; a UNet with look-back frames, convolutions that span
time, recurrent layers on the signal and on the estimated mask, MobileNet-style inverted bottlenecks, causal norms.
Reconstructed: look-back frames as input channels, strides on frequency only, a GRU at the bottleneck and a small one on
the mask, running moments (`moments.RunningNorm`), and all sizes. A window of 8 ms (`{window: 384, hop: 192, fft: 384}`)
makes the variant for hearing aids.

    features and look-back ─> [strided convolution, norm, inverted bottleneck] x depth ─> linear ─> GRU ─> linear
    mask <─ σ(m + linear(GRU(linear(m)))) <─ m <─ [transposed convolution, inverted bottleneck] x depth <─ + skips <──┘
"""

from __future__ import annotations

import copy
import math

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from earshot.core.config import Config
from earshot.models.frontend import Frontend
from earshot.models.layers import CausalConv, Expand, InvertedBottleneck, Recurrent, Squeeze, Upsample, fold
from earshot.models.module_list import Parts
from earshot.models.moments import RunningNorm
from earshot.models.streaming import State, StreamingModel, Trace
from earshot.models.wave_layers import Walk


class MobileUnetParams(Config):
    """Sizes of the network.

    Attributes:
        lookback: past frames of features that enter beside the present one.
        channels: width after each encoder stage.
        strides: by how much each stage divides the frequency resolution (even numbers).
        expansion: how much wider an inverted bottleneck is inside.
        widths: inner width of every inverted bottleneck, encoder then decoder, in place of `expansion`; what pruning
            leaves.
        kernel_time: frames its depthwise convolution spans (look-back only).
        hidden: width of the GRU on the signal.
        mask_hidden: width of the GRU on the mask.
        forget: α of the running moments, 1 / frames.
    """

    lookback: int = Field(default=2, ge=0)
    channels: tuple[int, ...] = (16, 24, 32)
    strides: tuple[int, ...] = (4, 4, 2)
    expansion: int = Field(default=2, ge=1)
    widths: tuple[int, ...] = ()
    kernel_time: int = Field(default=2, ge=1)
    hidden: int = Field(default=96, ge=1)
    mask_hidden: int = Field(default=24, ge=1)
    forget: float = Field(default=0.005, ge=0, lt=1)

    @model_validator(mode="after")
    def _consistent(self) -> MobileUnetParams:
        if not self.channels or min(self.channels) < 1 or len(self.strides) != len(self.channels):
            raise ValueError("channels must be positive, with one stride for each")
        if any(stride < 2 or stride % 2 for stride in self.strides):
            raise ValueError("strides must be even")
        if self.widths and len(self.widths) != 2 * len(self.channels) - 1:
            raise ValueError(f"widths must name all {2 * len(self.channels) - 1} inverted bottlenecks")
        return self


class MobileUnet(StreamingModel):
    """Full-band mobile UNet with look-back frames, two GRUs and running norms (system 2, arXiv 2509.05079)."""

    Params = MobileUnetParams
    usual = Frontend(rate=48000, window=960, hop=480, fft=960)

    def __init__(self, frontend: Frontend, params: MobileUnetParams) -> None:
        super().__init__(frontend, params)
        if (frontend.kind, frontend.inputs, frontend.outputs) != ("stft", 1, 1):
            raise ValueError("it works on one channel of magnitudes: frontend {kind: stft}, one microphone")
        if (frontend.bins - 1) % math.prod(params.strides):
            raise ValueError(
                f"{frontend.bins} bins cannot be divided by strides {params.strides}: "
                f"use an FFT that is a multiple of {2 * math.prod(params.strides)}"
            )
        self.lookback, bins = params.lookback, [frontend.bins]
        for stride in params.strides:
            bins.append((bins[-1] - 1) // stride + 1)
        self.bins, widths = bins, params.channels
        inputs = (1 + params.lookback, *widths[:-1])
        self.down: Parts[CausalConv] = Parts(
            CausalConv(source, width, 1, stride + 1, stride=stride, norm=False)
            for source, width, stride in zip(inputs, widths, params.strides, strict=True)
        )
        self.norms: Parts[RunningNorm] = Parts(RunningNorm(width, "bins", params.forget) for width in widths)
        outer = [*widths, *reversed(widths[:-1])]
        inner = params.widths or tuple(width * params.expansion for width in outer)
        blocks = [InvertedBottleneck(width, wide, params.kernel_time) for width, wide in zip(outer, inner, strict=True)]
        self.encoder: Parts[InvertedBottleneck] = Parts(blocks[: len(widths)])
        self.decoder: Parts[InvertedBottleneck] = Parts(blocks[len(widths) :])
        self.squeeze = Squeeze(widths[-1], bins[-1], params.hidden)
        self.recurrent = Recurrent(params.hidden, params.hidden)
        self.expand = Expand(params.hidden, widths[-1], bins[-1])
        self.up: Parts[Upsample] = Parts(
            Upsample(source, width, stride, norm=False)
            for source, width, stride in zip(widths[::-1], (*widths[-2::-1], 1), params.strides[::-1], strict=True)
        )
        self.mask_in = Squeeze(1, frontend.bins, params.mask_hidden)
        self.mask_recurrent = Recurrent(params.mask_hidden, params.mask_hidden)
        self.mask_out = nn.Linear(params.mask_hidden, frontend.bins)

    def fixed_layers(self) -> tuple[nn.Module, ...]:
        """The layer onto bins."""
        return (self.mask_out,)

    def layer_params(self) -> MobileUnetParams:
        """The sizes as the layers have them now, after pruning."""
        assert isinstance(self.params, MobileUnetParams)
        blocks = [*self.encoder, *self.decoder]
        inner = tuple(block.expand.conv.out_channels for block in blocks)
        usual = tuple(self.params.expansion * block.project.conv.out_channels for block in blocks)
        sizes = {
            "channels": tuple(down.conv.out_channels for down in self.down),
            "widths": () if inner == usual else inner,
            "hidden": self.recurrent.hidden,
            "mask_hidden": self.mask_recurrent.hidden,
        }
        return self.params.model_copy(update=sizes)

    def initial_state(self, batch: int = 1) -> State:
        """Past features, look-backs of the blocks, moments of the norms, both GRUs' states."""
        state: State = {"past": self.mask_out.weight.new_zeros(batch, self.lookback, 1, self.bins[0])}
        for index, (norm, block) in enumerate(zip(self.norms, self.encoder, strict=True)):
            state |= norm.states(f"norm{index}", batch)
            state[f"enc{index}"] = block.cache(batch, self.bins[index + 1])
        state["gru"] = self.recurrent.cache(batch)
        for index, block in enumerate(self.decoder):
            state[f"dec{index}"] = block.cache(batch, self.bins[-2 - index])
        state["mask_gru"] = self.mask_recurrent.cache(batch)
        return {name: value for name, value in state.items() if value.numel()}

    def wide_states(self) -> frozenset[str]:
        """Counts and moments of the norms."""
        return frozenset(name for index, norm in enumerate(self.norms) for name in norm.states(f"norm{index}", batch=1))

    def step(self, frame: Tensor, state: State) -> tuple[Tensor, State]:
        """One frame: features `[batch, 1, 1, bins]` -> mask `[batch, 1, 1, bins]`."""
        walk = Walk(state)
        current = frame
        if self.lookback:
            current = torch.cat([walk.take("past"), frame], 1)
            walk.following["past"] = current[:, 1:]

        def through(name: str, block: InvertedBottleneck, value: Tensor) -> Tensor:
            if name not in state:
                return block(value)
            value, walk.following[name] = block.step(value, state[name])
            return value

        skips = []
        for index, (down, norm, block) in enumerate(zip(self.down, self.norms, self.encoder, strict=True)):
            current = through(f"enc{index}", block, norm.step(f"norm{index}", walk, down(current)))
            skips.append(current)
        hidden = self.recurrent.step(self.squeeze.step(current), state["gru"])
        current = self.expand.step(hidden)
        for index, up in enumerate(self.up):
            current = up(current + skips[-1 - index])
            if index < len(self.decoder):
                current = through(f"dec{index}", self.decoder.part(index), current)
        smooth = self.mask_recurrent.step(self.mask_in.step(current), state["mask_gru"])
        walk.following |= {"gru": hidden, "mask_gru": smooth}
        return torch.sigmoid(current + self.mask_out(smooth)[:, None, None]), walk.following

    def trace(self, sequence: Tensor) -> Trace:
        """Masks `[batch, 1, frames, bins]`; the latent is the signal GRU's output."""
        padded = functional.pad(sequence, (0, 0, self.lookback, 0))
        frames = sequence.shape[2]
        current = torch.cat([padded[:, :, back : back + frames] for back in range(self.lookback + 1)], 1)
        skips = []
        for down, norm, block in zip(self.down, self.norms, self.encoder, strict=True):
            current = block(norm(down(current)))
            skips.append(current)
        latent = self.recurrent(self.squeeze(current))
        current, layers = self.expand(latent), list(skips)
        for index, up in enumerate(self.up):
            current = up(current + skips[-1 - index])
            if index < len(self.decoder):
                current = self.decoder.part(index)(current)
                layers.append(current)
        smooth = self.mask_recurrent(self.mask_in(current))
        return Trace(torch.sigmoid(current + self.mask_out(smooth)[:, None]), latent, tuple(layers))

    def prepare_for_export(self) -> MobileUnet:
        """A copy in eval mode with reordered weights made constants; it has no BatchNorm to fold."""
        folded = copy.deepcopy(self).eval()
        fold(folded)
        return folded
