"""The streaming contract: one frame in, one frame out, every state explicit, named and typed.

    step(frame, state) -> (output, state)      one frame, what a device runs
    forward(sequence)  -> outputs              whole sequences, what training runs
    trace(sequence)    -> Trace                the same, with what distillation compares

Both agree to 1e-5 on random weights and inputs, for every registered network; one property test holds them to it. All
tensors are float32; frames are `[batch, channels, 1, bins]`, sequences `[batch, channels, frames, bins]`.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from earshot.core.config import Config
from earshot.core.errors import ModelError
from earshot.models.frontend import Frontend

State = dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class Trace:
    """What a network made of a sequence, and what it went through on the way.

    Attributes:
        output: `[batch, outputs, frames, bins]`.
        latent: the bottleneck, `[batch, frames, width]`.
        layers: features of its stages from input to output, `[batch, channels, frames, bins]` each; frames and bins
            may be fewer than the sequence's where a stage works at a lower resolution.
        views: of networks with attention, its maps by kind, `[batch, channels, frames, bins]` each, one a block from
            input to output.
    """

    output: Tensor
    latent: Tensor
    layers: tuple[Tensor, ...]
    views: Mapping[str, tuple[Tensor, ...]] = field(default_factory=dict)


class StreamingModel(nn.Module, abc.ABC):
    """Base of every network.

    A subclass says what it needs in `Params` (numbers only, so that a recipe sizes it), is built as
    `Network(frontend, params)`, and implements `trace`; a causal one also `initial_state` and `step`.

    Attributes:
        causal: False for networks that look at the future: they can teach, but never run on a real-time target.
        usual: the frontend it was published or designed with.
    """

    Params: ClassVar[type[Config]]
    causal: ClassVar[bool] = True
    usual: ClassVar[Frontend] = Frontend()

    def __init__(self, frontend: Frontend, params: Config) -> None:
        super().__init__()
        self.frontend = frontend
        self.params = params

    def initial_state(self, batch: int = 1) -> State:
        """All states at the start of a stream. Shapes are read off the layers, so that they hold after pruning."""
        raise self._cannot_stream()

    def wide_states(self) -> frozenset[str]:
        """Names of the states that 8 bits do not hold in integer files, which give them 16.

        They are running means: an update is a small share of a difference, and on a coarse grid it rounds to nothing,
        so that the mean stands still for good.
        """
        return frozenset()

    def step(self, frame: Tensor, state: State) -> tuple[Tensor, State]:
        """Enhances one frame: `[batch, inputs, 1, bins]` -> `[batch, outputs, 1, bins]` and the next state."""
        raise self._cannot_stream()

    @abc.abstractmethod
    def trace(self, sequence: Tensor) -> Trace:
        """Whole sequences `[batch, inputs, frames, bins]`, with what the network went through."""

    def forward(self, sequence: Tensor) -> Tensor:
        """Outputs `[batch, outputs, frames, bins]` for features `[batch, inputs, frames, bins]`."""
        return self.trace(sequence).output

    def prepare_for_export(self) -> StreamingModel:
        """A copy in eval mode with every BatchNorm folded; same outputs to float32 rounding."""
        raise ModelError(f"{type(self).__name__} does not say how its norms fold", "implement prepare_for_export()")

    def fixed_layers(self) -> tuple[nn.Module, ...]:
        """Layers whose outputs the frontend sizes, one for each bin: pruning takes none away."""
        return ()

    def layer_params(self) -> Config:
        """`params` with the sizes the layers have now, so that a pruned network can be rebuilt from its class."""
        raise ModelError(
            f"{type(self).__name__} does not say its layers' sizes", "implement layer_params(), or skip prune"
        )

    def enhance(self, noisy: Tensor) -> Tensor:
        """Enhances whole signals: float32 `[batch, samples]` or `[batch, channels, samples]` -> `[batch, samples]`."""
        analysed = self.frontend.analyse(noisy)
        return self.frontend.synthesise(analysed, self(analysed.sequence))

    @torch.no_grad()
    def stream(self, sequence: Tensor) -> Tensor:
        """`forward` computed frame by frame with `step`; for tests and calibration."""
        state = self.initial_state(sequence.shape[0])
        outputs = []
        for index in range(sequence.shape[2]):
            output, state = self.step(sequence[:, :, index : index + 1], state)
            outputs.append(output)
        return torch.cat(outputs, dim=2)

    def _cannot_stream(self) -> ModelError:
        return ModelError(
            f"{type(self).__name__} sees whole signals and cannot run frame by frame", "use it as a teacher only"
        )
