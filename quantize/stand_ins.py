"""Operators that the quantizer does not know go through it under names of others, whose rules for scales they share."""

from __future__ import annotations

from earshot.quantize.graph import Graph, load_flatbuffer, operator_code, operator_name, pack_flatbuffer

STAND_INS = {
    "MINIMUM": "MAXIMUM",  # one scale on all sides
    "REVERSE_V2": "TRANSPOSE",  # the output has the input's scale
    "LOG": "RSQRT",  # input and output have scales of their own
}


def disguise(content: bytes, graph: Graph) -> bytes:
    """The file with such operators under their stand-ins' names.

    Args:
        content: a float file.
        graph: what is in it.
    """
    return _renamed(content, graph, {name: (name, stand_in) for name, stand_in in STAND_INS.items()})


def reveal(content: bytes, graph: Graph) -> bytes:
    """The file with their own names again; `graph` is what it was before it was disguised."""
    return _renamed(content, graph, {name: (stand_in, name) for name, stand_in in STAND_INS.items()})


def _renamed(content: bytes, graph: Graph, names: dict[str, tuple[str, str]]) -> bytes:
    """Renames by name in `graph` -> (name before, name after); outputs' names say which operator is which."""
    wanted = {
        graph.tensors[operator.outputs[0]].name.encode(): names[operator.name]
        for operator in graph.operators
        if operator.name in names
    }
    if not wanted:
        return content
    model = load_flatbuffer(content)
    main = model.subgraphs[0]
    for operator in main.operators:
        before, after = wanted.get(main.tensors[operator.outputs[0]].name, ("", ""))
        if operator_name(model, operator) == before:
            operator.opcodeIndex = operator_code(model, after)
    return pack_flatbuffer(model)
