"""What a graph is lowered to: steps, each one operator with the kernel calls that carry it out, and their constants."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from earshot.core.errors import ModelError
from earshot.quantize.graph import Graph, Operator, TensorInfo

CTYPES = {
    "int8": "int8_t",
    "int16": "int16_t",
    "int32": "int32_t",
    "int64": "int64_t",
    "uint16": "uint16_t",
    "float32": "float",
    "float64": "double",
}


@dataclass(frozen=True, eq=False)
class Table:
    """A constant array in flash."""

    name: str
    values: np.ndarray

    @property
    def ctype(self) -> str:
        """The element's type in C."""
        return CTYPES[str(self.values.dtype)]


Field = int | float | tuple[int, ...] | Table | None


@dataclass(frozen=True)
class Struct:
    """A constant struct of a kernel's parameters."""

    name: str
    ctype: str
    fields: Mapping[str, Field]


@dataclass(frozen=True)
class Memory:
    """Where a tensor's elements begin; `offset` in elements. `scratch` is a step's own room instead."""

    tensor: int = -1
    offset: int = 0
    scratch: bool = False


Argument = Memory | Table | Struct | int | float


@dataclass(frozen=True)
class Call:
    """One call of a kernel."""

    kernel: str
    arguments: tuple[Argument, ...]


def constants(calls: Iterable[Call]) -> list[Table | Struct]:
    """Tables and structs of calls, each once, those that others refer to first."""
    found: dict[str, Table | Struct] = {}
    for call in calls:
        for argument in call.arguments:
            values = argument.fields.values() if isinstance(argument, Struct) else ()
            for item in (*values, argument):
                if isinstance(item, Table | Struct):
                    found[item.name] = item
    return list(found.values())


@dataclass(frozen=True)
class Part:
    """A tensor that may lie within another, `offset` elements from its start; the copies between them then go."""

    tensor: int
    whole: int
    offset: int


@dataclass(frozen=True)
class Step:
    """One operator, carried out.

    Attributes:
        operators: the operators of the graph it stands for, the last one first; more than one where some were folded
            into it.
        reads, writes: tensors that move through memory.
        calls: the kernel calls, in order.
        scratch: bytes of memory the calls need for themselves.
        in_place: reads whose memory the output may take over: element for element the same size and order.
        parts: outputs that may lie within an input, or inputs within the output.
        macs: multiplications of weights with activations.
    """

    operators: tuple[Operator, ...]
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    calls: tuple[Call, ...]
    scratch: int = 0
    in_place: tuple[int, ...] = ()
    parts: tuple[Part, ...] = ()
    macs: int = 0

    @property
    def operator(self) -> Operator:
        """The operator whose output it writes."""
        return self.operators[0]


@dataclass(frozen=True)
class Lowering:
    """One operator on its way to a step: its tensors, and messages that say where they are."""

    graph: Graph
    operator: Operator

    def input(self, position: int) -> TensorInfo:
        """An input that must be there."""
        return self.graph.tensors[self.operator.inputs[position]]

    def optional(self, position: int) -> TensorInfo | None:
        """An input that may be absent."""
        inputs = self.operator.inputs
        return self.graph.tensors[inputs[position]] if position < len(inputs) and inputs[position] >= 0 else None

    @property
    def output(self) -> TensorInfo:
        """The first output."""
        return self.graph.tensors[self.operator.outputs[0]]

    def constant(self, position: int) -> np.ndarray:
        """The values of a constant input."""
        tensor = self.input(position)
        if tensor.data is None:
            raise self.refuse(f"input {position} ({tensor.name}) is computed at run time, where a constant is needed")
        return tensor.data

    def option(self, name: str, default: int = 0) -> int:
        """An integer option."""
        return int(self.operator.options.get(name, default))

    def table(self, kind: str, values: np.ndarray) -> Table:
        """A constant array named after the operator."""
        return Table(f"{kind}_{self.operator.index}", np.ascontiguousarray(values))

    def struct(self, kind: str, ctype: str, fields: Mapping[str, Field]) -> Struct:
        """A constant struct named after the operator."""
        return Struct(f"{kind}_{self.operator.index}", ctype, fields)

    def width(self, *tensors: TensorInfo) -> str:
        """`s8` or `s16`: what all of these tensors hold."""
        found = {tensor.dtype for tensor in tensors}
        if found == {"int8"}:
            return "s8"
        if found == {"int16"}:
            return "s16"
        raise self.refuse(f"it works on {' and '.join(sorted(found))}; supported are int8 or int16 throughout")

    def refuse(self, why: str) -> ModelError:
        """The error that says why this operator cannot be carried out, and where it stands."""
        place = f"operator {self.operator.index}, {self.operator.name} -> {self.output.name}"
        return ModelError(
            f"{self.graph.source}: {place}: {why}",
            "convert the model as int8 or int16x8 with earshot, or change the network",
        )
