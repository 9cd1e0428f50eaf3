"""System 9: DPTNet, a dual-path transformer on a learned basis (Interspeech 2020, arXiv 2007.13975).

Named by DFKD (arXiv 2502.04711) as one of the networks it was shown on. Known, from the authors' code: all layers and
widths, for two speakers at 8 kHz. The transformer's feed-forward part begins with an LSTM in both directions, which
takes the place of positions. Computed: 2,830,785 parameters; with two outputs 2,834,945, and without the 149,760 of the
attentions' input projections 2.69 M, the published figure (recalled; that it leaves them out is inferred).
Reconstructed: one output; zeros at both ends, so that the first and last samples get every overlap.

    samples ─> basis, ReLU ─> norm, 1x1 ─> chunks ─> [transformer within chunks, transformer across chunks] x blocks
    output <─ inverse basis <─ basis * ReLU(1x1(tanh * sigmoid)) <─ overlap-add <─ PReLU, 1x1 <────────────────┘

The published basis moves by one sample; `{kernel: 16, stride: 8, chunk: 100}` has an eighth of the columns.
"""

from __future__ import annotations

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from earshot.core.config import Config
from earshot.models.chunks import merge, split
from earshot.models.frontend import Frontend
from earshot.models.module_list import Parts
from earshot.models.streaming import StreamingModel, Trace

_EPSILON = 1e-8  # of the norm over a whole signal


class DptnetParams(Config):
    """Sizes of the network.

    Attributes:
        basis: width of the learned basis (E).
        kernel, stride: of the basis in samples (W and W / 2).
        width: between transformers (N), a multiple of heads.
        heads: of each attention.
        hidden: of each LSTM and direction (H).
        blocks: pairs of transformers (D).
        chunk: columns of the basis in a chunk (K), half of it shared with the next.
    """

    basis: int = Field(default=256, ge=1)
    kernel: int = Field(default=2, ge=1)
    stride: int = Field(default=1, ge=1)
    width: int = Field(default=64, ge=1)
    heads: int = Field(default=4, ge=1)
    hidden: int = Field(default=128, ge=1)
    blocks: int = Field(default=6, ge=1)
    chunk: int = Field(default=250, ge=2, multiple_of=2)

    @model_validator(mode="after")
    def _consistent(self) -> DptnetParams:
        if self.kernel < self.stride:
            raise ValueError(f"a kernel of {self.kernel} leaves samples out at stride {self.stride}")
        if self.width % self.heads:
            raise ValueError(f"a width of {self.width} is no multiple of {self.heads} heads")
        return self


class Dptnet(StreamingModel):
    """DPTNet, dual-path transformer on samples: a teacher (system 9, Interspeech 2020)."""

    Params = DptnetParams
    params: DptnetParams
    usual = Frontend(kind="wave", hop=128)
    causal = False

    def __init__(self, frontend: Frontend, params: DptnetParams) -> None:
        super().__init__(frontend, params)
        if frontend.kind != "wave" or frontend.channels != 1:
            raise ValueError("it works on samples of one microphone: frontend {kind: wave}")
        width = params.width
        self.encoder = nn.Conv1d(1, params.basis, params.kernel, params.stride, bias=False)
        self.norm = nn.GroupNorm(1, params.basis, eps=_EPSILON)
        self.into = nn.Conv1d(params.basis, width, 1, bias=False)
        self.within: Parts[Transformer] = Parts(Transformer(params) for _ in range(params.blocks))
        self.across: Parts[Transformer] = Parts(Transformer(params) for _ in range(params.blocks))
        self.out = nn.Sequential(nn.PReLU(), nn.Conv2d(width, width, 1))
        self.value, self.gate = nn.Conv1d(width, width, 1), nn.Conv1d(width, width, 1)
        self.mask = nn.Conv1d(width, params.basis, 1, bias=False)
        self.decoder = nn.ConvTranspose1d(params.basis, 1, params.kernel, params.stride, bias=False)

    def trace(self, sequence: Tensor) -> Trace:
        """Enhanced chunks `[batch, 1, frames, hop]`; layers are the blocks' outputs, the latent what makes the mask.

        Layers are `[batch, width, columns, 1]`, the latent `[batch, columns, width]`, at the basis' rate.
        """
        signal, stride = sequence.flatten(2), self.params.stride
        time, margin = signal.shape[-1], self.params.kernel - stride
        basis = torch.relu(self.encoder(functional.pad(signal, (margin, margin + -(time + margin) % stride))))
        columns, half = basis.shape[-1], self.params.chunk // 2
        rest = 2 * half - (half + columns) % (2 * half)  # an even number of chunks, as the authors'
        chunks = split(self.into(self.norm(basis)), 2 * half, half, half + rest)
        layers = []
        for within, across in zip(self.within, self.across, strict=True):
            chunks = _along(across, _along(within, chunks).transpose(2, 3)).transpose(2, 3)
            layers.append(merge(chunks, half, columns).unsqueeze(-1))
        merged = merge(self.out(chunks), half, columns)
        masked = basis * torch.relu(self.mask(torch.tanh(self.value(merged)) * torch.sigmoid(self.gate(merged))))
        enhanced = self.decoder(masked)[..., margin : margin + time]
        return Trace(enhanced.unflatten(-1, (-1, self.frontend.hop)), merged.transpose(1, 2), tuple(layers))


class Transformer(nn.Module):
    """Improved transformer: attention, then LSTM and linear in place of a feed-forward layer, both residual."""

    def __init__(self, params: DptnetParams) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(params.width, params.heads, batch_first=True)
        self.lstm = nn.LSTM(params.width, params.hidden, batch_first=True, bidirectional=True)
        self.linear = nn.Linear(2 * params.hidden, params.width)
        self.norms: Parts[nn.LayerNorm] = Parts(nn.LayerNorm(params.width) for _ in range(2))

    def forward(self, rows: Tensor) -> Tensor:
        """`[rows, length, width]` of the same shape."""
        rows = self.norms.part(0)(rows + self.attention(rows, rows, rows, need_weights=False)[0])
        return self.norms.part(1)(rows + self.linear(torch.relu(self.lstm(rows)[0])))


def _along(transformer: Transformer, chunks: Tensor) -> Tensor:
    """A transformer over the last axis of `[batch, width, rows, length]`."""
    batch, _, rows, _ = chunks.shape
    seen = transformer(chunks.permute(0, 2, 3, 1).flatten(0, 1))
    return seen.unflatten(0, (batch, rows)).permute(0, 3, 1, 2)
