"""The fake-quantised reference: a stream model's graph in float arithmetic, every tensor rounded as its integers are.

It is an executor of its own beside LiteRT, so that the integer file can be held against something; and it takes all
clips of an evaluation set forward together, frame by frame, which is far faster than streaming them one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from earshot.core.errors import ModelError
from earshot.quantize.graph import Graph, Operator, TensorInfo
from earshot.quantize.kernels import FUSED, KERNELS, Call
from earshot.quantize.metadata import FRAME, MASK

States = dict[str, Tensor]
Kind = TypeVar("Kind")


@dataclass(frozen=True)
class Grid:
    """The numbers a tensor can hold: multiples of `scale` from `low` to `high` steps; all of them without a scale."""

    scale: float | None
    low: int = 0
    high: int = 0

    @classmethod
    def of(cls, tensor: TensorInfo) -> Grid:
        """The grid of an activation."""
        if tensor.data is not None or tensor.quantization is None:
            return cls(None)
        limits, zero = np.iinfo(tensor.dtype), tensor.quantization.zero_point
        return cls(tensor.quantization.scale, limits.min - zero, limits.max - zero)

    def round(self, value: Tensor) -> Tensor:
        """The nearest number of the grid, half to even."""
        if self.scale is None:
            return value
        return torch.round(value / self.scale).clamp_(self.low, self.high).mul_(self.scale)


class Reference:
    """Executes a float or integer stream model.

    Raises:
        ModelError: the graph holds an operator the reference does not know; names it with its index.
    """

    def __init__(self, graph: Graph) -> None:
        unknown = [operator for operator in graph.operators if operator.name not in KERNELS]
        if unknown:
            named = ", ".join(f"{operator.name} (operator {operator.index})" for operator in unknown)
            raise ModelError(f"{graph.source}: the reference does not know {named}", f"known: {', '.join(KERNELS)}")
        self._graph = graph
        self._grids = {tensor.index: Grid.of(tensor) for tensor in graph.tensors}
        self._values: dict[int, Tensor] = {}
        self._indices: dict[int, np.ndarray] = {}
        for tensor in graph.tensors:
            if tensor.data is None:
                continue
            if tensor.quantization is None and tensor.dtype != "float32":
                self._indices[tensor.index] = tensor.data
            else:
                self._values[tensor.index] = torch.from_numpy(np.asarray(tensor.real(), np.float32))[None]

    def initial_state(self, clips: int) -> States:
        """Zero states, signature input name -> `[clips, *shape]`."""
        return {
            name: torch.zeros(clips, *self._graph.tensors[self._graph.inputs[name]].shape)
            for name in self._graph.state_pairs
        }

    @torch.no_grad()
    def step(self, frame: Tensor, states: States) -> tuple[Tensor, States]:
        """One frame of all clips, `[clips, 1, 1, bins, channels]` -> `[clips, 1, 1, bins, outputs]`, next states."""
        graph, values = self._graph, dict(self._values)
        for name, value in {FRAME: frame, **states}.items():
            values[graph.inputs[name]] = self._round(graph.inputs[name], value)
        for operator in graph.operators:
            self._execute(operator, values)
        following = {entry: values[graph.outputs[leaving]] for entry, leaving in graph.state_pairs.items()}
        return values[graph.outputs[MASK]], following

    def run(self, features: Tensor, advance: Callable[[], object] | None = None) -> Tensor:
        """Clips from the start of a stream, `[clips, channels, frames, bins]` -> `[clips, outputs, frames, bins]`.

        `advance` is called after every frame.
        """
        states = self.initial_state(features.shape[0])
        masks = []
        for frame in features.permute(2, 0, 3, 1).to(torch.float32):
            mask, states = self.step(frame[:, None, None], states)
            masks.append(mask[:, 0, 0].transpose(1, 2))
            if advance is not None:
                advance()
        return torch.stack(masks, 2)

    def _execute(self, operator: Operator, values: dict[int, Tensor]) -> None:
        shapes = tuple(self._graph.tensors[index].shape for index in operator.outputs)
        call = Call(operator, _pick(operator.inputs, values), _pick(operator.inputs, self._indices), shapes)
        produced = KERNELS[operator.name](call)
        fused = FUSED.get(operator.options.get("fusedActivationFunction", 0))
        for index, value in zip(
            operator.outputs, [produced] if isinstance(produced, Tensor) else produced, strict=True
        ):
            values[index] = self._round(index, fused(value) if fused else value)

    def _round(self, index: int, value: Tensor) -> Tensor:
        """A tensor's value on its grid."""
        return self._grids[index].round(value)


def _pick(indices: Sequence[int], table: Mapping[int, Kind]) -> tuple[Kind | None, ...]:
    return tuple(table.get(index) for index in indices)
