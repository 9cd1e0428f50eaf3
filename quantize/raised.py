"""Layers of an int8 file that a recipe gives 16 bits (`quantize.keep_wide`): what goes with them, and where they end.

    layer ─QUANTIZE─> [ raised layer ─ 16 bits ─> what reads it ] ─QUANTIZE─ 8 bits ─> layer

A result on 16 bits helps only who reads it on 16 bits: a layer that is raised takes along those that read its result,
past operators that only move values and through states that it is kept in, which become 16-bit states. What those
readers make leaves on 8 bits.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from earshot.quantize.calibration import Range
from earshot.quantize.graph import Graph, Operator, load_flatbuffer, operator_name, pack_flatbuffer
from earshot.quantize.ranges import MOVES, PRESCRIBED

_LOWEST, _STEPS = -128, 255


@dataclass(frozen=True)
class Raised:
    """What has 16 bits because a pattern says so.

    Attributes:
        operators: index of an operator -> the pattern that brought it there.
        tensors: results that are on 16 bits wherever they are read.
        states: signature names of the states among them.
    """

    operators: Mapping[int, str]
    tensors: frozenset[int]
    states: frozenset[str]


def matching(graph: Graph, patterns: Sequence[str]) -> dict[int, str]:
    """Operators that patterns find: index -> the first one that does.

    Args:
        graph: any graph.
        patterns: regular expressions over names of operators and of their outputs.
    """
    found = {}
    for operator in graph.operators:
        names = (operator.name, *(graph.tensors[index].name for index in operator.outputs))
        for pattern in patterns:
            if any(re.search(pattern, name) for name in names):
                found[operator.index] = pattern
                break
    return found


def raised(graph: Graph, patterns: Sequence[str]) -> Raised:
    """What goes to 16 bits with the layers that patterns find.

    Args:
        graph: the float graph, or the int8 one made from it.
        patterns: regular expressions over operator names and output tensor names.
    """
    readers: dict[int, list[Operator]] = {}
    for operator in graph.operators:
        for index in operator.inputs:
            readers.setdefault(index, []).append(operator)
    leaving = {graph.outputs[name]: name for name in graph.state_pairs}
    operators: dict[int, str] = {}
    tensors: set[int] = set()
    states: set[str] = set()
    found = {index: pattern for index, pattern in matching(graph, patterns).items() if _computes(graph, index)}
    for named, pattern in found.items():
        operators.setdefault(named, pattern)
        waiting = list(graph.operators[named].outputs)
        while waiting:
            tensor = waiting.pop()
            if tensor in tensors:
                continue
            tensors.add(tensor)
            if tensor in leaving:
                states.add(leaving[tensor])
                waiting.append(graph.inputs[leaving[tensor]])
            for reader in readers.get(tensor, ()):
                operators.setdefault(reader.index, pattern)
                # A sigmoid's scale is prescribed, another one on 16 bits: where it ends there, all that read it follow.
                if reader.name in MOVES or reader.name in PRESCRIBED:
                    waiting += reader.outputs
    return Raised(operators, frozenset(tensors), frozenset(states))


def fine_ranges(found: Raised, graph: Graph, fine: Mapping[int, Range]) -> dict[int, Range]:
    """The ranges of what is raised, by tensor index: where a kernel prescribes a scale, that of 16 bits.

    Args:
        found: what is raised.
        graph: the float graph.
        fine: ranges at int16x8.
    """
    made = {
        index
        for one in graph.operators
        if one.name in PRESCRIBED and one.index in found.operators
        for index in one.outputs
    }
    return {index: fine[index] for index in found.tensors | made if index in fine}


def settle_outputs(content: bytes, narrow: Mapping[str, Range | None]) -> bytes:
    """Gives outputs that leave on 8 bits the form they have in a file without raised layers.

    - The quantizer knows one range a tensor: that of a sigmoid on 16 bits would cost the mask half of its steps.
    - Where a raised layer reads what also leaves, the quantizer lets the copy on 16 bits leave in its place.

    Args:
        content: the int8 file.
        narrow: signature name -> range at int8 where a kernel prescribes it, else None.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = load_flatbuffer(content)
    graph = model.subgraphs[0]
    makers = {int(index): operator for operator in graph.operators for index in operator.outputs}
    for item in model.signatureDefs[0].outputs:
        name, maker = item.name.decode(), makers.get(int(item.tensorIndex))
        if name not in narrow:
            continue
        if graph.tensors[item.tensorIndex].type == schema.TensorType.INT16 and maker is not None:
            source = int(maker.inputs[0])
            if operator_name(model, maker) == "QUANTIZE" and graph.tensors[source].type == schema.TensorType.INT8:
                place = list(graph.outputs).index(item.tensorIndex)
                item.tensorIndex = graph.outputs[place] = source
        found = narrow[name]
        if found is not None:
            parameters = graph.tensors[item.tensorIndex].quantization
            scale = np.float32((found.high - found.low) / _STEPS)
            parameters.scale = np.asarray([scale], np.float32)
            parameters.zeroPoint = np.asarray([round(_LOWEST - found.low / float(scale))], np.int64)
    return pack_flatbuffer(model)


def _computes(graph: Graph, index: int) -> bool:
    return bool(graph.activations(graph.operators[index]))
