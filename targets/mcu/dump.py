"""Every tensor a network computes on a target, and whether the reference kernels compute the same: to the bit."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from earshot.core.errors import DeviceError
from earshot.targets.mcu.emulator import emulate
from earshot.targets.mcu.reference import ReferenceStream, split_frames
from earshot.targets.mcu.target import CortexMTarget, linked

FLAGS = ("-DEARSHOT_DUMP", "-DEARSHOT_TRACE")


@dataclass(frozen=True)
class DumpedFrame:
    """One frame on the target.

    Attributes:
        frame: the network's input, as the target's own frontend made it.
        tensors: tensor's index -> its bytes, of all that the program computes in the order it does.
    """

    frame: bytes
    tensors: dict[int, bytes]


@dataclass(frozen=True)
class Difference:
    """Where target and reference part first.

    Attributes:
        frame: number of the frame.
        tensor: index of the tensor; `name` as the graph has it.
        elements: how many of its elements differ.
    """

    frame: int
    tensor: int
    name: str
    elements: int


def dump(target: CortexMTarget, path: Path, sound: np.ndarray, timeout_seconds: float = 300.0) -> list[DumpedFrame]:
    """Runs a model on sound float32 `[hops * hop]` and keeps every tensor. Raises as `CortexMTarget.profile`."""
    _, program = linked(path, target.board, (*target.kernel_flags, *FLAGS))
    outcome = emulate(
        program, target.board, {"sound.f32": sound.astype("<f4").tobytes()}, (), timeout_seconds, target.name
    )
    frames = [frame.tobytes() for frame, _ in split_frames(path, outcome.files["frames"])]
    records = list(_records(outcome.files.get("dump", b"")))
    if not frames or len(records) % len(frames):
        raise DeviceError(f"{target.name}: {path}: the program dumped nothing", "give it at least one hop of sound")
    length = len(records) // len(frames)
    parts = [records[start : start + length] for start in range(0, len(records), length)]
    return [DumpedFrame(frame, dict(part)) for frame, part in zip(frames, parts, strict=True)]


def first_difference(path: Path, frames: list[DumpedFrame]) -> Difference | None:
    """The first tensor that is not what the reference kernels make of the same frames; None where all are."""
    stream = ReferenceStream(path, observe=True)
    tensors = stream.graph.tensors
    entry = tensors[stream.graph.inputs[stream.description.input]]
    for number, dumped in enumerate(frames):
        stream.step(np.frombuffer(dumped.frame, entry.dtype))
        for index, content in dumped.tensors.items():
            expected = stream.tensor(index).reshape(-1)
            given = np.frombuffer(content, expected.dtype)
            apart = expected.size if given.size != expected.size else int((given != expected).sum())
            if apart:
                return Difference(number, index, tensors[index].name, apart)
    return None


def _records(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Tensor's index and content, of all records."""
    head = struct.Struct("<3i")
    position = 0
    while position < len(content):
        _, tensor, size = head.unpack_from(content, position)
        position += head.size
        yield tensor, content[position : position + size]
        position += size
