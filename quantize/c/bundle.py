"""Writes a stream model as a folder of C99 that needs nothing but a compiler."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

from earshot.core.errors import ModelError, UsageError
from earshot.core.files import write_atomic
from earshot.quantize.c import emit
from earshot.quantize.c.frontend import write_frontend
from earshot.quantize.c.lowering import lower
from earshot.quantize.c.memory import lay_out
from earshot.quantize.c.program import Struct, Table
from earshot.quantize.c.readme import readme
from earshot.quantize.graph import Graph, Operator, read_graph
from earshot.quantize.metadata import StreamDescription, description_of

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


@dataclass(frozen=True)
class GeneratedOperator:
    """One operator of the graph as it was generated.

    Attributes:
        index, name: the operator in the .tflite.
        location: name of its output tensor.
        folded: operators that it carries out besides itself.
        macs: multiplications of weights with activations a frame.
        flash_bytes: its constant tables and parameters.
    """

    index: int
    name: str
    location: str
    folded: tuple[int, ...]
    macs: int
    flash_bytes: int


@dataclass(frozen=True)
class GeneratedModel:
    """What was written, and what it costs.

    Attributes:
        files: all files, relative to the folder.
        arena_bytes: static working memory.
        arena_lower_bound: the most bytes live at once: no arrangement needs less.
        flash_bytes: constant tables and parameters, without code; addresses count four bytes.
        state_bytes: static memory between frames.
        macs: multiplications of weights with activations a frame.
        operators: in the order they run.
    """

    files: tuple[str, ...]
    arena_bytes: int
    arena_lower_bound: int
    flash_bytes: int
    state_bytes: int
    macs: int
    operators: tuple[GeneratedOperator, ...]


def generate(model_path: Path, out: Path, name: str = "model", *, with_frontend: bool = False) -> GeneratedModel:
    """Writes C for an integer stream model; the same model always gives the same bytes. Nothing is written on an error.

    Args:
        model_path: an int8 or int16x8 .tflite that earshot wrote.
        out: folder to write into; made where it is missing.
        name: prefix of the files and of every symbol.
        with_frontend: write the frontend around the network too: sound in, enhanced sound out.

    Raises:
        ModelError: no such file, no stream model, or one with an operator, type or option that is not supported, where
            the message names the operator and its output tensor; or a frontend that cannot be written in C.
        UsageError: `name` is no C identifier.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name}: not a name for C symbols", "use letters, digits and _, a letter first")
    graph = read_graph(model_path)
    description = description_of(graph)
    if description.precision == "float32":
        raise ModelError(f"{model_path}: it computes in float32", "give the int8 or int16x8 file of the same model")
    program = _program(graph, description, name, model_path.name)
    operators = tuple(_operator(program, number) for number in range(len(program.steps)))
    flash, macs = (sum(getattr(one, field) for one in operators) for field in ("flash_bytes", "macs"))
    files = {
        f"{name}.h": emit.model_header(program),
        f"{name}.c": emit.model_source(program),
        f"{name}_state.h": emit.state_header(program),
        f"{name}_weights.h": emit.weights_header(program),
        f"{name}_weights.c": emit.weights_source(program),
        "README.md": readme(program, flash, macs, with_frontend=with_frontend),
        **_kernels(),
        **(_frontend(graph, name) if with_frontend else {}),
    }
    for path, text in files.items():
        write_atomic(out / path, text.encode())
    return GeneratedModel(
        tuple(files),
        program.layout.arena_bytes,
        program.layout.lower_bound,
        flash,
        emit.state_bytes(program),
        macs,
        operators,
    )


def _program(graph: Graph, description: StreamDescription, name: str, source: str) -> emit.Program:
    states = {state.name: (graph.inputs[state.input], graph.outputs[state.output]) for state in description.states}
    for state, (entry, leaving) in states.items():
        inner, outer = graph.tensors[entry], graph.tensors[leaving]
        alike = inner.quantization is None or inner.quantization.same_as(outer.quantization)
        if inner.dtype != outer.dtype or inner.shape != outer.shape or not alike:
            raise ModelError(
                f"{graph.source}: state {state} leaves in another form than it enters",
                "convert the model with earshot, which gives both sides one scale",
            )
    graph, states = untangled(graph, states)
    fields = [emit.identifier(state) for state in states]
    if len(set(fields)) < len(fields):
        raise ModelError(f"{graph.source}: states whose names are alike in C: {', '.join(states)}", "rename them")
    steps = lower(graph)
    frame, mask = graph.inputs[description.input], graph.outputs[description.output]
    computed = {tensor for step in steps for tensor in step.writes}
    if mask not in computed:
        raise ModelError(f"{graph.source}: no operator computes {description.output}", "convert a network that does")
    for state, (_, leaving) in states.items():
        if leaving not in computed and leaving not in graph.inputs.values():
            raise ModelError(f"{graph.source}: state {state} becomes a constant", "take it out of the network")
    return emit.Program(name, source, graph, description, steps, lay_out(graph, steps, frame, mask, states), states)


def untangled(graph: Graph, states: Mapping[str, tuple[int, int]]) -> tuple[Graph, dict[str, tuple[int, int]]]:
    """A graph whose states do not exchange their values: in every circle, one of them takes a copy.

    Args:
        states: name -> tensor that enters, tensor that leaves.
    """
    names = {entry: name for name, (entry, _) in states.items()}
    found = dict(states)
    for first in states:
        circle, name = [first], first
        while (name := names.get(states[name][1], "")) and name not in circle:
            circle.append(name)
        cut = any(found[other] != states[other] for other in circle)
        if name != first or len(circle) == 1 or cut:
            continue
        entry, leaving = states[first]
        copied = replace(graph.tensors[leaving], index=len(graph.tensors), name=f"{graph.tensors[leaving].name}_copy")
        operator = Operator(len(graph.operators), "RESHAPE", (leaving,), (copied.index,))
        graph = replace(graph, tensors=(*graph.tensors, copied), operators=(*graph.operators, operator))
        found[first] = (entry, copied.index)
    return graph, found


def _kernels() -> dict[str, str]:
    folder = resources.files("earshot.quantize.c") / "kernels"
    names = sorted(item.name for item in folder.iterdir() if item.name.endswith((".c", ".h")))
    return {f"kernels/{name}": (folder / name).read_text() for name in names}


def _frontend(graph: Graph, name: str) -> dict[str, str]:
    try:
        with tempfile.TemporaryDirectory(prefix="earshot-c-") as folder:
            return {path.name: path.read_text() for path in write_frontend(graph, Path(folder), name)}
    except ModelError as error:
        hint = "or write the network alone, for a frontend of your own: earshot codegen --network-only"
        raise ModelError(error.message, f"{error.hint}, {hint}" if error.hint else hint.removeprefix("or ")) from error


def _operator(program: emit.Program, number: int) -> GeneratedOperator:
    step = program.steps[number]
    operator = step.operator
    size = sum(_size(constant) for constant in program.constants(number))
    location = program.graph.tensors[operator.outputs[0]].name
    folded = tuple(other.index for other in step.operators[1:])
    return GeneratedOperator(operator.index, operator.name, location, folded, step.macs, size)


def _size(constant: Table | Struct) -> int:
    if isinstance(constant, Table):
        return constant.values.nbytes
    return sum(4 * (len(value) if isinstance(value, tuple) else 1) for value in constant.fields.values())
