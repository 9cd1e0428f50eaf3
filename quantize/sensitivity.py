"""How much each layer of an integer file loses to rounding: signal-to-quantisation-noise ratios over streamed sound.

    SQNR = 10 log10( sum x² / sum (x - q)² )      x: what the float file computes, q: what the integers stand for

Both files run frame by frame on LiteRT's plain kernels, each with its own states, so that a layer's error holds those
of all before it. Alone, a layer gets the float file's inputs, computes with the rounded weights and rounds its result
to the integer file's grid: its own share of the noise, simulated in float arithmetic (`kernels`, `reference.Grid`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from earshot.quantize.graph import Graph, Operator
from earshot.quantize.metadata import MASK
from earshot.quantize.parity import IDENTICAL_DB, snr_db
from earshot.quantize.ranges import MOVES
from earshot.quantize.runner import StreamRunner, to_real

CHUNK = 50  # frames held in memory at once
Values = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Model:
    """A stream model's file, read."""

    graph: Graph
    content: bytes


@dataclass(frozen=True)
class LayerNoise:
    """An operator of the float graph, and what its result loses in the integer file.

    Attributes:
        operator: of the float graph.
        location: name of its first output.
        sqnr_db: with the errors of all layers before it; 200 where there is none.
        own_sqnr_db: of its own rounding alone; None where the reference does not know the operator.
    """

    operator: Operator
    location: str
    sqnr_db: float
    own_sqnr_db: float | None


@dataclass(frozen=True)
class Noise:
    """What an integer file loses.

    Attributes:
        layers: one an operator that computes on 8 bits, in the graph's order; those that only move values and those
            whose results are not integer are left out.
        mask_snr_db: of what the file gives out.
    """

    layers: tuple[LayerNoise, ...]
    mask_snr_db: float


@dataclass
class Power:
    """Power of a signal and of its error, summed over frames."""

    signal: float = 0.0
    error: float = 0.0

    def add(self, exact: np.ndarray, found: np.ndarray) -> None:
        """Adds values and what stands in their place."""
        wanted = exact.astype(np.float64)
        self.signal += float(np.square(wanted).sum())
        self.error += float(np.square(wanted - found).sum())

    @property
    def db(self) -> float:
        """The ratio in dB; 200 where there is no error."""
        if self.error == 0:
            return IDENTICAL_DB
        return min(10 * math.log10(max(self.signal, 1e-30) / self.error), IDENTICAL_DB)


@dataclass(frozen=True)
class _Layer:
    operator: Operator
    location: str
    alone: Callable[[Values], np.ndarray] | None
    together: Power = field(default_factory=Power)
    own: Power = field(default_factory=Power)


def layer_noise(
    floating: Model, integer: Model, frames: np.ndarray, advance: Callable[[], object] | None = None
) -> Noise:
    """Runs both files over the same frames.

    Args:
        floating, integer: the files; tensors of one name are the same.
        frames: features of one stream, float32 `[frames, 1, 1, bins, channels]`.
        advance: called after every frame.

    Raises:
        ModelError: LiteRT cannot prepare a file.
    """
    layers = [
        _Layer(one, where, _alone(floating.graph, integer.graph, where))
        for one, where in _computing(floating.graph, integer.graph)
    ]
    mask, mask_of = (
        Power(),
        {
            side: model.graph.tensors[model.graph.outputs[MASK]].name
            for side, model in (("float", floating), ("integer", integer))
        },
    )
    for exact, found in zip(_observed(floating, frames), _observed(integer, frames, advance), strict=True):
        mask.add(exact[mask_of["float"]], found[mask_of["integer"]])
        for layer in layers:
            layer.together.add(exact[layer.location], found[layer.location])
            if layer.alone is not None:
                layer.own.add(exact[layer.location], layer.alone(exact))
    return Noise(
        tuple(
            LayerNoise(one.operator, one.location, one.together.db, one.own.db if one.alone is not None else None)
            for one in layers
        ),
        mask.db,
    )


def masks_snr_db(wanted: np.ndarray, model: Model, frames: np.ndarray) -> float:
    """SNR in dB of a file's masks over the same frames as the wanted ones."""
    return snr_db(wanted, masks(model, frames))


def masks(model: Model, frames: np.ndarray) -> np.ndarray:
    """What a file gives out, as real numbers: `[frames, 1, 1, bins, outputs]`."""
    quantization = model.graph.tensors[model.graph.outputs[MASK]].quantization
    return np.stack([to_real(one, quantization) for one in StreamRunner(model.graph, model.content).run(frames)])


def _computing(exact: Graph, rounded: Graph) -> Iterator[tuple[Operator, str]]:
    """Operators whose results are computed and rounded, with their outputs' name."""
    integer = {tensor.name for tensor in rounded.tensors if tensor.quantization is not None}
    for operator in exact.operators:
        tensor = exact.tensors[operator.outputs[0]]
        if operator.name not in MOVES and exact.is_activation(tensor.index) and tensor.name in integer:
            yield operator, tensor.name


def _observed(model: Model, frames: np.ndarray, advance: Callable[[], object] | None = None) -> Iterator[Values]:
    """Every tensor's real values by name, some frames at a time: `[frames, *shape]`."""
    graph, runner = model.graph, StreamRunner(model.graph, model.content, observe=True)
    used = {index for operator in graph.operators for index in (*operator.inputs, *operator.outputs)}
    tensors = [tensor for tensor in graph.tensors if tensor.index in used and graph.is_activation(tensor.index)]
    for begin in range(0, len(frames), CHUNK):
        seen: dict[str, list[np.ndarray]] = {tensor.name: [] for tensor in tensors}
        for frame in frames[begin : begin + CHUNK]:
            runner.step(frame)
            for tensor in tensors:
                seen[tensor.name].append(to_real(runner.tensor(tensor.index), tensor.quantization))
            if advance is not None:
                advance()
        yield {name: np.stack(values) for name, values in seen.items()}


def _alone(exact: Graph, rounded: Graph, location: str) -> Callable[[Values], np.ndarray] | None:
    """The integer file's operator on exact inputs; None where the reference does not know it."""
    import torch

    from earshot.quantize.kernels import FUSED, KERNELS, Call
    from earshot.quantize.reference import Grid

    makers = {index: operator for operator in rounded.operators for index in operator.outputs}
    output = next(tensor for tensor in rounded.tensors if tensor.name == location and tensor.index in makers)
    operator, names = makers[output.index], {tensor.name for tensor in exact.tensors}
    if operator.name not in KERNELS:
        return None
    constants: list[torch.Tensor | None] = []
    indices: list[np.ndarray | None] = []
    sources: list[str] = []
    for index in operator.inputs:
        tensor = rounded.tensors[index] if index >= 0 else None
        real = tensor is not None and (tensor.quantization is not None or tensor.dtype == "float32")
        known = tensor.data if tensor is not None else None
        source = ""
        if tensor is not None and known is None:
            source = _meant(rounded, makers, index, names)
            if source not in names:
                return None
        constants.append(
            torch.from_numpy(np.asarray(tensor.real(), np.float32))[None]
            if tensor is not None and known is not None and real
            else None
        )
        indices.append(known if not real else None)
        sources.append(source)
    grid, fused = Grid.of(output), FUSED.get(operator.options.get("fusedActivationFunction", 0))

    def run(values: Values) -> np.ndarray:
        inputs = [
            torch.from_numpy(values[source]) if source else constant
            for source, constant in zip(sources, constants, strict=True)
        ]
        produced = KERNELS[operator.name](Call(operator, tuple(inputs), tuple(indices), (output.shape,)))
        assert isinstance(produced, torch.Tensor)
        found: np.ndarray = grid.round(fused(produced) if fused else produced).numpy()
        return found

    return run


def _meant(rounded: Graph, makers: Mapping[int, Operator], index: int, names: set[str]) -> str:
    """The float graph's name of what a tensor stands for; behind a border, of what the border rounds."""
    while rounded.tensors[index].name not in names and index in makers:
        index = makers[index].inputs[0]
    return rounded.tensors[index].name
