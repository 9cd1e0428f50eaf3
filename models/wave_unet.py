"""System 5: a lightweight Wave-U-Net with depthwise-separable blocks and squeeze-and-excitation, for car cabins.

Known: a Wave-U-Net with a depthwise-separable convolution block and squeeze-and-excitation. Reconstructed: the block
(depthwise kernel 15, pointwise, BatchNorm, LeakyReLU, squeeze-and-excitation with reduction 8), strided encoders in
place of decimation, additive skips, and the running mean that makes squeeze-and-excitation causal (`RunningMean`).

    samples ─> [block, strided convolution] x depth ─> block ─> [transposed convolution, + skip, block] x depth
    output <─ samples + 1x1 convolution <────────────────────────────────────────────────────┘
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
from earshot.models.layers import LeakyRelu
from earshot.models.module_list import Parts
from earshot.models.streaming import State, StreamingModel, Trace
from earshot.models.wave_layers import (
    ChunkConv,
    ChunkUpsample,
    RunningMean,
    Walk,
    as_chunks,
    as_layer,
    as_signal,
    fold,
)


class WaveUnetParams(Config):
    """Sizes of the network.

    Attributes:
        channels: width of each encoder stage and of the bottleneck, one more than strides.
        strides: by how much each stage divides the rate; their product divides the hop.
        kernel: of the depthwise convolutions.
        reduction: of squeeze-and-excitation's inner layer.
        inner: width of that layer in every block, encoder, bottleneck, decoder, in place of `reduction`; what pruning
            leaves.
        pace: of the running mean, chunk by chunk.
    """

    channels: tuple[int, ...] = (16, 24, 32, 48)
    strides: tuple[int, ...] = (4, 4, 4)
    kernel: int = 15
    reduction: int = 8
    inner: tuple[int, ...] = ()
    pace: float = 0.05

    @model_validator(mode="after")
    def _consistent(self) -> WaveUnetParams:
        if len(self.channels) != len(self.strides) + 1 or min(*self.channels, *self.strides, self.reduction) < 1:
            raise ValueError("channels needs one entry more than strides, all positive")
        if self.kernel < 1 or not 0 < self.pace <= 1:
            raise ValueError("kernel must be positive and pace in (0, 1]")
        if self.inner and (len(self.inner) != 2 * len(self.channels) - 1 or min(self.inner) < 1):
            raise ValueError(f"inner must name all {2 * len(self.channels) - 1} blocks, all positive")
        return self


class Block(nn.Module):
    """Depthwise-separable convolution with squeeze-and-excitation."""

    def __init__(self, inputs: int, outputs: int, inner: int, params: WaveUnetParams) -> None:
        super().__init__()
        self.depthwise = ChunkConv(inputs, inputs, params.kernel, groups=inputs, norm=False)
        self.pointwise = ChunkConv(inputs, outputs, 1, activation=LeakyRelu(0.1))
        self.squeeze = nn.Conv2d(outputs, inner, 1)
        self.excite = nn.Conv2d(inner, outputs, 1)
        self.running = RunningMean(params.pace)

    def forward(self, signal: Tensor, chunk: int) -> Tensor:
        """Whole signals; `chunk` samples of this stage's rate make one mean."""
        rich = self.pointwise(self.depthwise(signal))
        means = functional.avg_pool2d(rich, (1, chunk))
        if means.shape[3] == 1:  # one chunk has nothing to run over and to repeat; pruning follows channels this way
            return rich * self._gains(self.running.step(means, torch.zeros_like(means)))
        return rich * self._gains(self.running(means)).repeat_interleave(chunk, 3)

    def step(self, name: str, walk: Walk, chunk: Tensor) -> Tensor:
        """One chunk."""
        rich = self.pointwise(walk.through(f"{name}_past", self.depthwise, chunk))
        mean = self.running.step(rich.mean(3, keepdim=True), walk.take(f"{name}_mean"))
        walk.following[f"{name}_mean"] = mean
        return rich * self._gains(mean)

    def states(self, name: str, batch: int) -> State:
        """Look-back of the depthwise convolution and the running mean, `[batch, channels, 1, 1]`."""
        mean = self.squeeze.weight.new_zeros(batch, self.squeeze.in_channels, 1, 1)
        return {f"{name}_past": self.depthwise.cache(batch), f"{name}_mean": mean}

    def _gains(self, means: Tensor) -> Tensor:
        return torch.sigmoid(self.excite(torch.relu(self.squeeze(means))))


class WaveUnet(StreamingModel):
    """Lightweight Wave-U-Net, depthwise-separable with squeeze-and-excitation, on samples (system 5)."""

    Params = WaveUnetParams
    usual = Frontend(kind="wave", hop=128)

    def __init__(self, frontend: Frontend, params: WaveUnetParams) -> None:
        super().__init__(frontend, params)
        if frontend.kind != "wave" or frontend.channels != 1:
            raise ValueError("it works on samples of one microphone: frontend {kind: wave}")
        if frontend.hop % math.prod(params.strides):
            raise ValueError(f"a hop of {frontend.hop} samples is no multiple of strides {params.strides}")
        widths = params.channels
        inner = iter(params.inner or [max(1, width // params.reduction) for width in (*widths, *widths[-2::-1])])
        self.encoder: Parts[Block] = Parts(
            Block(inputs, width, next(inner), params)
            for inputs, width in zip((1, *widths[1:-1]), widths[:-1], strict=True)
        )
        self.down: Parts[ChunkConv] = Parts(
            ChunkConv(inputs, width, 2 * stride, stride=stride, activation=LeakyRelu(0.1))
            for inputs, width, stride in zip(widths[:-1], widths[1:], params.strides, strict=True)
        )
        self.bottleneck = Block(widths[-1], widths[-1], next(inner), params)
        self.up: Parts[ChunkUpsample] = Parts(
            ChunkUpsample(inputs, width, 2 * stride, stride=stride)
            for inputs, width, stride in zip(widths[:0:-1], widths[-2::-1], params.strides[::-1], strict=True)
        )
        self.decoder: Parts[Block] = Parts(Block(width, width, next(inner), params) for width in widths[-2::-1])
        self.output = nn.Conv2d(widths[0], 1, 1)

    def _blocks(self) -> dict[str, Block]:
        named = {f"enc{index}": block for index, block in enumerate(self.encoder)} | {"deep": self.bottleneck}
        return named | {f"dec{index}": block for index, block in enumerate(self.decoder)}

    def layer_params(self) -> WaveUnetParams:
        """The sizes as the layers have them now, after pruning."""
        assert isinstance(self.params, WaveUnetParams)
        blocks = list(self._blocks().values())
        widths, inner = ([getattr(block.squeeze, side) for block in blocks] for side in ("in_channels", "out_channels"))
        usual = [max(1, width // self.params.reduction) for width in widths]
        sizes = {
            "channels": tuple(widths[: len(self.params.channels)]),
            "inner": () if inner == usual else tuple(inner),
        }
        return self.params.model_copy(update=sizes)

    def initial_state(self, batch: int = 1) -> State:
        """Look-backs `[batch, channels, 1, samples]` and running means `[batch, channels, 1, 1]`."""
        state: State = {}
        for name, block in self._blocks().items():
            state |= block.states(name, batch)
        state |= {f"down{index}": part.cache(batch) for index, part in enumerate(self.down)}
        state |= {f"up{index}": part.cache(batch) for index, part in enumerate(self.up)}
        return {name: value for name, value in state.items() if value.numel()}

    def wide_states(self) -> frozenset[str]:
        """The running means of squeeze-and-excitation."""
        return frozenset(f"{name}_mean" for name in self._blocks())

    def step(self, frame: Tensor, state: State) -> tuple[Tensor, State]:
        """One chunk: samples `[batch, 1, 1, hop]` -> enhanced samples of the same shape."""
        walk, current, skips = Walk(state), frame, []
        for index, (block, down) in enumerate(zip(self.encoder, self.down, strict=True)):
            current = block.step(f"enc{index}", walk, current)
            skips.append(current)
            current = walk.through(f"down{index}", down, current)
        current = self.bottleneck.step("deep", walk, current)
        for index, (up, block) in enumerate(zip(self.up, self.decoder, strict=True)):
            current = walk.through(f"up{index}", up, current) + skips.pop()
            current = block.step(f"dec{index}", walk, current)
        return frame + self.output(current), walk.following

    def trace(self, sequence: Tensor) -> Trace:
        """Enhanced chunks `[batch, 1, frames, hop]`; the latent is the bottleneck at its own rate."""
        signal = as_signal(sequence)
        chunk, current, skips = self.frontend.hop, signal, []
        for block, down in zip(self.encoder, self.down, strict=True):
            current = block(current, chunk)
            skips.append(current)
            current = down(current)
            chunk //= down.conv.stride[1]
        current = self.bottleneck(current, chunk)
        latent, layers = current[:, :, 0].transpose(1, 2), [*skips, current]
        for up, block in zip(self.up, self.decoder, strict=True):
            chunk *= up.conv.stride[1]
            current = block(up(current) + skips.pop(), chunk)
            layers.append(current)
        enhanced = as_chunks(signal + self.output(current), self.frontend.hop)
        return Trace(enhanced, latent, tuple(as_layer(layer) for layer in layers))

    def prepare_for_export(self) -> WaveUnet:
        """A copy in eval mode with every BatchNorm folded."""
        folded = copy.deepcopy(self).eval()
        fold(folded)
        return folded
