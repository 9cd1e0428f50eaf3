"""A Cortex-M as a target: the network and its frontend as C, on an emulated core whose instructions are counted.

    .tflite -> C (quantize/c) -> program -> emulated board: sound in, enhanced sound out -> counts, sizes, outputs

Instruction counts and outputs are those of the real code (emulated); sizes are those of the linked program (measured);
cycles and times are instructions times a CPI that the profile states (estimated). Not modelled anywhere: caches, flash
wait states, other work on the core, energy.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from earshot.core.config import Config, parse
from earshot.core.errors import ConfigError, DeviceError
from earshot.core.files import digest_json, sha256_file
from earshot.quantize.graph import read_graph
from earshot.quantize.metadata import read_description
from earshot.targets.base import Availability, DeviceProfile, Kind, ProfileConfig, ProfileResult
from earshot.targets.mcu.boards import BOARDS, Board
from earshot.targets.mcu.emulator import emulate
from earshot.targets.mcu.reference import Comparison, compare
from earshot.targets.mcu.report import Clock, Memory, count_frames, marks, profile_result
from earshot.targets.mcu.toolchain import (
    COMPILER,
    EMULATOR,
    Program,
    build,
    install_command,
    missing_tools,
    version,
)

if TYPE_CHECKING:
    from earshot.pipeline.progress import Progress
    from earshot.quantize.c.bundle import GeneratedModel

# The generator, and all that profiles what it generates: bare/ and plugin/ are below this folder.
SOURCES = (Path(__file__).parents[2] / "quantize" / "c", Path(__file__).parent)
_SOURCE_SUFFIXES = (".c", ".h", ".ld", ".py")
OPERATOR_MARKS = ("-include", "marks.h", "-DEARSHOT_TRACE")


class CortexMConfig(Config):
    """A core and how code is compiled for it.

    Attributes:
        machine: the emulated board; it decides the core.
        flags: of the compiler.
        fast_flags: what chooses kernels written for the core.
        fast: use them; false compiles plain C.
        cpi: cycles an instruction takes on average.
        cpi_source: where that number comes from.
        frames: frames to count at most; counts hardly differ from frame to frame.
    """

    machine: Literal["mps2-an386", "mps2-an505", "mps3-an547"]
    flags: tuple[str, ...]
    fast_flags: tuple[str, ...] = ()
    fast: bool = True
    cpi: float = Field(gt=0)
    cpi_source: str
    frames: int = Field(default=100, ge=1)


class CortexMTarget:
    """Profiles integer stream models as programs for a Cortex-M.

    Attributes:
        name: the target's name.
        config: core and compiler.
        clock_mhz: the clock that times are estimated for.
    """

    kind: Kind = "microcontroller"
    precisions = frozenset({"int8", "int16x8"})
    exclusive = False

    def __init__(self, name: str, config: CortexMConfig, clock_mhz: float) -> None:
        self.name, self.config, self.clock_mhz = name, config, clock_mhz

    @classmethod
    def open(cls, name: str, profile: DeviceProfile) -> CortexMTarget:
        """The driver's entry in the registry. Raises ConfigError for options that are wrong, or no clock."""
        config = parse(CortexMConfig, profile.options, f"target {name}: options")
        if profile.clock_mhz is None:
            raise ConfigError(f"target {name}: no clock_mhz", "state the clock that times are estimated for")
        return cls(name, config, profile.clock_mhz)

    def availability(self) -> Availability:
        """Ready where the cross compiler, the emulator and a compiler for its counter are installed."""
        missing = missing_tools()
        if not missing:
            return Availability(True)
        return Availability(False, f"{' and '.join(missing)} not installed", install_command(missing))

    def identity(self) -> Mapping[str, str]:
        """Figures change with the compiler and with the sources; the emulator's version is noted beside them."""
        found = {"c": sources_digest()}
        for tool in (COMPILER, EMULATOR):
            with contextlib.suppress(DeviceError):
                found[tool] = version(tool)
        return found

    def profile(self, models: Mapping[str, Path], config: ProfileConfig, progress: Progress) -> list[ProfileResult]:
        """Compiles, runs and counts every model.

        Raises:
            ModelError: a model is no integer stream model, or has operators that have no C.
            DeviceError: a tool is missing; the program does not fit the board, ends with a fault or takes too long;
                or its sound is not the host's.
            ToolError: the generated code does not compile.
        """
        results = []
        progress.start(f"profile on {self.name}", len(models))
        for variant, path in models.items():
            result = self._profile(variant, path, min(config.frames, self.config.frames), config.timeout_seconds)
            progress.advance(note=f"{variant} {result.measurements[0].value:,.0f} instructions")
            results.append(result)
        progress.finish()
        return results

    @property
    def board(self) -> Board:
        """The emulated board."""
        return BOARDS[self.config.machine]

    @property
    def kernel_flags(self) -> tuple[str, ...]:
        """Flags of the compiler, those of the core's own kernels among them."""
        return (*self.config.flags, *(self.config.fast_flags if self.config.fast else ()))

    def _profile(self, variant: str, path: Path, frames: int, timeout_seconds: float) -> ProfileResult:
        from earshot.targets.agent import swinging_noise

        generated, program = linked(path, self.board, (*self.kernel_flags, *OPERATOR_MARKS))
        frontend = read_description(path).frontend
        sound = swinging_noise(frames * frontend.hop, frontend.rate)
        if frontend.channels > 1:  # as it reaches microphones that stand a little apart
            sound = np.stack([np.roll(sound, 3 * number) for number in range(frontend.channels)], axis=1)
        names = marks(program.symbols)
        outcome = emulate(program, self.board, {"sound.f32": sound.tobytes()}, names, timeout_seconds, self.name)
        comparison = compare(path, sound, outcome.files["frames"], outcome.files["enhanced.f32"])
        if complaint := comparison.complaint():
            hint = "the compiler's flags must keep IEEE arithmetic; fast: false tries plain C"
            raise DeviceError(f"{self.name}: {path}: {complaint}", hint)
        painted = int(np.frombuffer(outcome.files["stack"], "<u4")[0])
        # What was touched, or what the call graph allows where it is known.
        memory = Memory(program.flash_bytes, program.static_ram_bytes, max(painted, program.stack_bound or 0))
        clock = Clock(self.clock_mhz, self.config.cpi, frontend.hop_seconds)
        environment = self._environment(program, comparison)
        counts = count_frames(outcome.passings, names)
        return profile_result(variant, self.name, generated, counts, memory, clock, environment)

    def _environment(self, program: Program, comparison: Comparison) -> dict[str, Any]:
        return {
            "engine": "C generated by earshot",
            "emulator": version(EMULATOR),
            "board": self.config.machine,
            "core": self.board.core,
            "compiler": program.compiler,
            "flags": " ".join(self.kernel_flags),
            "clock_mhz": self.clock_mhz,
            "cpi": self.config.cpi,
            "cpi_source": self.config.cpi_source,
            "compared_with_host": asdict(comparison),
            "not_modelled": "caches, flash wait states, other work on the core, energy",
        }


def sources_digest() -> str:
    """Of what a figure depends on besides the model: the C of every program, its generator, and how it is counted."""
    files = [(root, path) for root in SOURCES for path in sorted(root.rglob("*")) if path.suffix in _SOURCE_SUFFIXES]
    return digest_json([[path.relative_to(root).as_posix(), sha256_file(path)] for root, path in files])[:16]


def linked(path: Path, board: Board, flags: Sequence[str]) -> tuple[GeneratedModel, Program]:
    """A model generated, compiled and linked. Raises as `CortexMTarget.profile`."""
    from earshot.quantize.c.bundle import generate
    from earshot.quantize.c.frontend import write_frontend

    with tempfile.TemporaryDirectory(prefix="earshot-mcu-") as temporary:
        folder = Path(temporary)
        generated = generate(path, folder)
        write_frontend(read_graph(path), folder)
        return generated, build(folder, board, flags)
