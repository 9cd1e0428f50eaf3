"""Norms that know only the past: running means over present and past frames, with their moments as states.

    a_t = max(1/t, α)       μ_t = (1 - a_t) μ_{t-1} + a_t mean x_t       m_t = (1 - a_t) m_{t-1} + a_t mean x_t²
    y_t = γ (x_t - μ_t) / sqrt(m_t - μ_t² + ε) + β

α = 0 gives the cumulative norm (Luo & Mesgarani 2019, causal Conv-TasNet), α > 0 forgets what is long past (system 2,
arXiv 2509.05079, reconstructed there). The states are the count t and both moments; all start at zero. In float32 t
counts up to 2^24 (nine hours of 500 columns a second) and stays there. In an integer file it stays at the length of the
calibration clips: from there on 1/t is the α of a mean that forgets.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from earshot.models.streaming import State
from earshot.models.wave_layers import Walk

_EPSILON = 1e-5
_AT_ONCE = 8192  # frames; memory grows with their square
_BLOCK = 1024  # of longer sequences


class RunningNorm(nn.Module):
    """The norm above, over what `spans` names, for `[batch, channels, frames, bins]` or channels-only features.

    Args:
        channels: of the features; each has its γ and β.
        spans: `bins` = one mean for each channel (causal instance norm), `frame` = one for all channels (cumulative
            layer norm).
        floor: α.
    """

    wide = True  # integer files compute it on 16 bits

    def __init__(self, channels: int, spans: str, floor: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.dims = (3,) if spans == "bins" else (1, 3)
        self.floor = floor
        self.kept = channels if spans == "bins" else 1

    def states(self, name: str, batch: int) -> State:
        """Count `[batch, 1]` and moments `[batch, kept]`."""
        zeros = self.weight.new_zeros(batch, self.kept)
        return {
            f"{name}_count": self.weight.new_zeros(batch, 1),
            f"{name}_mean": zeros,
            f"{name}_square": zeros.clone(),
        }

    def forward(self, sequence: Tensor) -> Tensor:
        """Whole sequences of any length."""
        mean, square = (
            running_means(moment.mean(self.dims, keepdim=True), self.floor) for moment in (sequence, sequence.square())
        )
        return self._normed(sequence, mean, square)

    def step(self, name: str, walk: Walk, frame: Tensor) -> Tensor:
        """One frame, `[batch, channels, 1, bins]`."""
        count = walk.take(f"{name}_count") + 1
        if self.floor:
            count = torch.clamp_max(count, 1 / self.floor)
        walk.following[f"{name}_count"] = count
        share = (1 / count)[:, :, None, None]
        moments = []
        for kind, value in (("mean", frame), ("square", frame * frame)):
            held = walk.take(f"{name}_{kind}").reshape(len(frame), self.kept, 1, 1)
            held = held + share * (value.mean(self.dims, keepdim=True) - held)
            walk.following[f"{name}_{kind}"] = held.reshape(len(frame), self.kept)
            moments.append(held)
        return self._normed(frame, *moments)

    def _normed(self, features: Tensor, mean: Tensor, square: Tensor) -> Tensor:
        spread = torch.rsqrt(torch.relu(square - mean * mean) + _EPSILON)
        return (features - mean) * spread * self.weight + self.bias


def running_means(values: Tensor, floor: float) -> Tensor:
    """μ of values `[batch, channels, frames, spans]`, alike: a product with the triangular matrix of all weights.

    Long sequences go block by block, and what is left of the mean before a block is added.
    """
    frames = values.shape[2]
    if frames <= _AT_ONCE:
        return torch.einsum("ts,bcsk->bctk", running_weights(frames, floor, values)[0], values)
    found = [torch.zeros_like(values[:, :, :1])]
    for first in range(0, frames, _BLOCK):
        block = values[:, :, first : first + _BLOCK]
        weights, left = running_weights(block.shape[2], floor, values, first)
        found.append(torch.einsum("ts,bcsk->bctk", weights, block) + left[:, None] * found[-1][:, :, -1:])
    return torch.cat(found[1:], 2)


def running_weights(frames: int, floor: float, like: Tensor, before: int = 0) -> tuple[Tensor, Tensor]:
    """What frames weigh in the running means of a block.

    Args:
        frames: of the block.
        floor: α.
        like: has the device and the type of what is returned.
        before: frames before the block.

    Returns:
        W `[frames, frames]` and v `[frames]`: μ_t = sum_s W[t, s] x_s + v_t μ_{before the block}, with
        W[t, s] = a_s prod_{u = s+1..t} (1 - a_u) for s <= t, else 0, and v_t = prod_{u <= t} (1 - a_u).
    """
    times = torch.arange(before + 1, before + frames + 1, device=like.device, dtype=torch.float64)
    shares = torch.clamp_min(1 / times, floor)
    kept = torch.cat([times.new_zeros(1), torch.log1p(-shares[1:])]).cumsum(0)
    decay = torch.exp(kept[:, None] - kept[None]).tril()
    left = (1 - shares[0]) * torch.exp(kept)
    return (shares[None] * decay).to(like.dtype), left.to(like.dtype)
