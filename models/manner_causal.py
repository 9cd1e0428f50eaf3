"""Systems 4 and 7: MANNER made causal, a student that streams (IEEE SPL 2024, 10.1109/LSP.2024.3388956).

Known: CNNC-Distill teaches a MANNER made causal with causal multi-view attention; MV-AT (arXiv 2208.10367) teaches a
narrow MANNER through its three views. Reconstructed: how. Every part of the offline network (`manner.py`) has its form
here that knows the past only:

    deviation of the whole signal      a running level: m_t = max(mean |x| of chunk t, (1 - a) m_{t-1})
    padded convolutions                convolutions that look back
    channel view, pooled over time     a running mean and a running maximum (with the same a), chunk by chunk
    global view, softmax over chunks   each chunk asks itself and the `window - 1` before it, weighed by sigmoids:
                                       1/window sum_s sigmoid(q_t k_s / √chunk) v_s
    local view                         convolutions that look back

A chunk here is one hop of the frontend; what global attention compares are the `chunk` columns that end with it. The
window is bounded so that keys and values of the past are states of fixed size. Sigmoids take the place of softmax
(sigmoid attention, arXiv 2409.04431): they need no sum over a window that is not filled yet, have integer forms, and
leave chunks before the first, which are zeros, without a trace. The level is a maximum that falls, not an average,
because it then holds from the first chunk on.

Sizes: the narrow student of MV-AT `{hidden: 30, depth: 3, attention: deepest}`.
"""

from __future__ import annotations

import copy
import math
from itertools import pairwise

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from earshot.models.frontend import Frontend
from earshot.models.held import (
    HeldConv,
    HeldUpsample,
    Mean,
    Past,
    Peak,
    Way,
    greatest,
    means,
    moving,
    name_places,
    peaks,
    spread,
    states,
)
from earshot.models.manner import NEAR, VIEWS, WIDE, MannerParams, rescale
from earshot.models.module_list import Parts
from earshot.models.streaming import State, StreamingModel, Trace
from earshot.models.wave_layers import as_chunks, as_layer, as_signal, fold

# Beside the level. Of a level up to full scale, 8 bits have steps of less than 1/250: this never rounds to zero.
_EPSILON = 1 / 128


class CausalMannerParams(MannerParams):
    """Sizes of the network, beside those of the offline one.

    Attributes:
        depth: `stride ** depth` divides the hop.
        chunk: columns at a stage's rate, the present ones last, that global attention compares; at least one hop's.
        window: chunks that global attention sees, the present one included, one hop apart.
        pace: a, part by which running levels, means and maxima move in one hop.
        momentum: of all norms.
    """

    depth: int = Field(default=3, ge=1)
    chunk: int = Field(default=16, ge=1)
    window: int = Field(default=32, ge=1)
    pace: float = Field(default=0.03, gt=0, lt=1)
    momentum: float = Field(default=0.1, gt=0, le=1)


class CausalManner(StreamingModel):
    """MANNER made causal: multi-view attention on samples, by chunks (systems 4 and 7, IEEE SPL 2024)."""

    Params = CausalMannerParams
    params: CausalMannerParams
    usual = Frontend(kind="wave", hop=128)

    def __init__(self, frontend: Frontend, params: CausalMannerParams) -> None:
        super().__init__(frontend, params)
        if frontend.kind != "wave" or frontend.channels != 1:
            raise ValueError("it works on samples of one microphone: frontend {kind: wave}")
        if frontend.hop % params.stride**params.depth:
            raise ValueError(
                f"a hop of {frontend.hop} samples is no multiple of {params.stride}^{params.depth} (stride^depth)"
            )
        widths = [params.hidden * 2**stage for stage in range(params.depth + 1)]
        columns = [frontend.hop // params.stride**stage for stage in range(params.depth + 1)]
        attends = [params.attention == "every" or wide == widths[-1] for wide in widths[1:]]
        stages = list(zip(pairwise(widths), pairwise(columns), attends, strict=True))
        self.level = Peak(1, params.pace)
        self.into = HeldConv(1, params.hidden, 3, activation=nn.ReLU())
        self.encoder: Parts[Encoder] = Parts(
            Encoder(narrow, wide, params, few if attend else 0) for (narrow, wide), (_, few), attend in stages
        )
        self.bottleneck = HeldConv(widths[-1], widths[-1], 1, norm=False, activation=nn.ReLU())
        self.decoder: Parts[Decoder] = Parts(
            Decoder(wide, narrow, params, many if attend else 0) for (narrow, wide), (many, _), attend in stages[::-1]
        )
        self.mask = MaskGate(params.hidden)
        self.output = HeldConv(params.hidden, 1, 3, norm=False)
        rescale(self)
        name_places(self)
        for part in self.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.momentum = params.momentum

    def initial_state(self, batch: int = 1) -> State:
        """What each block holds, by its place in the network."""
        return states(self, batch)

    def wide_states(self) -> frozenset[str]:
        """Running levels, maxima and means."""
        return moving(self)

    def step(self, frame: Tensor, state: State) -> tuple[Tensor, State]:
        """One chunk: samples `[batch, 1, 1, hop]` -> enhanced samples of the same shape."""
        way = Way(state)
        return self._run(way, frame)[0], way.following

    def trace(self, sequence: Tensor) -> Trace:
        """Enhanced chunks `[batch, 1, frames, hop]`; layers are the stages' outputs, the latent the bottleneck's.

        Views hold, for `channel`, `global` and `local`, one map an attention block, `[batch, width / 3, time, 1]`.
        """
        enhanced, latent, layers, blocks = self._run(Way(), as_signal(sequence))
        views = {
            name: tuple(as_layer(found) for found in of_kind)
            for name, of_kind in zip(VIEWS, zip(*(maps for maps in blocks if maps), strict=True), strict=True)
        }
        chunks = as_chunks(enhanced, self.frontend.hop)
        return Trace(chunks, latent[:, :, 0].transpose(1, 2), tuple(as_layer(layer) for layer in layers), views)

    def prepare_for_export(self) -> CausalManner:
        """A copy in eval mode with every BatchNorm folded."""
        folded = copy.deepcopy(self).eval()
        fold(folded)
        return folded

    def _run(self, way: Way, signal: Tensor) -> tuple[Tensor, Tensor, list[Tensor], list[tuple[Tensor, ...]]]:
        """A whole signal or one chunk: enhanced, the latent, the stages' outputs and their maps."""
        sizes = torch.maximum(signal, -1.0 * signal)
        level = spread(way(self.level, means(sizes, self.frontend.hop)), self.frontend.hop)
        first = way(self.into, signal / (level + _EPSILON))
        current, skips, layers, blocks = first, [], [], []
        for encoder in self.encoder:
            current, maps = encoder(way, current)
            skips.append(current)
            blocks.append(maps)
        layers += skips
        latent = current = way(self.bottleneck, current)
        for decoder in self.decoder:
            current, maps = decoder(way, current + skips.pop())
            layers.append(current)
            blocks.append(maps)
        return level * way(self.output, first * self.mask(way, current)), latent, layers, blocks


class Encoder(nn.Module):
    """One stage down: `[batch, narrow, 1, time] -> [batch, wide, 1, time / stride]`.

    Args:
        columns: of one hop at the stage's output, where it attends; 0 where not.
    """

    def __init__(self, narrow: int, wide: int, params: CausalMannerParams, columns: int) -> None:
        super().__init__()
        self.down = HeldConv(narrow, narrow, params.kernel, stride=params.stride, activation=nn.ReLU())
        self.conformer = Conformer(narrow, wide)
        self.attention = Attention(wide, columns, params) if columns else None

    def forward(self, way: Way, signal: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The stage's output, and the maps of its attention if it has one."""
        rich = self.conformer(way, way(self.down, signal))
        return self.attention(way, rich) if self.attention else (rich, ())


class Decoder(nn.Module):
    """One stage up: `[batch, wide, 1, time] -> [batch, narrow, 1, stride * time]`; `columns` as in `Encoder`."""

    def __init__(self, wide: int, narrow: int, params: CausalMannerParams, columns: int) -> None:
        super().__init__()
        self.conformer = Conformer(wide, narrow)
        self.up = HeldUpsample(narrow, narrow, params.kernel, stride=params.stride, norm=True)
        self.attention = Attention(narrow, columns, params) if columns else None

    def forward(self, way: Way, signal: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The stage's output, and the maps of its attention if it has one."""
        rich = torch.relu(way(self.up, self.conformer(way, signal)))
        return self.attention(way, rich) if self.attention else (rich, ())


class Conformer(nn.Module):
    """Residual conformer block: gated 1x1, depthwise, 1x1 to the new width, 1x1, and a 1x1 shortcut."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.value, self.gate = HeldConv(inputs, inputs, 1), HeldConv(inputs, inputs, 1)
        self.depthwise = HeldConv(inputs, inputs, WIDE, groups=inputs, activation=nn.SiLU())
        self.widen = HeldConv(inputs, outputs, 1, activation=nn.SiLU())
        self.body = HeldConv(outputs, outputs, 1)
        self.shortcut = HeldConv(inputs, outputs, 1)

    def forward(self, way: Way, signal: Tensor) -> Tensor:
        """`[batch, inputs, 1, time] -> [batch, outputs, 1, time]`."""
        gated = way(self.value, signal) * torch.sigmoid(way(self.gate, signal))
        rich = way(self.body, way(self.widen, way(self.depthwise, gated)))
        return torch.relu(rich + way(self.shortcut, signal))


class Attention(nn.Module):
    """Multi-view attention: a third of the width for each view, joined, gated, and added to a 1x1 shortcut."""

    def __init__(self, width: int, columns: int, params: CausalMannerParams) -> None:
        super().__init__()
        third = width // 3
        self.inputs: Parts[HeldConv] = Parts(HeldConv(width, third, 1, activation=nn.ReLU()) for _ in VIEWS)
        self.over_channels = ChannelAttention(third, columns, params.pace)
        self.over_chunks = GlobalAttention(third, columns, max(params.chunk, columns), params.window)
        self.in_chunks = LocalAttention(third)
        self.outputs: Parts[HeldConv] = Parts(HeldConv(third, third, 3, activation=nn.ReLU()) for _ in VIEWS)
        self.joined, self.shortcut = HeldConv(3 * third, width, 1), HeldConv(width, width, 1)
        self.gate = MaskGate(width)

    def forward(self, way: Way, signal: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """`[batch, width, 1, time]` alike, and each view behind its attention, `[batch, width / 3, 1, time]`."""
        parts = (self.over_channels, self.over_chunks, self.in_chunks)
        maps = tuple(part(way, way(branch, signal)) for part, branch in zip(parts, self.inputs, strict=True))
        views = [way(branch, map_) for branch, map_ in zip(self.outputs, maps, strict=True)]
        return way(self.shortcut, signal) + self.gate(way, way(self.joined, torch.cat(views, 1))), maps


class ChannelAttention(nn.Module):
    """Which channels matter: gains from their running maxima and means."""

    def __init__(self, width: int, columns: int, pace: float) -> None:
        super().__init__()
        self.columns = columns
        self.peak, self.mean = Peak(width, pace), Mean(width, pace)
        self.gains = nn.Sequential(nn.Conv2d(width, width // 2, 1), nn.ReLU(), nn.Conv2d(width // 2, width, 1))

    def forward(self, way: Way, signal: Tensor) -> Tensor:
        """`[batch, width, 1, time]` of the same shape."""
        peak, mean = way(self.peak, peaks(signal, self.columns)), way(self.mean, means(signal, self.columns))
        return signal * spread(torch.sigmoid(self.gains(peak) + self.gains(mean)), self.columns)


class GlobalAttention(nn.Module):
    """Which of the last chunks matter to the present one: one head over chunks, channel by channel.

    Inside, a chunk's columns lie on the channels' axis, `[batch, chunk, chunks, width]`: what MANNER's fully connected
    layers do along a chunk are 1x1 convolutions then, which need no matrix product of rank 4.
    """

    def __init__(self, width: int, columns: int, chunk: int, window: int) -> None:
        super().__init__()
        self.columns, self.chunk, self.window = columns, chunk, window
        self.query, self.key, self.value = (nn.Conv2d(chunk, chunk, 1, bias=False) for _ in range(3))
        self.output = nn.Conv2d(chunk, columns, 1, bias=False)  # the other columns have left already
        self.recent = Past(width, chunk - columns)
        self.keys, self.values = (Past(chunk, window - 1, width) for _ in range(2))

    def forward(self, way: Way, signal: Tensor) -> Tensor:
        """`[batch, width, 1, time]` of the same shape."""
        seen = way(self.recent, signal)
        if seen.shape[3] > self.chunk:
            seen = seen[:, :, 0].unfold(2, self.chunk, self.columns)  # [batch, width, chunks, chunk]
        seen = seen.permute(0, 3, 2, 1)
        queries = self.query(seen) * math.sqrt(self.chunk)  # products are averaged: √ and not 1/√
        keys, values = way(self.keys, self.key(seen)), way(self.values, self.value(seen))
        attended = self._one(queries, keys, values) if seen.shape[2] == 1 else self._many(queries, keys, values)
        return self.output(attended).permute(0, 3, 2, 1).flatten(2).unsqueeze(2)

    def _one(self, query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """One query and the window it sees, by operators that have integer forms."""
        weights = torch.sigmoid((query * keys).mean(1, keepdim=True))
        return (weights * values).mean(2, keepdim=True)

    def _many(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Query t sees keys t to t + window - 1: blocks of queries, each with all keys that any of them sees."""
        window, chunks = self.window, queries.shape[2]
        rest = -chunks % window
        # [batch, width, blocks, window, chunk] and [batch, width, blocks, chunk, 2 window]
        blocks = functional.pad(queries, (0, 0, 0, rest)).permute(0, 3, 2, 1).unflatten(2, (-1, window))
        padded = (functional.pad(held, (0, 0, 0, rest + 1)).permute(0, 3, 2, 1) for held in (keys, values))
        keys, values = (held.unfold(2, 2 * window, window) for held in padded)
        places = torch.arange(2 * window, device=queries.device)
        behind = places[None] - places[:window, None]
        weights = torch.sigmoid(blocks @ keys / self.chunk) * ((behind >= 0) & (behind < window))
        attended = (weights @ values.transpose(3, 4) / window).flatten(2, 3)[:, :, :chunks]
        return attended.permute(0, 3, 2, 1)


class LocalAttention(nn.Module):
    """Which samples matter: gains from the maximum and mean over channels of a depthwise convolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise = HeldConv(width, width, WIDE, groups=width, activation=nn.SiLU())
        self.gains = HeldConv(2, 1, NEAR)

    def forward(self, way: Way, signal: Tensor) -> Tensor:
        """`[batch, width, 1, time]` of the same shape."""
        seen = way(self.depthwise, signal)
        return signal * torch.sigmoid(way(self.gains, torch.cat([greatest(seen, 1), seen.mean(1, keepdim=True)], 1)))


class MaskGate(nn.Module):
    """ReLU(conv(tanh * sigmoid)), each a 1x1 convolution of its own."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.value, self.gate = HeldConv(width, width, 1, norm=False), HeldConv(width, width, 1, norm=False)
        self.mask = HeldConv(width, width, 1, norm=False, activation=nn.ReLU())

    def forward(self, way: Way, signal: Tensor) -> Tensor:
        """`[batch, width, 1, time]` of the same shape."""
        return way(self.mask, torch.tanh(way(self.value, signal)) * torch.sigmoid(way(self.gate, signal)))
