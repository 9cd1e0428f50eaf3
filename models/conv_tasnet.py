"""System 9: causal Conv-TasNet with cumulative layer norm (Luo & Mesgarani 2019, arXiv 1809.07454).

Named by DFKD (arXiv 2502.04711) as one of the networks it was shown on. Known: a learned basis in place of the STFT, a
stack of dilated depthwise-separable blocks that estimates a mask on it, cumulative layer norm in the causal form.
Reconstructed for streaming on small devices: a basis of kernel 64 and stride 32, and the widths of the defaults (the
paper's at 8 kHz: basis 512, bottleneck 128, inner 512, kernel 3, 8 blocks x 3, kernel 16, stride 8).

    samples ─> basis ─> norm, 1x1 ─> [1x1, PReLU, norm, dilated depthwise, PReLU, norm, 1x1, + input] x blocks
    output <─ inverse basis <─ basis * σ(1x1(PReLU(sum of the blocks' skips)))
"""

from __future__ import annotations

import copy

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from earshot.core.config import Config
from earshot.models.frontend import Frontend
from earshot.models.module_list import Parts
from earshot.models.moments import RunningNorm
from earshot.models.streaming import State, StreamingModel, Trace
from earshot.models.wave_layers import ChunkConv, ChunkUpsample, Walk, as_chunks, as_layer, as_signal, columns


class ConvTasnetParams(Config):
    """Sizes of the network.

    Attributes:
        basis: width of the learned basis (N).
        kernel, stride: of the basis in samples (L and L / 2); the stride divides the hop.
        bottleneck: width between blocks (B).
        inner: width inside blocks (H).
        span: kernel of the depthwise convolutions (P).
        blocks: blocks of one stack, dilations 1, 2, 4... (X).
        stacks: how often the stack repeats (R).
    """

    basis: int = Field(default=128, ge=1)
    kernel: int = Field(default=64, ge=1)
    stride: int = Field(default=32, ge=1)
    bottleneck: int = Field(default=48, ge=1)
    inner: int = Field(default=96, ge=1)
    span: int = Field(default=3, ge=1)
    blocks: int = Field(default=5, ge=1)
    stacks: int = Field(default=2, ge=1)

    @model_validator(mode="after")
    def _consistent(self) -> ConvTasnetParams:
        if self.kernel < self.stride:
            raise ValueError(f"a kernel of {self.kernel} leaves samples out at stride {self.stride}")
        return self


class Block(nn.Module):
    """One dilated depthwise-separable block with residual and skip output."""

    def __init__(self, params: ConvTasnetParams, dilation: int) -> None:
        super().__init__()
        wide = params.inner
        self.into = nn.Sequential(nn.Conv2d(params.bottleneck, wide, 1), nn.PReLU())
        self.norms: Parts[RunningNorm] = Parts(RunningNorm(wide, "frame", 0.0) for _ in range(2))
        self.depthwise = ChunkConv(wide, wide, params.span, dilation=dilation, groups=wide, norm=False)
        self.slope = nn.PReLU()
        self.residual = nn.Conv2d(wide, params.bottleneck, 1)
        self.skip = nn.Conv2d(wide, params.bottleneck, 1)

    def forward(self, signal: Tensor) -> tuple[Tensor, Tensor]:
        """Whole signals: the next block's input, and the skip."""
        rich = _normed(self.norms.part(0), self.into(signal))
        rich = _normed(self.norms.part(1), self.slope(self.depthwise(rich)))
        return signal + self.residual(rich), self.skip(rich)

    def step(self, name: str, walk: Walk, chunk: Tensor) -> tuple[Tensor, Tensor]:
        """One chunk."""
        rich = _norm_step(self.norms.part(0), f"{name}_first", walk, self.into(chunk))
        rich = self.slope(walk.through(f"{name}_past", self.depthwise, rich))
        rich = _norm_step(self.norms.part(1), f"{name}_second", walk, rich)
        return chunk + self.residual(rich), self.skip(rich)

    def states(self, name: str, batch: int) -> State:
        """Moments of both norms and the depthwise convolution's look-back."""
        first, second = (
            norm.states(f"{name}_{which}", batch) for norm, which in zip(self.norms, ("first", "second"), strict=True)
        )
        return {**first, f"{name}_past": self.depthwise.cache(batch), **second}


class ConvTasnet(StreamingModel):
    """Conv-TasNet, causal with cumulative layer norm, on samples (system 9, arXiv 1809.07454)."""

    Params = ConvTasnetParams
    usual = Frontend(kind="wave", hop=128)

    def __init__(self, frontend: Frontend, params: ConvTasnetParams) -> None:
        super().__init__(frontend, params)
        if frontend.kind != "wave" or frontend.channels != 1:
            raise ValueError("it works on samples of one microphone: frontend {kind: wave}")
        if frontend.hop % params.stride:
            raise ValueError(f"a hop of {frontend.hop} samples is no multiple of stride {params.stride}")
        self.encoder = ChunkConv(1, params.basis, params.kernel, stride=params.stride, norm=False, activation=nn.ReLU())
        self.norm = RunningNorm(params.basis, "frame", 0.0)
        self.into = nn.Conv2d(params.basis, params.bottleneck, 1)
        self.blocks: Parts[Block] = Parts(
            Block(params, 2**power) for _ in range(params.stacks) for power in range(params.blocks)
        )
        self.mask = nn.Sequential(nn.PReLU(), nn.Conv2d(params.bottleneck, params.basis, 1), nn.Sigmoid())
        self.decoder = ChunkUpsample(params.basis, 1, params.kernel, stride=params.stride)

    def layer_params(self) -> ConvTasnetParams:
        """The sizes as the layers have them now; all blocks lose equally many channels."""
        assert isinstance(self.params, ConvTasnetParams)
        block = self.blocks.part(0)
        sizes = {
            "basis": self.encoder.conv.out_channels,
            "bottleneck": block.residual.out_channels,
            "inner": block.residual.in_channels,
        }
        return self.params.model_copy(update=sizes)

    def initial_state(self, batch: int = 1) -> State:
        """Look-backs and moments."""
        state = {"encoder": self.encoder.cache(batch), **self.norm.states("norm", batch)}
        for index, block in enumerate(self.blocks):
            state |= block.states(f"block{index}", batch)
        state["decoder"] = self.decoder.cache(batch)
        return {name: value for name, value in state.items() if value.numel()}

    def wide_states(self) -> frozenset[str]:
        """Counts and moments of the norms."""
        names = set(self.norm.states("norm", batch=1))
        for index, block in enumerate(self.blocks):
            name = f"block{index}"
            names |= block.states(name, batch=1).keys() - {f"{name}_past"}
        return frozenset(names)

    def step(self, frame: Tensor, state: State) -> tuple[Tensor, State]:
        """One chunk: samples `[batch, 1, 1, hop]` -> enhanced samples of the same shape."""
        walk = Walk(state)
        basis = walk.through("encoder", self.encoder, frame)
        current, skips = self.into(_norm_step(self.norm, "norm", walk, basis)), []
        for index, block in enumerate(self.blocks):
            current, skip = block.step(f"block{index}", walk, current)
            skips.append(skip)
        masked = basis * self.mask(sum(skips[1:], skips[0]))
        return walk.through("decoder", self.decoder, masked), walk.following

    def trace(self, sequence: Tensor) -> Trace:
        """Enhanced chunks `[batch, 1, frames, hop]`; the latent is the last block's output at the basis' rate."""
        basis = self.encoder(as_signal(sequence))
        current, skips, layers = self.into(_normed(self.norm, basis)), [], []
        for block in self.blocks:
            current, skip = block(current)
            skips.append(skip)
            layers.append(as_layer(current))
        masked = basis * self.mask(sum(skips[1:], skips[0]))
        output = as_chunks(self.decoder(masked), self.frontend.hop)
        return Trace(output, current[:, :, 0].transpose(1, 2), tuple(layers))

    def prepare_for_export(self) -> ConvTasnet:
        """A copy in eval mode; it has no BatchNorm to fold."""
        return copy.deepcopy(self).eval()


def _normed(norm: RunningNorm, signal: Tensor) -> Tensor:
    return norm(signal.transpose(2, 3)).transpose(2, 3)


def _norm_step(norm: RunningNorm, name: str, walk: Walk, chunk: Tensor) -> Tensor:
    """The norm moves on with every column of the chunk."""
    normed = [norm.step(name, walk, column) for column in columns(chunk)]
    return torch.cat(normed, 3) if len(normed) > 1 else normed[0]
