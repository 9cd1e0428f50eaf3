"""Building blocks of streaming networks on samples: `[batch, channels, 1, time]`, chunk after chunk.

Every block works on a whole signal and, with the inputs before it as its state, on one chunk. A chunk holds a whole
number of strides; zeros as state equal the zeros that `forward` puts before the first sample.
"""

from __future__ import annotations

import abc

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from earshot.models.streaming import State


class Chunked(nn.Module, abc.ABC):
    """What looks back on its own inputs: the last `lookback` of them are its state."""

    conv: nn.Conv2d | nn.ConvTranspose2d

    @property
    @abc.abstractmethod
    def lookback(self) -> int:
        """Past inputs that one chunk needs."""

    @abc.abstractmethod
    def present(self, seen: Tensor) -> Tensor:
        """The output of what follows the look-back in `seen`."""

    def cache(self, batch: int) -> Tensor:
        """The zero state, `[batch, inputs, 1, lookback]`."""
        return self.conv.weight.new_zeros(batch, self.conv.in_channels, 1, self.lookback)

    def forward(self, signal: Tensor) -> Tensor:
        """Whole signals, or a chunk when there is nothing to look back on."""
        return self.present(functional.pad(signal, (self.lookback, 0)) if self.lookback else signal)

    def step(self, chunk: Tensor, cache: Tensor) -> tuple[Tensor, Tensor]:
        """One chunk and what came before it; returns the output chunk and the next look-back."""
        seen = torch.cat([cache, chunk], dim=3)
        return self.present(seen), seen[..., seen.shape[3] - self.lookback :]


class ChunkConv(Chunked):
    """Causal convolution over time with stride and dilation, optional BatchNorm and activation.

    Output i sees inputs up to (i + 1) stride - 1: a chunk is complete when its last sample is.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        norm: bool = True,
        activation: nn.Module | None = None,
    ) -> None:
        super().__init__()
        if dilation * (kernel - 1) + 1 < stride:
            raise ValueError(f"a kernel of {kernel} leaves samples out at stride {stride}")
        self.conv = nn.Conv2d(
            inputs, outputs, (1, kernel), stride=(1, stride), dilation=(1, dilation), groups=groups, bias=not norm
        )
        self.norm: nn.Module = nn.BatchNorm2d(outputs) if norm else nn.Identity()
        self.activation: nn.Module = activation or nn.Identity()

    @property
    def lookback(self) -> int:
        """Past samples one chunk needs."""
        return self.conv.dilation[1] * (self.conv.kernel_size[1] - 1) + 1 - self.conv.stride[1]

    def fold(self) -> None:
        """Folds the BatchNorm into the convolution, in eval mode."""
        if isinstance(self.norm, nn.BatchNorm2d):
            self.conv = fuse_conv_bn_eval(self.conv, self.norm)
            self.norm = nn.Identity()

    def present(self, seen: Tensor) -> Tensor:
        """Convolution, norm and activation."""
        return self.activation(self.norm(self.conv(seen)))


class ChunkUpsample(Chunked):
    """Transposed convolution over time: `time -> stride time`, from the present and past only.

    The inputs before a chunk are its state, and what they alone produce is cropped: overlaps need no carrying over, and
    padding, which is converted wrongly to TFLite, is not used.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, *, stride: int, norm: bool = False) -> None:
        super().__init__()
        if kernel < stride:
            raise ValueError(f"a kernel of {kernel} leaves holes at stride {stride}")
        self.conv = nn.ConvTranspose2d(inputs, outputs, (1, kernel), stride=(1, stride), bias=not norm)
        self.norm: nn.Module = nn.BatchNorm2d(outputs) if norm else nn.Identity()

    @property
    def lookback(self) -> int:
        """Past inputs that reach into a chunk."""
        stride = self.conv.stride[1]
        return -(-(self.conv.kernel_size[1] - stride) // stride)

    def fold(self) -> None:
        """Folds the BatchNorm into the convolution, in eval mode."""
        if isinstance(self.norm, nn.BatchNorm2d):
            self.conv = fuse_conv_bn_eval(self.conv, self.norm, transpose=True)
            self.norm = nn.Identity()

    def present(self, seen: Tensor) -> Tensor:
        """What the present inputs and those that reach into them give."""
        begin = self.lookback * self.conv.stride[1]
        length = seen.shape[3] * self.conv.stride[1] - begin
        return self.norm(self.conv(seen)[..., begin : begin + length])


class RunningMean(nn.Module):
    """The mean over past and present time, chunk by chunk: the causal form of a mean over the whole signal.

        m_t = m_{t-1} + a (mean of chunk t - m_{t-1}),   m_{-1} = 0

    Reconstructed: an exponential mean of fixed pace, so that its only state is a mean that starts at zero.

    Args:
        pace: a.
    """

    wide = True  # integer files compute it on 16 bits

    def __init__(self, pace: float) -> None:
        super().__init__()
        self.pace = pace

    def forward(self, means: Tensor) -> Tensor:
        """Means of chunks `[batch, channels, 1, chunks]` -> running means of the same shape."""
        held, running = torch.zeros_like(means[..., :1]), []
        for chunk in means.split(1, dim=3):
            held = held + self.pace * (chunk - held)
            running.append(held)
        return torch.cat(running, 3)

    def step(self, mean: Tensor, held: Tensor) -> Tensor:
        """One chunk, `[batch, channels, 1, 1]` both: the next running mean."""
        return held + self.pace * (mean - held)


class Walk:
    """Carries one step's states through a network's blocks: what each leaves is the next step's.

    A block without look-back has no state and is called as it is.

    Args:
        state: of this step.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self.following: State = {}

    def through(self, name: str, block: ChunkConv | ChunkUpsample, chunk: Tensor) -> Tensor:
        """The block's output for this chunk."""
        if name not in self._state:
            return block(chunk)
        made, self.following[name] = block.step(chunk, self._state[name])
        return made

    def take(self, name: str) -> Tensor:
        """A state as it came in, or as an earlier part of this chunk left it."""
        return self.following.get(name, self._state[name])


def fold(module: nn.Module) -> None:
    """Folds every BatchNorm below `module`, which must be in eval mode."""
    for part in list(module.modules()):
        if isinstance(part, ChunkConv | ChunkUpsample):
            part.fold()


def columns(chunk: Tensor) -> tuple[Tensor, ...]:
    """Every column of `[batch, channels, 1, time]` by itself; one is not split, which is not converted to TFLite."""
    return (chunk,) if chunk.shape[3] == 1 else chunk.split(1, 3)


def as_signal(sequence: Tensor) -> Tensor:
    """Chunks `[batch, channels, frames, hop]` as one signal `[batch, channels, 1, frames * hop]`."""
    return sequence.flatten(2).unsqueeze(2)


def as_chunks(signal: Tensor, hop: int) -> Tensor:
    """The inverse of `as_signal`."""
    return signal.squeeze(2).unflatten(-1, (-1, hop))


def as_layer(signal: Tensor) -> Tensor:
    """Features `[batch, channels, 1, time]` as a trace shows them: `[batch, channels, frames, 1]`."""
    return signal.transpose(2, 3)
