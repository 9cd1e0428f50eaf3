"""Runs a stream model frame by frame on LiteRT: what calibration and parity stand on."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from earshot.core.errors import ModelError
from earshot.quantize.graph import Graph, Quantization
from earshot.quantize.metadata import FRAME, MASK


def to_integer(values: np.ndarray, quantization: Quantization | None, dtype: str) -> np.ndarray:
    """Real numbers in the form a tensor holds: rounded half to even and clipped, or unchanged for float tensors."""
    if quantization is None:
        return values.astype(dtype)
    limits = np.iinfo(dtype)
    integers = np.round(values / np.float32(quantization.scale)) + quantization.zero_point
    return np.clip(integers, limits.min, limits.max).astype(dtype)


def to_real(values: np.ndarray, quantization: Quantization | None) -> np.ndarray:
    """The float32 numbers a tensor's values stand for."""
    if quantization is None:
        return values.astype(np.float32)
    return (values.astype(np.float32) - quantization.zero_point) * np.float32(quantization.scale)


class StreamRunner:
    """A stream model with its states.

    Args:
        graph: the graph, already read.
        content: the bytes it was read from.
        observe: keep every tensor readable after a step; plain kernels, no delegate.

    Raises:
        ModelError: LiteRT cannot load or prepare the graph.
    """

    def __init__(self, graph: Graph, content: bytes, *, observe: bool = False) -> None:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        from earshot.quantize.quiet import quiet

        self._graph = graph
        kinds = OpResolverType
        resolver = kinds.BUILTIN_WITHOUT_DEFAULT_DELEGATES if observe else kinds.BUILTIN
        try:
            with quiet():
                self._interpreter = Interpreter(
                    model_content=content,
                    num_threads=1,
                    experimental_op_resolver_type=resolver,
                    experimental_preserve_all_tensors=observe,
                )
                self._interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise ModelError(f"{graph.source}: LiteRT cannot prepare it ({reason})") from error
        self._states: dict[int, np.ndarray] = {}
        self.reset()

    def reset(self) -> None:
        """Back to the start of a stream: every state is zero."""
        self._states = {}
        for name in self._graph.state_pairs:
            tensor = self._graph.tensors[self._graph.inputs[name]]
            zero = np.zeros(tensor.shape, np.float32)
            self._states[tensor.index] = to_integer(zero, tensor.quantization, tensor.dtype)

    def step(self, frame: np.ndarray) -> np.ndarray:
        """One frame of features `[1, 1, bins, channels]` -> the mask `[1, 1, bins, 1]` in the file's own dtype."""
        graph, interpreter = self._graph, self._interpreter
        source = graph.tensors[graph.inputs[FRAME]]
        interpreter.set_tensor(source.index, to_integer(frame, source.quantization, source.dtype))
        for index, state in self._states.items():
            interpreter.set_tensor(index, state)
        interpreter.invoke()
        mask: np.ndarray = interpreter.get_tensor(graph.outputs[MASK])
        for entry, leaving in graph.state_pairs.items():
            self._carry(graph.inputs[entry], graph.outputs[leaving])
        return mask

    def run(self, frames: np.ndarray) -> Iterator[np.ndarray]:
        """Masks of `[frames, 1, 1, bins, channels]`, from the start of a stream."""
        self.reset()
        for frame in frames:
            yield self.step(frame)

    def tensor(self, index: int) -> np.ndarray:
        """A tensor's values after a step, when observing."""
        values: np.ndarray = self._interpreter.get_tensor(index)
        return values

    def state(self, name: str) -> np.ndarray:
        """A state as it enters the next step, by its signature name: the float32 numbers it stands for."""
        tensor = self._graph.tensors[self._graph.inputs[name]]
        return to_real(self._states[tensor.index], tensor.quantization)

    def _carry(self, entry: int, leaving: int) -> None:
        value = self._interpreter.get_tensor(leaving)
        inner, outer = self._graph.tensors[entry], self._graph.tensors[leaving]
        alike = inner.quantization is None or inner.quantization.same_as(outer.quantization)
        if inner.dtype != outer.dtype or not alike:
            value = to_integer(to_real(value, outer.quantization), inner.quantization, inner.dtype)
        self._states[entry] = value
