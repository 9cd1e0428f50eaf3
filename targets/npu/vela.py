"""Runs Vela on one .tflite and reads its report: totals, cycles of every pass, operators left to the CPU and why."""

from __future__ import annotations

import csv
import re
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import model_validator

from earshot.core.config import Config
from earshot.core.errors import ConfigError, DeviceError, ToolError
from earshot.core.files import write_atomic
from earshot.targets.npu.environment import environment_python, vela_version
from earshot.targets.npu.strides import Narrowed, narrow_strides
from earshot.targets.tool import bound_to_this_process

Accelerator = Literal[
    "ethos-u55-32",
    "ethos-u55-64",
    "ethos-u55-128",
    "ethos-u55-256",
    "ethos-u65-256",
    "ethos-u65-512",
    "ethos-u85-128",
    "ethos-u85-256",
    "ethos-u85-512",
    "ethos-u85-1024",
    "ethos-u85-2048",
]
ARM_SYSTEMS = "Arm/vela.ini"
KIB = 1024
_WARNING = re.compile(r"operator: (?P<operator>\S+), ofm: '(?P<tensor>.*)'\nReason: (?P<reason>.+(?:\n(?!\n).+)*)")


class VelaConfig(Config):
    """The chip Vela compiles for.

    Attributes:
        accelerator: NPU and its multiply-accumulates a cycle.
        systems: file with the system configurations and memory modes, Vela's own or one's own.
        system: section of it that gives clock, memories and their bandwidths.
        memory_mode: section that says what lies in which memory.
        narrow_strides: first replace strides the NPU has not by the same sums without them (`strides.py`).
    """

    accelerator: Accelerator
    systems: str = ARM_SYSTEMS
    system: str
    memory_mode: str = "Shared_Sram"
    narrow_strides: bool = True

    @model_validator(mode="after")
    def _same_family(self) -> VelaConfig:
        # Vela takes the clock and memories of another NPU without a word.
        family = self.accelerator.rpartition("-")[0]
        if self.systems == ARM_SYSTEMS and not self.system.lower().replace("_", "-").startswith(family):
            raise ValueError(f"system '{self.system}' is not one of {family}'s")
        return self


@dataclass(frozen=True)
class Pass:
    """One pass of the compiled network: Vela cuts and joins operators as the NPU wants them.

    Attributes:
        operator: Vela's name of the operator it comes from, e.g. `Conv2D`.
        tensor: name of the tensor it makes.
        placement: `npu` or `cpu`.
        cycles: estimated; 0 for what is left to the CPU.
    """

    operator: str
    tensor: str
    placement: str
    cycles: float


@dataclass(frozen=True)
class Fallback:
    """An operator the NPU cannot run: its builtin name, the tensor it makes, and Vela's reason."""

    operator: str
    tensor: str
    reason: str


@dataclass(frozen=True)
class VelaReport:
    """What Vela says of one network.

    Attributes:
        cycles: of one inference on the NPU, memory traffic included.
        clock_hz: of the NPU in this system.
        macs: multiply-accumulates placed on the NPU.
        sram_bytes: SRAM the NPU's part of the network needs.
        other_bytes: what it keeps in flash or DRAM: encoded weights, biases, commands.
        compiled_bytes: size of the compiled .tflite.
        passes: in order.
        narrowed: tensors whose operators had a stride too wide, and were replaced.
        fallbacks: what runs on the CPU, with the reason.
    """

    cycles: float
    clock_hz: float
    macs: int
    sram_bytes: int
    other_bytes: int
    compiled_bytes: int
    passes: tuple[Pass, ...]
    narrowed: tuple[str, ...]
    fallbacks: tuple[Fallback, ...]


def compile_model(model: Path, config: VelaConfig, timeout_seconds: float, keep: Path | None = None) -> VelaReport:
    """Compiles a .tflite.

    Args:
        model: an integer .tflite.
        config: the chip.
        timeout_seconds: a compilation that takes longer is stopped.
        keep: where the compiled .tflite shall go; None keeps it nowhere.

    Raises:
        ModelError: the file is missing or damaged.
        ConfigError: Vela knows no such system or memory mode.
        ToolError: it refused the model or crashed, or the compiled file cannot be written.
        DeviceError: it took too long.
    """
    shaped = narrow_strides(model) if config.narrow_strides else Narrowed(model.read_bytes(), frozenset())
    with tempfile.TemporaryDirectory(prefix="earshot-vela-") as scratch:
        folder = Path(scratch)
        (folder / "model.tflite").write_bytes(shaped.content)
        log = _run(model, config, folder, timeout_seconds)
        compiled = folder / "model_vela.tflite"
        try:
            summary = _rows(folder, "*_summary_*.csv")[0]
            passes = tuple(_pass(row) for row in _rows(folder, "*_per-layer.csv"))
            report = _report(summary, passes, log, compiled.stat().st_size, shaped.tensors)
        except (IndexError, KeyError, ValueError, OSError) as error:
            raise ToolError(
                f"{model}: vela's report cannot be read ({type(error).__name__}: {error})",
                "install it again: earshot targets setup ethos-u55",
            ) from error
        if keep is not None:
            write_atomic(keep, compiled.read_bytes())
    return report


def _run(model: Path, config: VelaConfig, folder: Path, timeout_seconds: float) -> str:
    if not environment_python().exists():
        hint = "install it again: earshot targets setup ethos-u55"
        raise ToolError(f"{environment_python()}: cannot be started (No such file or directory)", hint)
    command = [
        *bound_to_this_process(),
        str(environment_python()),
        "-m",
        "ethosu.vela",
        str(folder / "model.tflite"),
        "--output-dir",
        str(folder),
    ]
    command += ["--accelerator-config", config.accelerator, "--config", config.systems]
    command += ["--system-config", config.system, "--memory-mode", config.memory_mode]
    # The file of passes is written only when they are printed too.
    command += ["--show-cpu-operations", "--verbose-performance"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_seconds, check=False)
    except subprocess.TimeoutExpired as error:
        raise DeviceError(f"{model}: vela took longer than {timeout_seconds:g} s", "raise timeout_seconds") from error
    except OSError as error:
        raise ToolError(
            f"{command[0]}: cannot be started ({error.strerror})", "see what the system says of it"
        ) from error
    if done.returncode:
        raise _failure(model, config, done)
    return done.stdout + done.stderr


def _failure(model: Path, config: VelaConfig, done: subprocess.CompletedProcess[str]) -> ConfigError | ToolError:
    if done.returncode < 0:
        ended = signal.Signals(-done.returncode).name
        return ToolError(f"{model}: vela {vela_version()} crashed ({ended})", "check the model: earshot profile FILE")
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    said = lines[-1] if lines else f"exit code {done.returncode}"
    if "CliOptionError" in said:
        known = f"{environment_python()} -m ethosu.vela --list-configs {config.systems}"
        return ConfigError(f"vela: {said.partition(': ')[2]}", f"what there is: {known}")
    hint = "give an integer .tflite that earshot convert wrote, or another chip"
    return ToolError(f"{model}: vela {vela_version()} refused it ({said})", hint)


def _rows(folder: Path, pattern: str) -> list[dict[str, str]]:
    (path,) = folder.glob(pattern)
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _pass(row: Mapping[str, str]) -> Pass:
    return Pass(row["Original Operator"], row["Name"], row["Target"].lower(), float(row["Op Cycles"]))


def _report(
    summary: Mapping[str, str], passes: tuple[Pass, ...], log: str, compiled_bytes: int, narrowed: frozenset[str]
) -> VelaReport:
    memories = {
        name: round(float(summary[f"{name}_memory_used"]) * KIB)
        for name in ("sram", "dram", "on_chip_flash", "off_chip_flash")
    }
    return VelaReport(
        cycles=float(summary["cycles_total"]),
        clock_hz=float(summary["core_clock"]),
        macs=int(float(summary["nn_macs"])),
        sram_bytes=memories.pop("sram"),
        other_bytes=sum(memories.values()),
        compiled_bytes=compiled_bytes,
        passes=passes,
        narrowed=tuple(sorted(narrowed)),
        fallbacks=tuple(
            Fallback(found["operator"], found["tensor"], " ".join(found["reason"].split()))
            for found in _WARNING.finditer(log)
        ),
    )
