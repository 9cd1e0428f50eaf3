"""States that 8 bits do not hold, in an int8 file: what computes them runs on 16 bits, between borders that requantise.

    layer ─ 8 bits ─QUANTIZE─> [ mean, state, difference, deviation, ... on 16 bits ] ─QUANTIZE─ 8 bits ─> layer

A running mean moves by a small share of a difference. On 8 bits a share of 1/200 is less than half a step as long as
the difference is less than 100 steps of 255, rounds to nothing, and the mean stands still. A network says which of its
states are such (`StreamingModel.wide_states`); which operators they bring with them is read off the graph.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np

from earshot.core.errors import ModelError
from earshot.quantize.calibration import Range
from earshot.quantize.graph import Graph, Operator, load_flatbuffer, operator_code, operator_name, pack_flatbuffer
from earshot.quantize.metadata import ENTRY, STATE_PREFIX, description_of
from earshot.quantize.ranges import MOVES

# What the quantizer can give 16-bit activations. Layers with weights and bounded curves are left out: their inputs have
# been normalised or gated, and 8 bits do.
ARITHMETIC = frozenset({"ADD", "SUB", "MUL", "DIV", "MAXIMUM", "MINIMUM", "MEAN", "SUM", "RSQRT", "RELU"})
_JOINS = frozenset({"CONCATENATION", "PACK"})
_STEEP = frozenset({"RSQRT", "LOG"})
_LARGEST = 32767
_LEAST = 1e-9  # the quantizer's narrowest range
_ONE_OPERAND = 2  # activations of an operator of one operand and a constant: that and the result


def wide_states(graph: Graph) -> tuple[str, ...]:
    """Signature names of the states that its stream description calls wide.

    Raises:
        ModelError: the description names a state that the graph has not.
    """
    if ENTRY not in graph.metadata:
        return ()
    names = tuple(STATE_PREFIX + name for name in description_of(graph).wide_states)
    for name in names:
        if name not in graph.state_pairs:
            raise ModelError(
                f"{graph.source}: it has no state '{name.removeprefix(STATE_PREFIX)}' that could have 16 bits",
                f"its states: {', '.join(state.removeprefix(STATE_PREFIX) for state in graph.state_pairs)}",
            )
    return names


def wide_operators(graph: Graph) -> frozenset[int]:
    """Operators of a float graph that compute on 16 bits in its int8 file, by their indices.

    These are:
    - all on the way from a wide state to its next value;
    - arithmetic on moments, which is what follows from wide states and is no larger than they are: features less their
      mean and times their inverse deviation are made of moments, but are none;
    - arithmetic whose every result ends in these, such as the squares that a second moment is the mean of.

    No operator that reads or makes another state is among the latter two: that state would become wide as well.
    """
    names = wide_states(graph)
    if not names:
        return frozenset()
    others = set(graph.state_pairs) - set(names)
    narrow = {graph.inputs[name] for name in others} | {graph.outputs[name] for name in others}

    def free(operator: Operator) -> bool:
        return operator.name in ARITHMETIC | MOVES and not narrow & {*operator.inputs, *operator.outputs}

    found = {index for name in names for index in _between(graph, graph.inputs[name], graph.outputs[name])}
    sizes = {graph.inputs[name]: graph.tensors[graph.inputs[name]].size for name in names}  # of states behind moments
    made: set[int] = set()
    for operator in graph.operators:
        size = max((sizes.get(index, 0) for index in operator.inputs), default=0)
        joined = operator.name in _JOINS and made.issuperset(operator.inputs)
        if operator.index in found or (free(operator) and (size or joined)):
            found.add(operator.index)
            made.update(operator.outputs)
            sizes |= {index: size for index in operator.outputs if graph.tensors[index].size <= size}
    wanted = set(graph.outputs.values()) - {graph.outputs[name] for name in names}  # on 8 bits
    for operator in reversed(graph.operators):
        if operator.index in found:
            continue
        if free(operator) and graph.activations(operator) and not wanted & set(operator.outputs):
            found.add(operator.index)
        else:
            wanted.update(operator.inputs)
    return frozenset(found)


def coarse_operators(graph: Graph) -> frozenset[int]:
    """Operators that are float where activations have 16 bits, by their indices.

    LiteRT's int16 kernels of these functions join 512 values over the whole range by straight lines, which miss by any
    factor where the function is steep: near zero. With them goes the constant that keeps their argument from zero: on
    a grid of 16 bits it may be nothing.
    """
    makers = {index: operator for operator in graph.operators for index in operator.outputs}
    found = set()
    for operator in graph.operators:
        if operator.name in _STEEP:
            found.add(operator.index)
            before = makers.get(operator.inputs[0])
            if before is not None and before.name == "ADD" and len(graph.activations(before)) == _ONE_OPERAND:
                found.add(before.index)
    return frozenset(found)


def _between(graph: Graph, entry: int, leaving: int) -> set[int]:
    """Operators on a way from one tensor to another."""
    after, onward = {entry}, set()
    for operator in graph.operators:
        if after & set(operator.inputs):
            onward.add(operator.index)
            after.update(operator.outputs)
    before, found = {leaving}, set()
    for operator in reversed(graph.operators):
        if operator.index in onward and before & set(operator.outputs):
            found.add(operator.index)
            before.update(operator.inputs)
    return found


def widen_states(content: bytes, states: Mapping[str, Range]) -> bytes:
    """Gives states 16 bits where they enter and leave an int8 file, whose operators around them have them already.

    The quantizer knows one precision for all inputs and outputs: it puts a QUANTIZE behind and in front of each state.

    Args:
        content: the int8 file.
        states: signature name -> range.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = load_flatbuffer(content)
    graph, signature = model.subgraphs[0], model.signatureDefs[0]
    for name, found in states.items():
        sides = signature.inputs, signature.outputs
        entry, leaving = (next(item for item in side if item.name == name.encode()) for side in sides)
        _enter(model, schema, int(entry.tensorIndex), _sixteen(schema, found))
        place = list(graph.outputs).index(leaving.tensorIndex)
        leaving.tensorIndex = _leave(model, schema, int(leaving.tensorIndex), _sixteen(schema, found))
        graph.outputs[place] = leaving.tensorIndex
    return pack_flatbuffer(model)


def _enter(model: Any, schema: Any, entry: int, wide: Any) -> None:
    """Retypes a state's input: who took it on 16 bits takes it as it is, who took it on 8 gets it rounded."""
    graph = model.subgraphs[0]
    tensor = graph.tensors[entry]
    narrow, tensor.type, tensor.quantization = copy.copy(tensor), schema.TensorType.INT16, wide
    readers = [operator for operator in graph.operators if entry in operator.inputs]
    rounded = []
    for operator in readers:
        kind = operator_name(model, operator)
        if kind == "QUANTIZE" and graph.tensors[operator.outputs[0]].type == schema.TensorType.INT16:
            _replace(graph, operator.outputs[0], entry)
            graph.operators.remove(operator)
        elif kind not in ("QUANTIZE", "DEQUANTIZE"):
            rounded.append(operator)
    if rounded:
        narrow.name += b"_rounded"
        graph.tensors.append(narrow)
        place = graph.operators.index(rounded[0])
        for operator in rounded:
            operator.inputs = [len(graph.tensors) - 1 if index == entry else index for index in operator.inputs]
        graph.operators.insert(place, _quantize(model, schema, entry, len(graph.tensors) - 1))


def _leave(model: Any, schema: Any, leaving: int, wide: Any) -> int:
    """The tensor on 16 bits that leaves in the place of one on 8."""
    graph = model.subgraphs[0]
    producer = next(operator for operator in graph.operators if leaving in operator.outputs)
    source = int(producer.inputs[0]) if operator_name(model, producer) == "QUANTIZE" else leaving
    if source != leaving and all(leaving not in operator.inputs for operator in graph.operators):
        graph.operators.remove(producer)
    before = graph.tensors[source]
    if before.type == schema.TensorType.INT16 and np.array_equal(before.quantization.scale, wide.scale):
        return source
    tensor = copy.copy(graph.tensors[leaving])
    tensor.name, tensor.type, tensor.quantization = tensor.name + b"_wide", schema.TensorType.INT16, wide
    graph.tensors.append(tensor)
    graph.operators.append(_quantize(model, schema, source, len(graph.tensors) - 1))
    return len(graph.tensors) - 1


def _sixteen(schema: Any, found: Range) -> Any:
    """Quantisation on 16 bits, as the quantizer chooses it for the same range: symmetric."""
    parameters = schema.QuantizationParametersT()
    largest = max(abs(np.float32(found.low)), abs(np.float32(found.high)), np.float32(_LEAST))
    parameters.scale = np.asarray([largest / np.float32(_LARGEST)], np.float32)
    parameters.zeroPoint = np.zeros(1, np.int64)
    return parameters


def _replace(graph: Any, old: int, new: int) -> None:
    for operator in graph.operators:
        operator.inputs = [new if index == old else int(index) for index in operator.inputs]


def _quantize(model: Any, schema: Any, source: int, sink: int) -> Any:
    """A QUANTIZE from one tensor to another."""
    operator = schema.OperatorT()
    operator.opcodeIndex = operator_code(model, "QUANTIZE")
    operator.inputs, operator.outputs = [source], [sink]
    return operator
