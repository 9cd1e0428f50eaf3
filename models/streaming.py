"""The streaming contract: one frame in, one frame out, every state explicit, named and typed.

    step(frame, state) -> (output, state)      one frame, what a device runs
    forward(sequence)  -> outputs              whole sequences, what training runs

Both agree to 1e-5 on random weights and inputs, for every registered network; one property test holds them to it. All
tensors are float32; frames are `[batch, channels, 1, bins]`, sequences `[batch, channels, frames, bins]`.
"""

from __future__ import annotations

import abc
from typing import ClassVar

import torch
from torch import Tensor, nn

from earshot.core.config import Config
from earshot.core.errors import ModelError
from earshot.models.frontend import Frontend

State = dict[str, Tensor]


class StreamingModel(nn.Module, abc.ABC):
    """Base of every network.

    A subclass says what it needs in `Params` (numbers only, so that a recipe sizes it), is built as
    `Network(frontend, params)`, and implements `initial_state`, `step` and `forward`.

    Attributes:
        causal: False for networks that look at the future: they can teach, but never run on a real-time target.
    """

    Params: ClassVar[type[Config]]
    causal: ClassVar[bool] = True

    def __init__(self, frontend: Frontend, params: Config) -> None:
        super().__init__()
        self.frontend = frontend
        self.params = params

    @abc.abstractmethod
    def initial_state(self, batch: int = 1) -> State:
        """All states at the start of a stream. Shapes are read off the layers, so that they hold after pruning."""

    @abc.abstractmethod
    def step(self, frame: Tensor, state: State) -> tuple[Tensor, State]:
        """Enhances one frame: `[batch, channels, 1, bins]` -> mask `[batch, 1, 1, bins]` and the next state."""

    @abc.abstractmethod
    def forward_with_latent(self, sequence: Tensor) -> tuple[Tensor, Tensor]:
        """Masks `[batch, 1, frames, bins]` and the bottleneck's latent `[batch, frames, width]`."""

    def forward(self, sequence: Tensor) -> Tensor:
        """Masks `[batch, 1, frames, bins]` for features `[batch, channels, frames, bins]`."""
        return self.forward_with_latent(sequence)[0]

    def prepare_for_export(self) -> StreamingModel:
        """A copy in eval mode with every BatchNorm folded; same outputs to float32 rounding."""
        raise ModelError(f"{type(self).__name__} does not say how its norms fold", "implement prepare_for_export()")

    def layer_params(self) -> Config:
        """`params` with the sizes the layers have now, so that a pruned network can be rebuilt from its class."""
        raise ModelError(
            f"{type(self).__name__} does not say its layers' sizes", "implement layer_params(), or skip prune"
        )

    def enhance(self, noisy: Tensor) -> Tensor:
        """Enhances whole signals: float32 `[batch, samples]` in and out, aligned."""
        spectrum = self.frontend.spectrum(noisy)
        mask = self(self.frontend.features(spectrum))
        return self.frontend.signal(self.frontend.apply_mask(spectrum, mask), noisy.shape[-1])

    @torch.no_grad()
    def stream(self, sequence: Tensor) -> Tensor:
        """`forward` computed frame by frame with `step`; for tests and calibration."""
        state = self.initial_state(sequence.shape[0])
        outputs = []
        for index in range(sequence.shape[2]):
            output, state = self.step(sequence[:, :, index : index + 1], state)
            outputs.append(output)
        return torch.cat(outputs, dim=2)
