"""System 8: MANNER, a U-Net on samples with three views of attention (ICASSP 2022, arXiv 2203.02181).

Known, from the authors' code: the network as drawn, kernels, order of layers, biases and rescaled initial weights
included. Computed: 21.25 M parameters with attention at the deepest stage only (SMALL), 24.07 M at every stage (BASE),
95.5 M with hidden 120 (LARGE), all as published; hidden 30 and depth 3 of SMALL are 1.381 M, 15.4 times fewer, which is
the published ratio of the narrow student of MV-AT (Interspeech 2022, arXiv 2208.10367). One second of sound costs SMALL
3.4 G multiply-accumulates, as published; BASE 7.2 and LARGE 25.9, published as 6.3 and 23.9; the narrow student 4.5
times less than SMALL, published as 4.71. How the authors counted these three is not known.

Reconstructed: what of each view MV-AT compares. Here it is the branch's signal behind its attention: its energy over
channels is a map over time whatever the width, while the gains of channel attention have no time and the weights of
global attention grow with its square.

    x / (0.001 + deviation) ─> conv ─> [strided conv, conformer, attention] x depth ─> linear
    deviation * conv( · * mask) <─ gates <─ [conformer, transposed conv, attention] x depth <─ + skips <──┘

Sizes: SMALL `{attention: deepest}`, BASE `{}`, LARGE `{hidden: 120}`, the narrow student
`{hidden: 30, depth: 3, attention: deepest}`.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from earshot.core.config import Config
from earshot.models.chunks import merge, split
from earshot.models.frontend import Frontend
from earshot.models.module_list import Parts
from earshot.models.streaming import StreamingModel, Trace

VIEWS = ("channel", "global", "local")

_EPSILON = 1e-3  # on the deviation: silence stays silence
_MOMENTUM = 0.01  # of the norms without bias before them
_RESCALED_TO = 0.1  # deviation that initial weights are drawn towards (DEMUCS, arXiv 1909.01174)
WIDE, NEAR = 31, 7  # kernels of depthwise convolutions and of local attention


class MannerParams(Config):
    """Sizes of the network.

    Attributes:
        hidden: width before the first stage; every stage doubles it.
        depth: encoder stages, and decoder stages.
        kernel, stride: of the strided convolutions.
        chunk: samples at a stage's rate that global and local attention see as one, half of it shared with the next.
        attention: at every stage, or at the deepest of encoder and decoder only.
        momentum: of all norms, for trainings of hundreds of steps; None as published, 0.01 for most of them.
    """

    hidden: int = Field(default=60, ge=6)
    depth: int = Field(default=4, ge=1)
    kernel: int = Field(default=8, ge=1)
    stride: int = Field(default=4, ge=1)
    chunk: int = Field(default=64, ge=2, multiple_of=2)
    attention: Literal["every", "deepest"] = "every"
    momentum: float | None = Field(default=None, gt=0, le=1)

    @model_validator(mode="after")
    def _consistent(self) -> MannerParams:
        if self.kernel < self.stride:
            raise ValueError(f"a kernel of {self.kernel} leaves samples out at stride {self.stride}")
        return self


class Manner(StreamingModel):
    """MANNER, multi-view attention on samples: a teacher (system 8, ICASSP 2022)."""

    Params = MannerParams
    params: MannerParams
    usual = Frontend(kind="wave", hop=128)
    causal = False

    def __init__(self, frontend: Frontend, params: MannerParams) -> None:
        super().__init__(frontend, params)
        if frontend.kind != "wave" or frontend.channels != 1:
            raise ValueError("it works on samples of one microphone: frontend {kind: wave}")
        widths = [params.hidden * 2**stage for stage in range(params.depth + 1)]
        stages = list(pairwise(widths))
        attends = [params.attention == "every" or wide == widths[-1] for _, wide in stages]
        self.into = nn.Sequential(nn.Conv1d(1, params.hidden, 3, padding=1), nn.BatchNorm1d(params.hidden), nn.ReLU())
        self.encoder: Parts[Encoder] = Parts(
            Encoder(narrow, wide, params, view) for (narrow, wide), view in zip(stages, attends, strict=True)
        )
        self.bottleneck = nn.Sequential(nn.Linear(widths[-1], widths[-1], bias=False), nn.ReLU())
        self.decoder: Parts[Decoder] = Parts(
            Decoder(wide, narrow, params, view)
            for (narrow, wide), view in zip(stages[::-1], attends[::-1], strict=True)
        )
        self.mask = MaskGate(params.hidden)
        self.output = nn.Conv1d(params.hidden, 1, 3, padding=1)
        rescale(self)
        for part in self.modules():
            if isinstance(part, nn.BatchNorm1d) and params.momentum is not None:
                part.momentum = params.momentum

    def trace(self, sequence: Tensor) -> Trace:
        """Enhanced chunks `[batch, 1, frames, hop]`; layers are the stages' outputs, the latent the bottleneck's.

        Views hold, for `channel`, `global` and `local`, one map an attention block, `[batch, width / 3, time, 1]`.
        """
        signal = sequence.flatten(2)
        deviation = signal.std(-1, keepdim=True)
        padding = self._padded(signal.shape[-1]) - signal.shape[-1]
        first = self.into(functional.pad(signal / (_EPSILON + deviation), (0, padding)))
        current, skips, layers, blocks = first, [], [], []
        for encoder in self.encoder:
            current, maps = encoder(current)
            skips.append(current)
            blocks.append(maps)
        layers += skips
        latent = self.bottleneck(current.transpose(1, 2))
        current = latent.transpose(1, 2)
        for decoder in self.decoder:
            current, maps = decoder(current + skips.pop())
            layers.append(current)
            blocks.append(maps)
        enhanced = deviation * self.output(first * self.mask(current))[..., : signal.shape[-1]]
        views = {
            name: tuple(found.unsqueeze(-1) for found in of_kind)
            for name, of_kind in zip(VIEWS, zip(*(maps for maps in blocks if maps), strict=True), strict=True)
        }
        chunks = enhanced.unflatten(-1, (-1, self.frontend.hop))
        return Trace(chunks, latent, tuple(layer.unsqueeze(-1) for layer in layers), views)

    def _padded(self, time: int) -> int:
        """The least length from `time` on that the strides divide and give back."""
        kernel, stride = self.params.kernel, self.params.stride
        for _ in range(self.params.depth):
            time = max(-(-(time - kernel) // stride) + 1, 1)
        for _ in range(self.params.depth):
            time = (time - 1) * stride + kernel
        return time


class Encoder(nn.Module):
    """One stage down: `[batch, narrow, time] -> [batch, wide, about time / stride]`."""

    def __init__(self, narrow: int, wide: int, params: MannerParams, attends: bool) -> None:
        super().__init__()
        self.down = nn.Sequential(
            nn.Conv1d(narrow, narrow, params.kernel, params.stride), nn.BatchNorm1d(narrow), nn.ReLU()
        )
        self.conformer = Conformer(narrow, wide)
        self.attention = Attention(wide, params.chunk) if attends else None

    def forward(self, signal: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The stage's output, and the maps of its attention if it has one."""
        rich = self.conformer(self.down(signal))
        return self.attention(rich) if self.attention else (rich, ())


class Decoder(nn.Module):
    """One stage up: `[batch, wide, time] -> [batch, narrow, about stride * time]`."""

    def __init__(self, wide: int, narrow: int, params: MannerParams, attends: bool) -> None:
        super().__init__()
        self.conformer = Conformer(wide, narrow)
        self.up = nn.Sequential(
            nn.ConvTranspose1d(narrow, narrow, params.kernel, params.stride), nn.BatchNorm1d(narrow), nn.ReLU()
        )
        self.attention = Attention(narrow, params.chunk) if attends else None

    def forward(self, signal: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The stage's output, and the maps of its attention if it has one."""
        rich = self.up(self.conformer(signal))
        return self.attention(rich) if self.attention else (rich, ())


class Conformer(nn.Module):
    """Residual conformer block: gated 1x1, depthwise, 1x1 to the new width, 1x1, and a 1x1 shortcut."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv1d(inputs, 2 * inputs, 1),
            nn.BatchNorm1d(2 * inputs),
            nn.GLU(1),
            *_depthwise(inputs),
            nn.Conv1d(inputs, outputs, 1),
            nn.BatchNorm1d(outputs),
            nn.SiLU(),
            _normed(outputs, outputs),
        )
        self.shortcut = _normed(inputs, outputs)

    def forward(self, signal: Tensor) -> Tensor:
        """`[batch, inputs, time] -> [batch, outputs, time]`."""
        return torch.relu(self.body(signal) + self.shortcut(signal))


class Attention(nn.Module):
    """Multi-view attention: a third of the width for each view, joined, gated, and added to a 1x1 shortcut."""

    def __init__(self, width: int, chunk: int) -> None:
        super().__init__()
        third = width // 3
        self.chunk = chunk
        self.inputs: Parts[nn.Sequential] = Parts(_normed(width, third, relu=True) for _ in VIEWS)
        self.over_channels = ChannelAttention(third)
        self.over_chunks = GlobalAttention(chunk)
        self.in_chunks = LocalAttention(third)
        self.outputs: Parts[nn.Sequential] = Parts(_normed(third, third, kernel=3, relu=True) for _ in VIEWS)
        self.joined = _normed(3 * third, width)
        self.shortcut = _normed(width, width)
        self.gate = MaskGate(width)

    def forward(self, signal: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """`[batch, width, time]` of the same shape, and each view behind its attention, `[batch, width / 3, time]`."""
        one, two, three = (branch(signal) for branch in self.inputs)
        maps = (self.over_channels(one), self._chunked(self.over_chunks, two), self._chunked(self.in_chunks, three))
        views = [branch(map_) for branch, map_ in zip(self.outputs, maps, strict=True)]
        return self.shortcut(signal) + self.gate(self.joined(torch.cat(views, 1))), maps

    def _chunked(self, attention: nn.Module, signal: Tensor) -> Tensor:
        chunks = attention(split(signal, self.chunk, self.chunk, self.chunk))
        return merge(chunks, self.chunk, signal.shape[-1]) / 2


class ChannelAttention(nn.Module):
    """Which channels matter: gains from their maxima and means over time."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gains = nn.Sequential(nn.Linear(width, width // 2), nn.ReLU(), nn.Linear(width // 2, width))

    def forward(self, signal: Tensor) -> Tensor:
        """`[batch, width, time]` of the same shape."""
        return signal * torch.sigmoid(self.gains(signal.amax(-1)) + self.gains(signal.mean(-1))).unsqueeze(-1)


class GlobalAttention(nn.Module):
    """Which chunks matter to each other: one head of scaled dot products over chunks, channel by channel."""

    def __init__(self, chunk: int) -> None:
        super().__init__()
        self.query, self.key, self.value, self.output = (nn.Linear(chunk, chunk, bias=False) for _ in range(4))

    def forward(self, chunks: Tensor) -> Tensor:
        """`[batch, width, chunks, chunk]` of the same shape."""
        queries, keys, values = self.query(chunks), self.key(chunks), self.value(chunks)
        return self.output(functional.scaled_dot_product_attention(queries, keys, values))


class LocalAttention(nn.Module):
    """Which samples of a chunk matter: gains from the maximum and mean over channels of a depthwise convolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise = nn.Sequential(*_depthwise(width))
        self.gains = _normed(2, 1, kernel=NEAR)

    def forward(self, chunks: Tensor) -> Tensor:
        """`[batch, width, chunks, chunk]` of the same shape."""
        seen = self.depthwise(chunks.transpose(1, 2).flatten(0, 1))
        gains = self.gains(torch.stack([seen.amax(1), seen.mean(1)], 1))
        return chunks * torch.sigmoid(gains).reshape(chunks.shape[0], 1, *chunks.shape[2:])


class MaskGate(nn.Module):
    """ReLU(conv(tanh * sigmoid)), each a 1x1 convolution of its own."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.value, self.gate, self.mask = (nn.Conv1d(width, width, 1) for _ in range(3))

    def forward(self, signal: Tensor) -> Tensor:
        """`[batch, width, time]` of the same shape."""
        return torch.relu(self.mask(torch.tanh(self.value(signal)) * torch.sigmoid(self.gate(signal))))


def _normed(inputs: int, outputs: int, *, kernel: int = 1, relu: bool = False) -> nn.Sequential:
    """Convolution without bias and its norm."""
    conv = nn.Conv1d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
    norm = nn.BatchNorm1d(outputs, momentum=_MOMENTUM)
    return nn.Sequential(conv, norm, nn.ReLU()) if relu else nn.Sequential(conv, norm)


def _depthwise(width: int) -> tuple[nn.Module, ...]:
    conv = nn.Conv1d(width, width, WIDE, padding=WIDE // 2, groups=width, bias=False)
    return conv, nn.BatchNorm1d(width), nn.SiLU()


@torch.no_grad()
def rescale(module: nn.Module) -> None:
    """Divides each convolution's weights and biases by √(its weights' deviation / 0.1)."""
    for part in module.modules():
        if isinstance(part, nn.Conv1d | nn.ConvTranspose1d | nn.Conv2d | nn.ConvTranspose2d):
            scale = (part.weight.std() / _RESCALED_TO).sqrt()
            for parameter in part.parameters():
                parameter.div_(scale)
