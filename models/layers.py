"""Building blocks of the streaming networks. Each works on a whole sequence and, with a look-back cache, on one frame.

Tensors are float32 `[batch, channels, frames, bins]`. A block with look-back keeps the last `kernel_time - 1` input
frames as its state; an all-zero state equals the zero padding that `forward` puts before the first frame.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval


class CausalConv(nn.Module):
    """Convolution over (time, frequency) that sees only the present and past frames, optional BatchNorm and ReLU."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel_time: int,
        kernel_freq: int,
        *,
        stride: int = 1,
        groups: int = 1,
        norm: bool = True,
        activation: bool = True,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            inputs,
            outputs,
            (kernel_time, kernel_freq),
            stride=(1, stride),
            padding=(0, kernel_freq // 2),
            groups=groups,
            bias=not norm,
        )
        self.norm: nn.Module = nn.BatchNorm2d(outputs) if norm else nn.Identity()
        self.activation: nn.Module = nn.ReLU() if activation else nn.Identity()

    @property
    def lookback(self) -> int:
        """Past frames one output frame needs."""
        return self.conv.kernel_size[0] - 1

    def cache(self, batch: int, bins: int) -> Tensor:
        """The zero state, `[batch, inputs, lookback, bins]`."""
        return self.conv.weight.new_zeros(batch, self.conv.in_channels, self.lookback, bins)

    def forward(self, sequence: Tensor) -> Tensor:
        """Whole sequences."""
        return self._present(functional.pad(sequence, (0, 0, self.lookback, 0)) if self.lookback else sequence)

    def step(self, frame: Tensor, cache: Tensor) -> tuple[Tensor, Tensor]:
        """One frame and the look-back before it; returns the output frame and the next look-back."""
        seen = torch.cat([cache, frame], dim=2)
        return self._present(seen), seen[:, :, 1:]

    def fold(self) -> None:
        """Folds the BatchNorm into the convolution, in eval mode."""
        if isinstance(self.norm, nn.BatchNorm2d):
            self.conv = fuse_conv_bn_eval(self.conv, self.norm)
            self.norm = nn.Identity()

    def _present(self, seen: Tensor) -> Tensor:
        return self.activation(self.norm(self.conv(seen)))


class InvertedBottleneck(nn.Module):
    """Linear inverted bottleneck: 1x1 expansion, causal depthwise convolution, linear 1x1 projection, residual.

    Source: MobileNetV2 (Sandler et al. 2018, section 3), with look-back in time as in systems 1 and 2. There is no norm
    inside: on the wide tensors BatchNorm is most of a CPU's training time, and the strided convolutions have one.
    """

    def __init__(self, channels: int, wide: int, kernel_time: int, kernel_freq: int = 3) -> None:
        super().__init__()
        self.expand = CausalConv(channels, wide, 1, 1, norm=False)
        self.depthwise = CausalConv(wide, wide, kernel_time, kernel_freq, groups=wide, norm=False)
        self.project = CausalConv(wide, channels, 1, 1, norm=False, activation=False)

    def cache(self, batch: int, bins: int) -> Tensor:
        """The zero state of the depthwise convolution."""
        return self.depthwise.cache(batch, bins)

    def forward(self, sequence: Tensor) -> Tensor:
        """Whole sequences."""
        return sequence + self.project(self.depthwise(self.expand(sequence)))

    def step(self, frame: Tensor, cache: Tensor) -> tuple[Tensor, Tensor]:
        """One frame."""
        wide, cache = self.depthwise.step(self.expand(frame), cache)
        return frame + self.project(wide), cache


class LeakyRelu(nn.Module):
    """max(x, slope x): a leaky ReLU of operators that have integer forms, which LEAKY_RELU itself has not.

    Args:
        slope: below zero, less than one.
    """

    def __init__(self, slope: float) -> None:
        super().__init__()
        self.slope = slope

    def forward(self, values: Tensor) -> Tensor:
        """Element by element."""
        return torch.maximum(values, self.slope * values)


class Upsample(nn.Module):
    """Raises the frequency resolution by a transposed convolution: `bins -> stride (bins - 1) + 1`.

    Padding is 0 and the borders are cropped, because kernel 3 with padding 1 is converted wrongly to TFLite. There is
    no activation: an inverted bottleneck follows, and a ReLU behind a transposed convolution is an operator of its own,
    which int8 delegates leave to plain kernels.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, *, norm: bool = True) -> None:
        super().__init__()
        self.crop = stride // 2
        self.conv = nn.ConvTranspose2d(inputs, outputs, (1, stride + 1), stride=(1, stride), bias=not norm)
        self.norm: nn.Module = nn.BatchNorm2d(outputs) if norm else nn.Identity()

    def forward(self, sequence: Tensor) -> Tensor:
        """Whole sequences or one frame: no look-back."""
        return self.norm(self.conv(sequence)[..., self.crop : -self.crop])

    def fold(self) -> None:
        """Folds the BatchNorm into the convolution, in eval mode."""
        if isinstance(self.norm, nn.BatchNorm2d):
            self.conv = fuse_conv_bn_eval(self.conv, self.norm, transpose=True)
            self.norm = nn.Identity()


class Squeeze(nn.Module):
    """All channels and bins of a frame into one vector: `[batch, channels, frames, bins] -> [batch, frames, width]`.

    A fully connected layer, written as a convolution over all bins so that pruning sees its channels.
    """

    def __init__(self, channels: int, bins: int, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, width, (1, bins))
        self.folded: nn.Linear | None = None

    def forward(self, sequence: Tensor) -> Tensor:
        """Whole sequences."""
        return self.conv(sequence)[..., 0].transpose(1, 2)

    def step(self, frame: Tensor) -> Tensor:
        """One frame, `[batch, channels, 1, bins] -> [batch, width]`; channels last, as devices store them."""
        layer = self.folded if self.folded is not None else self.flat()
        return layer(frame.permute(0, 2, 3, 1).flatten(1))

    def fold(self) -> None:
        """Keeps the reordered weights."""
        self.folded = self.flat()

    def flat(self) -> nn.Linear:
        """The same weights as a fully connected layer over bins and channels."""
        return linear(self.conv.weight.permute(0, 2, 3, 1).flatten(1), self.conv.bias)


class Expand(nn.Module):
    """The way back from `Squeeze`, with a ReLU: `[batch, frames, width] -> [batch, channels, frames, bins]`."""

    def __init__(self, width: int, channels: int, bins: int) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(width, channels, (1, bins))
        self.folded: nn.Linear | None = None

    def forward(self, sequence: Tensor) -> Tensor:
        """Whole sequences."""
        return torch.relu(self.conv(sequence.transpose(1, 2).unsqueeze(-1)))

    def step(self, frame: Tensor) -> Tensor:
        """One frame, `[batch, width] -> [batch, channels, 1, bins]`."""
        shape = (-1, 1, self.conv.kernel_size[1], self.conv.out_channels)
        layer = self.folded if self.folded is not None else self.flat()
        return torch.relu(layer(frame)).reshape(shape).permute(0, 3, 1, 2)

    def fold(self) -> None:
        """Keeps the reordered weights."""
        self.folded = self.flat()

    def flat(self) -> nn.Linear:
        """The same weights as a fully connected layer onto bins and channels."""
        assert self.conv.bias is not None
        weight = self.conv.weight.permute(2, 3, 1, 0).flatten(0, 2)
        return linear(weight, self.conv.bias.repeat(self.conv.kernel_size[1]))


class Recurrent(nn.Module):
    """One GRU layer over time, `[batch, frames, inputs] -> [batch, frames, hidden]` (Cho et al. 2014).

        r = σ(W_ir x + b_ir + W_hr h + b_hr)        z = σ(W_iz x + b_iz + W_hz h + b_hz)
        n = tanh(W_in x + b_in + r (W_hn h + b_hn))   h' = n + z (h - n)

    Training runs the fused `nn.GRU`; one step runs the same weights as six fully connected layers, two for each gate:
    they need no slices, and in integer form every gate has a scale of its own.
    """

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.gru = nn.GRU(inputs, hidden, batch_first=True)
        self.folded: nn.ModuleList | None = None

    @property
    def hidden(self) -> int:
        """Width of the state."""
        return self.gru.hidden_size

    def cache(self, batch: int) -> Tensor:
        """The zero state, `[batch, hidden]`."""
        return self.gru.get_parameter("weight_hh_l0").new_zeros(batch, self.hidden)

    def forward(self, sequence: Tensor) -> Tensor:
        """Whole sequences."""
        return self.gru(sequence)[0]

    def step(self, frame: Tensor, state: Tensor) -> Tensor:
        """One frame, `[batch, inputs]` and `[batch, hidden]` -> the next state, which is also the output."""
        layers = self.folded if self.folded is not None else self.gates()
        reset_in, update_in, new_in, reset_state, update_state, new_state = layers
        reset = torch.sigmoid(reset_in(frame) + reset_state(state))
        update = torch.sigmoid(update_in(frame) + update_state(state))
        new = torch.tanh(new_in(frame) + reset * new_state(state))
        return new + update * (state - new)

    def fold(self) -> None:
        """Keeps the weights gate by gate."""
        self.folded = self.gates()

    def gates(self) -> nn.ModuleList:
        """Fully connected layers from the input to reset, update and new, then from the state to the same."""

        def by_gate(kind: str) -> list[Tensor]:
            return [gate for side in ("ih", "hh") for gate in self.gru.get_parameter(f"{kind}_{side}_l0").chunk(3)]

        pairs = zip(by_gate("weight"), by_gate("bias"), strict=True)
        return nn.ModuleList(linear(weight, bias) for weight, bias in pairs)


class RecurrentLstm(nn.Module):
    """One LSTM layer over time, `[batch, frames, inputs] -> [batch, frames, hidden]` (Hochreiter & Schmidhuber 1997).

        i = σ(W_ii x + W_hi h + b_i)   f = σ(W_if x + W_hf h + b_f)   g = tanh(W_ig x + W_hg h + b_g)
        o = σ(W_io x + W_ho h + b_o)   c' = f c + i g                 h' = o tanh(c')

    Training runs the fused `nn.LSTM`; one step runs the same weights as fully connected layers, two for each gate.
    """

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(inputs, hidden, batch_first=True)
        self.folded: nn.ModuleList | None = None

    @property
    def hidden(self) -> int:
        """Width of the output and of the cell."""
        return self.lstm.hidden_size

    def cache(self, batch: int) -> tuple[Tensor, Tensor]:
        """Zero output and zero cell, `[batch, hidden]` each."""
        zeros = self.lstm.get_parameter("weight_hh_l0").new_zeros(batch, self.hidden)
        return zeros, zeros.clone()

    def forward(self, sequence: Tensor) -> Tensor:
        """Whole sequences."""
        return self.lstm(sequence)[0]

    def step(self, frame: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        """One frame `[batch, inputs]` and two states `[batch, hidden]` -> the next two; the first is the output."""
        layers = self.folded if self.folded is not None else self.gates()
        pairs = zip(layers[:4], layers[4:], strict=True)
        enter, forget, new, leave = (into(frame) + again(hidden) for into, again in pairs)
        cell = torch.sigmoid(forget) * cell + torch.sigmoid(enter) * torch.tanh(new)
        return torch.sigmoid(leave) * torch.tanh(cell), cell

    def fold(self) -> None:
        """Keeps the weights gate by gate."""
        self.folded = self.gates()

    def gates(self) -> nn.ModuleList:
        """Fully connected layers from the input to input, forget, cell and output gate, then from the state."""

        def by_gate(kind: str) -> list[Tensor]:
            return [gate for side in ("ih", "hh") for gate in self.lstm.get_parameter(f"{kind}_{side}_l0").chunk(4)]

        pairs = zip(by_gate("weight"), by_gate("bias"), strict=True)
        return nn.ModuleList(linear(weight, bias) for weight, bias in pairs)


def fold(module: nn.Module) -> None:
    """Prepares every layer below `module` for export: BatchNorms folded, reordered weights made constants.

    The module must be in eval mode.
    """
    for part in list(module.modules()):
        if isinstance(part, CausalConv | Upsample | Squeeze | Expand | Recurrent | RecurrentLstm):
            part.fold()


def linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """A fully connected layer around existing weights."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    layer.weight = nn.Parameter(weight.detach().contiguous())
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach().contiguous())
    return layer
