"""From passings of marks to instructions per frame and operator, and from those to measurements."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from earshot.core.errors import DeviceError
from earshot.core.measurement import Measurement, Provenance
from earshot.targets.base import OperatorCost, ProfileResult
from earshot.targets.mcu.emulator import Passings

if TYPE_CHECKING:
    from earshot.quantize.c.bundle import GeneratedModel

# A frame is what runs from the first instruction of the first of these to that of the last.
ANALYSE, NETWORK, SYNTHESISE, DONE = "model_analyse", "model_step", "model_synthesise", "hop_done"
_OPERATOR = re.compile(r"earshot_mark_(\d+)_(\d+)")


@dataclass(frozen=True)
class FrameCounts:
    """Instructions of every frame of a run.

    Attributes:
        frames: int64 `[frames]`, sound in to sound out.
        graph: int64 `[frames]`, the network alone.
        operators: operator's index -> int64 `[frames]`; they add up to `graph`. Copies of states between frames count
            with the operator that runs after them.
    """

    frames: np.ndarray
    graph: np.ndarray
    operators: Mapping[int, np.ndarray]

    @property
    def worst(self) -> int:
        """The frame that took most."""
        return int(self.frames.argmax())


def marks(symbols: Mapping[str, int]) -> dict[int, str]:
    """Address -> name of all that a program is counted at.

    Operators that move nothing end where the one before them ends: what was spent up to there is that one's, the first.
    """
    ends = {(int(match[1]), int(match[2])): match[0] for name in symbols if (match := _OPERATOR.fullmatch(name))}
    operators = [name for _, name in sorted(ends.items(), reverse=True)]
    return {symbols[name]: name for name in (*operators, ANALYSE, NETWORK, SYNTHESISE, DONE)}


def count_frames(passings: Passings, names: Mapping[int, str]) -> FrameCounts:
    """Sorts a run's passings into frames.

    Raises:
        DeviceError: the program did not pass the marks in the order of its frames.
    """
    passed = [names[address] for address in passings.addresses.tolist()]
    length = passed.index(DONE) + 1 if DONE in passed else 0
    frames = len(passed) // max(length, 1)
    once = passed[:length]
    if not frames or passed != once * frames or once[:2] != [ANALYSE, NETWORK] or once[-2:] != [SYNTHESISE, DONE]:
        raise DeviceError("the program did not come by its marks frame by frame", "is the compiler's optimisation on?")
    counts = passings.counts.reshape(frames, length)
    graph = counts[:, -2] - counts[:, 1]
    operators: dict[int, np.ndarray] = {}
    inside = [int(match[1]) for name in once if (match := _OPERATOR.fullmatch(name))]
    # What follows the last operator's mark is its own too: the way back to the caller.
    edges = np.concatenate([counts[:, 1:2], counts[:, 2:-3], counts[:, -2:-1]], axis=1) if inside else counts[:, 1:2]
    for position, index in enumerate(inside):
        spent = edges[:, position + 1] - edges[:, position]
        operators[index] = operators.get(index, 0) + spent
    return FrameCounts(counts[:, -1] - counts[:, 0], graph, operators)


@dataclass(frozen=True)
class Clock:
    """What turns instructions into an estimate of time."""

    mhz: float
    cpi: float
    hop_seconds: float


@dataclass(frozen=True)
class Memory:
    """Bytes a program needs."""

    flash: int
    static_ram: int
    stack: int


def profile_result(
    variant: str,
    target: str,
    generated: GeneratedModel,
    counts: FrameCounts,
    memory: Memory,
    clock: Clock,
    environment: Mapping[str, Any],
) -> ProfileResult:
    """All that is reported of one model; instructions and times are those of the frame that took most."""
    worst, frames = counts.worst, len(counts.frames)
    instructions, graph = int(counts.frames[worst]), int(counts.graph[worst])
    cycles = instructions * clock.cpi

    def of(provenance: Provenance, metric: str, value: float, unit: str, n: int = 1) -> Measurement:
        return Measurement(metric, value, unit, n, provenance, target)

    emulated, estimated, measured = Provenance.EMULATED, Provenance.ESTIMATED, Provenance.MEASURED
    measurements = [
        of(emulated, "instructions_per_frame", instructions, "instructions", frames),
        of(emulated, "graph_instructions_per_frame", graph, "instructions", frames),
        *([of(emulated, "instructions_per_mac", graph / generated.macs, "1", frames)] if generated.macs else []),
        of(estimated, "cycles_per_frame", cycles, "cycles", frames),
        of(estimated, "rtf", cycles / (clock.mhz * 1e6 * clock.hop_seconds), "1", frames),
        of(estimated, "graph_rtf", graph * clock.cpi / (clock.mhz * 1e6 * clock.hop_seconds), "1", frames),
        of(estimated, "realtime_clock_mhz", cycles / clock.hop_seconds / 1e6, "MHz", frames),
        of(measured, "flash_bytes", memory.flash, "bytes"),
        of(emulated, "ram_bytes", memory.static_ram + memory.stack, "bytes"),
        of(measured, "arena_bytes", generated.arena_bytes, "bytes"),
        of(measured, "state_bytes", generated.state_bytes, "bytes"),
        of(emulated, "stack_bytes", memory.stack, "bytes", frames),
    ]
    operators = tuple(
        OperatorCost(item.index, item.name, item.location, float(counts.operators[item.index][worst]), "instructions")
        for item in generated.operators
        if item.index in counts.operators
    )
    raw = {
        "frames": counts.frames.tolist(),
        "graph": counts.graph.tolist(),
        "macs": generated.macs,
        "arena_lower_bound": generated.arena_lower_bound,
    }
    return ProfileResult(variant, tuple(measurements), None, dict(environment), raw, operators)
