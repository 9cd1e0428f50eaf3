"""Compiles generated C and holds every tensor of it against LiteRT's reference kernels."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from earshot.quantize.graph import Graph, read_graph
from earshot.quantize.metadata import description_of

MAIN = Path(__file__).with_name("stream_main.c")


@dataclass(frozen=True)
class Machine:
    """A compiler and what runs its programs."""

    compiler: str
    runner: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()

    def require(self) -> None:
        for tool in (self.compiler, *self.runner[:1]):
            if shutil.which(tool) is None:
                pytest.skip(f"{tool} is not installed: apt-get install gcc gcc-aarch64-linux-gnu qemu-user")


# The sanitizers are the truth on what C leaves undefined: every overflow, shift and stray address ends the program.
NATIVE = Machine("gcc", flags=("-fsanitize=undefined,address", "-fno-sanitize-recover=all"))
AARCH64 = Machine("aarch64-linux-gnu-gcc", ("qemu-aarch64",), ("-static",))
MACHINES = {"x86": NATIVE, "aarch64": AARCH64}
STRICT = ("-std=c99", "-O1", "-Wall", "-Wextra", "-Werror", "-pedantic")


def compile_objects(machine: Machine, files: Sequence[Path], out: Path, flags: Sequence[str]) -> list[str]:
    """Object files of C sources."""
    machine.require()
    objects = []
    for file in files:
        target = out / f"{file.stem}.o"
        command = [machine.compiler, *STRICT, *machine.flags, *flags, "-c", str(file), "-o", str(target)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[:4000]
        objects.append(str(target))
    return objects


class Kernels:
    """The kernels, compiled once for every machine: they are the same in every generated folder."""

    def __init__(self, out: Path) -> None:
        self.out, self.objects = out, {}

    def of(self, machine: Machine, folder: Path) -> list[str]:
        if machine.compiler not in self.objects:
            out = self.out / machine.compiler
            out.mkdir()
            files = sorted((folder / "kernels").glob("*.c"))
            self.objects[machine.compiler] = compile_objects(machine, files, out, [f"-I{folder}"])
        return self.objects[machine.compiler]

    def program(self, folder: Path, machine: Machine, *, element: str) -> Path:
        """The program that streams frames and masks of `element` through the model in `folder`."""
        out = folder / machine.compiler
        out.mkdir(exist_ok=True)
        flags = ["-DEARSHOT_TRACE", f"-I{folder}", f"-DELEMENT={element}"]
        objects = compile_objects(machine, [*sorted(folder.glob("*.c")), MAIN], out, flags)
        program = out / "stream"
        command = [machine.compiler, *machine.flags, *objects, *self.of(machine, folder), "-o", str(program)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[:4000]
        return program


@dataclass(frozen=True)
class Seen:
    """What the C made of one frame: tensors by index, the states afterwards, the mask."""

    tensors: dict[int, bytes]
    states: bytes
    mask: bytes


def run(program: Path, machine: Machine, given: bytes, *arguments: str) -> Iterator[Seen]:
    command = [*machine.runner, str(program), *arguments]
    done = subprocess.run(command, input=given, capture_output=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr.decode()[:4000]
    content, place, tensors, after = done.stdout, 0, {}, b""
    while place < len(content):
        _, tensor, size = np.frombuffer(content, np.int32, 3, place).tolist()
        data = content[place + 12 : place + 12 + size]
        place += 12 + size
        if tensor >= 0:
            tensors[tensor] = data
        elif tensor == -1:
            after = data
        else:
            yield Seen(tensors, after, data)
            tensors = {}


class Truth:
    """The same model on LiteRT's reference kernels."""

    def __init__(self, path: Path) -> None:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        self.graph: Graph = read_graph(path)
        self.description = description_of(self.graph)
        self.interpreter = Interpreter(
            str(path), experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
            experimental_preserve_all_tensors=True, num_threads=1,
        )  # fmt: skip
        self.interpreter.allocate_tensors()

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(self.graph.tensors[self.graph.inputs["frame"]].dtype)

    @property
    def entries(self) -> list[int]:
        return [self.graph.inputs[state.input] for state in self.description.states]

    def zero_states(self) -> list[np.ndarray]:
        tensors = [self.graph.tensors[index] for index in self.entries]
        return [np.full(t.shape, t.quantization.zero_point, t.dtype) for t in tensors]

    def step(self, frame: np.ndarray, states: list[np.ndarray]) -> list[np.ndarray]:
        self.interpreter.set_tensor(self.graph.inputs["frame"], frame)
        for index, value in zip(self.entries, states, strict=True):
            self.interpreter.set_tensor(index, value)
        self.interpreter.invoke()
        return [self.interpreter.get_tensor(self.graph.outputs[state.output]) for state in self.description.states]

    def tensor(self, index: int) -> bytes:
        return self.interpreter.get_tensor(index).tobytes()


def inputs(truth: Truth, frames: int, seed: int) -> list[np.ndarray]:
    """Frames of every kind: noise over the full range, slow and correlated ones, silence, both rails."""
    draw = np.random.default_rng(seed)
    tensor = truth.graph.tensors[truth.graph.inputs["frame"]]
    if tensor.dtype == "float32":
        return [draw.normal(0, 2, tensor.shape).astype(np.float32) for _ in range(frames)]
    limits = np.iinfo(tensor.dtype)
    found = []
    for number in range(frames):
        kind = number % 5
        if kind < 2:
            value = draw.integers(limits.min, limits.max + 1, tensor.shape)
        elif kind == 2:
            walk = np.cumsum(draw.normal(0, (limits.max - limits.min) / 20, tensor.shape).reshape(-1))
            value = np.clip(walk.reshape(tensor.shape), limits.min, limits.max)
        elif kind == 3:
            value = np.full(tensor.shape, tensor.quantization.zero_point)
        else:
            value = np.where(draw.random(tensor.shape) < 0.5, limits.min, limits.max)
        found.append(value.astype(tensor.dtype))
    return found


def random_states(truth: Truth, seed: int) -> list[np.ndarray]:
    draw = np.random.default_rng(seed)
    tensors = [truth.graph.tensors[index] for index in truth.entries]
    return [draw.integers(np.iinfo(t.dtype).min, np.iinfo(t.dtype).max + 1, t.shape).astype(t.dtype) for t in tensors]


def _struct(states: list[np.ndarray]) -> bytes:
    """The C struct of all states: the widest come first; one of no states has a byte all the same."""
    ordered = sorted(states, key=lambda value: -value.dtype.itemsize)
    content = b"".join(value.tobytes() for value in ordered) or bytes(1)
    width = max((value.dtype.itemsize for value in states), default=1)
    return content + bytes(-len(content) % width)


def differences(path: Path, program: Path, machine: Machine, frames: int, *, states: bool, seed: int = 0) -> list[str]:
    """Every tensor that is not byte for byte what LiteRT has: 'frame 3: 17 CONV_2D -> name: 5 of 96'.

    Args:
        states: every frame starts from random states; otherwise the stream carries its own.
    """
    truth = Truth(path)
    sound = inputs(truth, frames, seed)
    starts = [random_states(truth, seed + number) for number in range(frames)]
    given = b"".join(
        (_struct(starts[number]) if states else b"") + frame.tobytes() for number, frame in enumerate(sound)
    )
    producers = {index: operator for operator in truth.graph.operators for index in operator.outputs}
    found, carried, seen_frames = [], truth.zero_states(), 0
    for number, seen in enumerate(run(program, machine, given, *(["states"] if states else []))):
        seen_frames += 1
        carried = truth.step(sound[number], starts[number] if states else carried)
        for index, data in seen.tensors.items():
            if index >= len(truth.graph.tensors):
                continue  # a copy that only generated C has; the states show whether it was right
            wanted = truth.tensor(index)
            if data != wanted:
                tensor = truth.graph.tensors[index]
                a, b = np.frombuffer(data, tensor.dtype), np.frombuffer(wanted, tensor.dtype)
                place = f"{producers[index].index} {producers[index].name} -> {tensor.name}"
                found.append(f"frame {number}: {place}: {int((a != b).sum())} of {b.size}")
        if seen.states != _struct(carried):
            found.append(f"frame {number}: states")
        if seen.mask != truth.tensor(truth.graph.outputs["mask"]):
            found.append(f"frame {number}: mask")
    assert seen_frames == frames, f"the program stopped after {seen_frames} frames"
    return found
