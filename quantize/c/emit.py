"""The text of the generated files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from earshot.quantize.c.memory import ARENA, FRAME, MASK, Layout, Place
from earshot.quantize.c.program import CTYPES, Argument, Call, Memory, Step, Struct, Table, constants
from earshot.quantize.graph import Graph, TensorInfo
from earshot.quantize.metadata import StreamDescription

_WIDTH = 116
_KEYWORDS = frozenset(
    [
        "auto",
        "break",
        "case",
        "char",
        "const",
        "continue",
        "default",
        "do",
        "double",
        "else",
        "enum",
        "extern",
        "float",
        "for",
        "goto",
        "if",
        "inline",
        "int",
        "long",
        "register",
        "restrict",
        "return",
        "short",
        "signed",
        "sizeof",
        "static",
        "struct",
        "switch",
        "typedef",
        "union",
        "unsigned",
        "void",
        "volatile",
        "while",
    ]
)
_ARENA = """static union {{
    int8_t bytes[{}];
    int64_t alignment;
}} arena;
"""
COPIES = ("memcpy", "earshot_copy")


@dataclass(frozen=True)
class Program:
    """All that is written down: a graph's steps and where its tensors live."""

    name: str
    source: str
    graph: Graph
    description: StreamDescription
    steps: Sequence[Step]
    layout: Layout
    states: Mapping[str, tuple[int, int]]

    @property
    def frame(self) -> TensorInfo:
        """The tensor the caller brings."""
        return self.graph.tensors[self.graph.inputs[self.description.input]]

    @property
    def mask(self) -> TensorInfo:
        """The tensor the caller takes."""
        return self.graph.tensors[self.graph.outputs[self.description.output]]

    def calls(self, number: int) -> list[Call]:
        """The calls of a step that do something: copies of what is in its place already are left out."""
        return [call for call in self.steps[number].calls if not self._stays(number, call)]

    def constants(self, number: int) -> list[Table | Struct]:
        """Tables and structs of a step, in order."""
        return constants(self.calls(number))

    @property
    def tables(self) -> list[Table]:
        """All tables, in order."""
        found = (constant for number in range(len(self.steps)) for constant in self.constants(number))
        return [constant for constant in found if isinstance(constant, Table)]

    def place(self, memory: Memory, number: int) -> Place:
        """Where an argument of a step's call points."""
        itemsize = 1 if memory.scratch else np.dtype(self.graph.tensors[memory.tensor].dtype).itemsize
        return self.layout.resolve(memory, number, itemsize)

    def _stays(self, number: int, call: Call) -> bool:
        if call.kernel not in COPIES:
            return False
        places = [self.place(argument, number) for argument in call.arguments if isinstance(argument, Memory)]
        return places[0] == places[1]


def model_header(program: Program) -> str:
    """`NAME.h`: what an application includes."""
    name, upper = program.name, program.name.upper()
    frame, mask, frontend = program.frame, program.mask, program.description.frontend
    lines = [
        *_banner(program, "What an application calls: one step for every hop of sound."),
        f"#ifndef {upper}_H",
        f"#define {upper}_H",
        "",
        "#include <stdint.h>",
        "",
        "/* The signal processing around the network: see README.md. */",
        f"#define {upper}_RATE {frontend.rate} /* samples a second */",
        f"#define {upper}_WINDOW {frontend.window} /* samples of a frame; square-root Hann, both ways */",
        f"#define {upper}_HOP {frontend.hop} /* samples between frames */",
        f"#define {upper}_FFT {frontend.fft} /* points of the transform; the frame is zero-padded at its end */",
        f"#define {upper}_COMPRESSION {_real(frontend.compression)} /* features = (|X|^2 + 1e-10)^(compression / 2) */",
        "",
        "/* real = scale * (integer - zero point) */",
        *_quantities(upper, "FRAME", frame),
        *_quantities(upper, "MASK", mask),
        "",
        f"#define {upper}_ARENA_BYTES {program.layout.arena_bytes} /* working memory, static */",
        f"#define {upper}_STATE_BYTES {state_bytes(program)} /* memory between frames, static */",
        "",
        "/* Back to the start of a stream. Call it once before the first step. */",
        f"void {name}_reset(void);",
        "",
        f"/* frame: [{upper}_FRAME_SIZE] features, mask: [{upper}_MASK_SIZE]; they must not overlap. */",
        f"void {name}_step(const {CTYPES[frame.dtype]} *frame, {CTYPES[mask.dtype]} *mask);",
        "",
        "#endif",
    ]
    return _text(lines)


def _quantities(upper: str, kind: str, tensor: TensorInfo) -> list[str]:
    found = [f"#define {upper}_{kind}_SIZE {int(np.prod(tensor.shape))}"]
    if tensor.quantization is not None:
        found.append(f"#define {upper}_{kind}_SCALE {_real(tensor.quantization.scale)}")
        found.append(f"#define {upper}_{kind}_ZERO_POINT {tensor.quantization.zero_point}")
    return found


def state_header(program: Program) -> str:
    """`NAME_state.h`: what lives from frame to frame."""
    name, upper = program.name, program.name.upper()
    fields = []
    tensors = {state: program.graph.tensors[entry] for state, (entry, _) in program.states.items()}
    # The widest elements first, so that none of them needs padding in front of it.
    for state, tensor in sorted(tensors.items(), key=lambda item: -np.dtype(item[1].dtype).itemsize):
        zero = f", zero point {tensor.quantization.zero_point}" if tensor.quantization else ""
        size, remark = int(np.prod(tensor.shape)), f"{list(tensor.shape)}{zero}"
        fields.append(f"    {CTYPES[tensor.dtype]} {identifier(state)}[{size}]; /* {remark} */")
    lines = [
        *_banner(program, "The network's memory between frames; a stream starts with every state at its zero point."),
        f"#ifndef {upper}_STATE_H",
        f"#define {upper}_STATE_H",
        "",
        "#include <stdint.h>",
        "",
        "typedef struct {",
        *(fields or ["    int8_t none; /* this network keeps nothing */"]),
        f"}} {name}_states;",
        "",
        "/* The one stream's states: save and restore them to switch between streams. */",
        f"extern {name}_states {name}_state;",
        "",
        "#endif",
    ]
    return _text(lines)


def weights_header(program: Program) -> str:
    """`NAME_weights.h`: declarations of the constant tables."""
    upper = f"{program.name.upper()}_WEIGHTS_H"
    lines = [
        *_banner(program, "Constant tables; they stay in flash."),
        f"#ifndef {upper}",
        f"#define {upper}",
        "",
        "#include <stdint.h>",
        "",
        *(f"extern const {table.ctype} {_global(program, table)}[{table.values.size}];" for table in program.tables),
        "",
        "#endif",
    ]
    return _text(lines)


def weights_source(program: Program) -> str:
    """`NAME_weights.c`: the constant tables."""
    lines = [*_banner(program, "Constant tables; they stay in flash."), f'#include "{program.name}_weights.h"', ""]
    for table in program.tables:
        lines.append(
            f"const {table.ctype} {_global(program, table)}[{table.values.size}] = {{ /* {list(table.values.shape)} */"
        )
        lines += _wrapped(_literals(table.values))
        lines.append("};")
    return _text(lines)


def model_source(program: Program) -> str:
    """`NAME.c`: the network, an operator after the other."""
    name, layout = program.name, program.layout
    found = [constant for number in range(len(program.steps)) for constant in program.constants(number)]
    structs = [constant for constant in found if isinstance(constant, Struct)]
    lines = [
        *_banner(program, "The network, an operator after the other. All memory is static."),
        f'#include "{name}.h"',
        "",
        "#include <string.h>",
        "",
        '#include "kernels/kernels.h"',
        f'#include "{name}_state.h"',
        f'#include "{name}_weights.h"',
        "",
        "/* Called after every operator if this is compiled with -DEARSHOT_TRACE; for tests and profilers. */",
        "#ifdef EARSHOT_TRACE",
        "void earshot_trace(int operator_index, int tensor, const void *data, unsigned bytes);",
        "#define TRACE(operator_index, tensor, data, bytes) earshot_trace(operator_index, tensor, data, bytes)",
        "#else",
        "#define TRACE(operator_index, tensor, data, bytes) ((void)0)",
        "#endif",
        "",
        f"{name}_states {name}_state;",
        "",
        *(_ARENA.format(layout.arena_bytes).split("\n") if layout.arena_bytes else ()),
        *(f"static const {struct.ctype} {struct.name} = {{{_fields(program, struct)}}};" for struct in structs),
        "",
        *_reset(program),
        f"void {name}_step(const {CTYPES[program.frame.dtype]} *frame, {CTYPES[program.mask.dtype]} *mask) {{",
    ]
    if not any(program.frame.index in step.reads for step in program.steps):
        lines.append("    (void)frame;")
    for number, step in enumerate(program.steps):
        lines += _step(program, number, step)
    lines.append("}")
    return _text(lines)


def _reset(program: Program) -> list[str]:
    lines = [f"void {program.name}_reset(void) {{"]
    for state, (entry, _) in program.states.items():
        tensor = program.graph.tensors[entry]
        zero = tensor.quantization.zero_point if tensor.quantization else 0
        field = f"{program.name}_state.{identifier(state)}"
        if zero == 0 or tensor.dtype == "int8":
            lines.append(f"    memset({field}, {zero}, sizeof {field});")
        else:
            lines.append(f"    earshot_fill_s16({zero}, {int(np.prod(tensor.shape))}, {field});")
    return [*lines, "}", ""]


def _step(program: Program, number: int, step: Step) -> list[str]:
    folded = "".join(f", {operator.name} {operator.index} folded in" for operator in step.operators[1:])
    outputs = ", ".join(_describe(program.graph.tensors[index]) for index in step.writes)
    lines = [f"    /* {step.operator.index} {step.operator.name}{folded} -> {outputs} */"]
    for call in program.calls(number):
        arguments = [_argument(program, number, argument) for argument in call.arguments]
        lines += _call(call.kernel, arguments)
    for index in step.writes:
        place = _place(program, program.layout.places[index], program.graph.tensors[index])
        lines.append(f"    TRACE({step.operator.index}, {index}, {place}, {_bytes(program, index)});")
    for commit in program.layout.commits:
        if commit.step == number:
            tensor = program.graph.tensors[commit.tensor]
            source = _place(program, program.layout.places[commit.tensor], tensor)
            field = f"{program.name}_state.{identifier(commit.state)}"
            lines.append(f"    memcpy({field}, {source}, sizeof {field}); /* nothing reads the old one any more */")
    return lines


def _argument(program: Program, number: int, argument: Argument) -> str:
    if isinstance(argument, Table):
        return _global(program, argument)
    if isinstance(argument, Struct):
        return f"&{argument.name}"
    if isinstance(argument, Memory):
        place = program.place(argument, number)
        if argument.scratch:
            return f"(void *)(arena.bytes + {place.offset})"
        return _place(program, place, program.graph.tensors[argument.tensor])
    return _real(argument) if isinstance(argument, float) else str(argument)


def _place(program: Program, place: Place, tensor: TensorInfo) -> str:
    elements = place.offset // np.dtype(tensor.dtype).itemsize
    if place.storage == ARENA:
        base = f"arena.bytes + {place.offset}"
        return base if tensor.dtype == "int8" else f"({CTYPES[tensor.dtype]} *)(void *)({base})"
    storage = place.storage
    base = storage if storage in (FRAME, MASK) else f"{program.name}_state.{identifier(storage)}"
    return f"{base} + {elements}" if elements else base


def _describe(tensor: TensorInfo) -> str:
    return f"{_comment(tensor.name)} {list(tensor.shape)} {tensor.dtype}"


def _bytes(program: Program, tensor: int) -> int:
    info = program.graph.tensors[tensor]
    return int(np.prod(info.shape)) * np.dtype(info.dtype).itemsize


def state_bytes(program: Program) -> int:
    """Bytes of all states."""
    return sum(_bytes(program, entry) for entry, _ in program.states.values())


def _fields(program: Program, struct: Struct) -> str:
    found = []
    for field, value in struct.fields.items():
        if isinstance(value, Table):
            text = _global(program, value)
        elif value is None:
            text = "0"
        elif isinstance(value, tuple):
            text = f"{{{', '.join(map(str, value))}}}"
        else:
            text = _real(value) if isinstance(value, float) else str(value)
        found.append(f".{field} = {text}")
    one_line = ", ".join(found)
    if len(one_line) < 80:
        return one_line
    return "\n" + "\n".join(_wrapped(found)) + "\n"


def _call(kernel: str, arguments: Sequence[str]) -> list[str]:
    line = f"    {kernel}({', '.join(arguments)});"
    if len(line) <= _WIDTH:
        return [line]
    rows = _wrapped(list(arguments), indent="        ")
    return [f"    {kernel}(", *rows[:-1], rows[-1].rstrip(",") + ");"]


def _wrapped(items: Iterable[str], indent: str = "    ") -> list[str]:
    """Items, each with a comma, on lines of bounded width."""
    lines, current = [], indent
    for item in items:
        if len(current) + len(item) + 2 > _WIDTH and current.strip():
            lines.append(current.rstrip())
            current = indent
        current += item + ", "
    return [*lines, current.rstrip()] if current.strip() else lines


def _literals(values: np.ndarray) -> list[str]:
    if values.dtype == np.int64:
        return [f"{value}LL" for value in values.reshape(-1).tolist()]
    if values.dtype == np.float64:
        return [repr(value) for value in values.reshape(-1).tolist()]
    # The most negative int32 has no literal of its own.
    return ["(-2147483647 - 1)" if value == -(1 << 31) else str(value) for value in values.reshape(-1).tolist()]


def _real(value: float) -> str:
    text = repr(float(str(np.float32(value))))
    return f"{text}f"


def _global(program: Program, table: Table) -> str:
    return f"{program.name}_{table.name}"


def identifier(name: str) -> str:
    """A state's name as C allows it."""
    plain = re.sub(r"\W", "_", name, flags=re.ASCII)
    return f"{plain}_" if plain in _KEYWORDS else f"state_{plain}" if plain[:1].isdigit() else plain


def _comment(text: str) -> str:
    """A text from the model, which must not end the comment it stands in."""
    return text.replace("*/", "* /").replace("\n", " ").replace("\\", "/")


def _banner(program: Program, what: str) -> list[str]:
    return [f"/* {what}", f" * Generated by earshot from {_comment(program.source)}: do not edit. */"]


def _text(lines: Iterable[str]) -> str:
    return "\n".join(lines) + "\n"
