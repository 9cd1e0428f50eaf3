"""Operators that the quantizer does not know go through it under names of others, whose rules for scales they share."""

from __future__ import annotations

from typing import Any

from earshot.quantize.graph import Graph, Operator, load_flatbuffer, operator_code, operator_name, pack_flatbuffer

STAND_INS = {
    "MINIMUM": "MAXIMUM",  # one scale on all sides
    "LOG": "RSQRT",  # input and output have scales of their own
    "REVERSE_V2": "RSQRT",  # the same, which ranges that are tied make one
}


def disguise(content: bytes, graph: Graph) -> bytes:
    """The file with such operators under their stand-ins' names.

    Args:
        content: a float file.
        graph: what is in it.
    """
    known = _known(graph)
    if not known:
        return content
    model = load_flatbuffer(content)
    for operator, original in _found(model, known):
        operator.opcodeIndex = operator_code(model, STAND_INS[original.name])
        if original.name == "REVERSE_V2":
            operator.inputs = operator.inputs[:1]  # the quantizer prepares the file, and a root takes no axes
    return pack_flatbuffer(model)


def reveal(content: bytes, graph: Graph) -> bytes:
    """The file with their own names again; `graph` is what it was before it was disguised."""
    known = _known(graph)
    if not known:
        return content
    model = load_flatbuffer(content)
    for operator, original in _found(model, known):
        if operator_name(model, operator) == STAND_INS[original.name]:
            operator.opcodeIndex = operator_code(model, original.name)
            if original.name == "REVERSE_V2":
                operator.inputs = [operator.inputs[0], *original.inputs[1:]]
    return pack_flatbuffer(model)


def _known(graph: Graph) -> dict[bytes, Operator]:
    """Operators that need a stand-in, by the name of their output, which says in every file which operator is which."""
    return {
        graph.tensors[operator.outputs[0]].name.encode(): operator
        for operator in graph.operators
        if operator.name in STAND_INS
    }


def _found(model: Any, known: dict[bytes, Operator]) -> list[tuple[Any, Operator]]:
    main = model.subgraphs[0]
    named = ((operator, main.tensors[operator.outputs[0]].name) for operator in main.operators)
    return [(operator, known[name]) for operator, name in named if name in known]
