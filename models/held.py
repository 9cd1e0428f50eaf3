"""Blocks on samples that hold something from one chunk to the next, and the way of a signal through them.

A network made of them is written once: whole signals and chunks go the same way, and each block that has something to
hold finds it under the name of its place in the network.

    name_places(network)           once, when it is built
    states(network, batch)         everything held, zeros
    Way()(block, signal)           whole signals
    Way(state)(block, chunk)       one chunk; what is held for the next is in `way.following`
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from earshot.models.streaming import State
from earshot.models.wave_layers import ChunkConv, ChunkUpsample, RunningMean


class Held(nn.Module):
    """Base of the blocks: `forward` takes whole signals `[batch, channels, 1, time]`, `step` one chunk of them."""

    name: str = ""

    def cache(self, batch: int) -> Tensor:
        """What is held before the first chunk, zeros; nothing where it has no elements."""
        raise NotImplementedError

    def step(self, chunk: Tensor, cache: Tensor) -> tuple[Tensor, Tensor]:
        """The output for one chunk, and what to hold for the next."""
        raise NotImplementedError


class Way:
    """How a signal goes through a network: whole, or as one chunk of a stream.

    Args:
        state: of this step; None for whole signals.
    """

    def __init__(self, state: State | None = None) -> None:
        self._state = state or {}
        self.following: State = {}

    def __call__(self, block: Held, signal: Tensor) -> Tensor:
        """The block's output."""
        if block.name not in self._state:
            found: Tensor = block(signal)
            return found
        made, self.following[block.name] = block.step(signal, self._state[block.name])
        return made


class HeldConv(ChunkConv, Held):
    """Causal convolution, its norm and activation."""


class HeldUpsample(ChunkUpsample, Held):
    """Causal transposed convolution and its norm."""


class Peak(Held):
    """A running maximum that falls: m_t = max(x_t, (1 - a) m_{t-1}), m_{-1} = 0, for values that are not negative.

    Args:
        channels: of the values.
        pace: a, above 0 and below 1.
    """

    wide = True  # integer files compute it on 16 bits

    def __init__(self, channels: int, pace: float) -> None:
        super().__init__()
        self.channels, self.kept = channels, 1 - pace

    def cache(self, batch: int) -> Tensor:
        """Zeros `[batch, channels, 1, 1]`."""
        return torch.zeros(batch, self.channels, 1, 1)

    def forward(self, values: Tensor) -> Tensor:
        """`[batch, channels, 1, chunks]` of the same shape: each time takes the past value that is largest now."""
        times = torch.arange(values.shape[3], device=values.device)
        largest = (values.detach().double().log() - times * math.log(self.kept)).cummax(3).indices
        return values.gather(3, largest) * torch.pow(self.kept, (times - largest).to(values.dtype))

    def step(self, chunk: Tensor, cache: Tensor) -> tuple[Tensor, Tensor]:
        """One chunk, `[batch, channels, 1, 1]`."""
        found = torch.maximum(chunk, self.kept * cache)
        return found, found


class Mean(Held):
    """A running mean (`RunningMean`): m_t = (1 - a) m_{t-1} + a x_t, m_{-1} = 0.

    Args:
        channels: of the values.
        pace: a.
    """

    def __init__(self, channels: int, pace: float) -> None:
        super().__init__()
        self.channels = channels
        self.running = RunningMean(pace)

    def cache(self, batch: int) -> Tensor:
        """Zeros `[batch, channels, 1, 1]`."""
        return torch.zeros(batch, self.channels, 1, 1)

    def forward(self, values: Tensor) -> Tensor:
        """`[batch, channels, 1, chunks]` of the same shape."""
        found: Tensor = self.running(values)
        return found

    def step(self, chunk: Tensor, cache: Tensor) -> tuple[Tensor, Tensor]:
        """One chunk, `[batch, channels, 1, 1]`."""
        found = self.running.step(chunk, cache)
        return found, found


class Past(Held):
    """Puts the last `length` items before a chunk, and zeros before a whole signal.

    Args:
        channels: of the items.
        length: how many.
        size: None holds samples, `[batch, channels, 1, length]`; else rows, `[batch, channels, length, size]`.
    """

    def __init__(self, channels: int, length: int, size: int | None = None) -> None:
        super().__init__()
        self.length = length
        self.dim = 3 if size is None else 2
        self.shape = (channels, 1, length) if size is None else (channels, length, size)

    def cache(self, batch: int) -> Tensor:
        """Zeros."""
        return torch.zeros(batch, *self.shape)

    def forward(self, signal: Tensor) -> Tensor:
        """Whole signals, or a chunk where nothing is held."""
        return functional.pad(signal, (0, 0) * (3 - self.dim) + (self.length, 0))

    def step(self, chunk: Tensor, cache: Tensor) -> tuple[Tensor, Tensor]:
        """One chunk."""
        seen = torch.cat([cache, chunk], self.dim)
        return seen, seen.narrow(self.dim, seen.shape[self.dim] - self.length, self.length)


def name_places(network: nn.Module) -> None:
    """Names every block by its place, which is what its state is called."""
    for path, part in network.named_modules():
        if isinstance(part, Held):
            part.name = path.replace(".", "_")


def states(network: nn.Module, batch: int) -> State:
    """Zeros for every block that has something to hold, on the network's device."""
    like = next(network.parameters())
    held = {part.name: part.cache(batch) for part in network.modules() if isinstance(part, Held)}
    return {name: like.new_zeros(value.shape) for name, value in held.items() if value.numel()}


def moving(network: nn.Module) -> frozenset[str]:
    """States that move by a small part of themselves at each chunk, which 8 bits would round to nothing."""
    return frozenset(part.name for part in network.modules() if isinstance(part, Peak | Mean))


def means(signal: Tensor, columns: int) -> Tensor:
    """The mean of every `columns`: `[batch, channels, 1, time] -> [batch, channels, 1, time / columns]`."""
    return signal.mean(3, keepdim=True) if signal.shape[3] == columns else functional.avg_pool2d(signal, (1, columns))


def peaks(signal: Tensor, columns: int) -> Tensor:
    """The maximum of every `columns`, likewise."""
    return greatest(signal, 3) if signal.shape[3] == columns else functional.max_pool2d(signal, (1, columns))


def spread(values: Tensor, columns: int) -> Tensor:
    """Every value `columns` times, `[batch, channels, 1, time * columns]`; a single one is left to broadcasting."""
    return values if values.shape[3] == 1 else values.repeat_interleave(columns, 3)


def greatest(values: Tensor, dim: int) -> Tensor:
    """The maximum along an axis, by halves that may overlap: REDUCE_MAX has no integer form, MAXIMUM has."""
    while (size := values.shape[dim]) > 1:
        half = -(-size // 2)
        values = torch.maximum(values.narrow(dim, 0, half), values.narrow(dim, size - half, half))
    return values
