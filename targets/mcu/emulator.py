"""Runs a program on an emulated board: files in, files out, and the instruction count at every mark it came by."""

from __future__ import annotations

import os
import re
import signal
import struct
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from earshot.core.errors import DeviceError, ToolError
from earshot.core.files import digest_json
from earshot.targets.cache import cache_folder
from earshot.targets.mcu.boards import Board
from earshot.targets.mcu.toolchain import EMULATOR, HOST_COMPILER, Program, cache_error, install_command, run, version
from earshot.targets.tool import bound_to_this_process

PLUGIN = Path(__file__).with_name("plugin")
FAULT_FILE = "fault"
_PLUGIN_FLAGS = ("-std=c11", "-O2", "-Wall", "-Wextra", "-shared", "-fPIC", "-fvisibility=hidden")
# Bits of the configurable fault status register, Armv7-M and Armv8-M architecture reference manuals.
_CAUSES = {
    0: "instruction access violation", 1: "data access violation", 3: "memory fault while unstacking",
    4: "memory fault while stacking", 8: "instruction bus error", 9: "precise data bus error",
    10: "imprecise data bus error", 11: "bus error while unstacking", 12: "bus error while stacking",
    16: "undefined instruction", 17: "invalid state", 18: "invalid return", 19: "no coprocessor",
    20: "stack overflow", 24: "unaligned access", 25: "division by zero",
}  # fmt: skip


@dataclass(frozen=True)
class Passings:
    """The marks in the order the program came by them: int64 `[passings]` each.

    Attributes:
        addresses: which mark.
        counts: instructions executed before it, from reset.
    """

    addresses: np.ndarray
    counts: np.ndarray


@dataclass(frozen=True)
class Outcome:
    """What a run left."""

    files: Mapping[str, bytes]
    passings: Passings


def emulate(
    program: Program,
    board: Board,
    files: Mapping[str, bytes],
    marks: Iterable[int],
    timeout_seconds: float,
    device: str,
) -> Outcome:
    """Runs a program to its end.

    Args:
        program: it reads and writes files by semihosting.
        board: where it runs.
        files: what it finds in its folder.
        marks: addresses at which to note the count.
        timeout_seconds: a program that takes longer is stopped.
        device: name that begins every message.

    Returns:
        Every file the program wrote, and the marks it came by.

    Raises:
        DeviceError: the emulator is missing, was killed or took too long; the program ended with a fault or an error.
        ToolError: the counting plugin cannot be built.
    """
    plugin = counting_plugin()
    with tempfile.TemporaryDirectory(prefix="earshot-mcu-") as temporary:
        folder = Path(temporary)
        for name, content in files.items():
            (folder / name).write_bytes(content)
        (folder / "marks").write_text("".join(f"{address:x}\n" for address in sorted(set(marks))))
        command = [
            *bound_to_this_process(), EMULATOR, "-machine", board.machine, "-nographic", "-monitor", "none",
            "-serial", "none", "-semihosting-config", "enable=on,target=native",
            "-plugin", f"{str(plugin).replace(',', ',,')},marks=marks,out=counts", "-kernel", str(program.elf),
        ]  # fmt: skip
        _run(command, folder, timeout_seconds, device, program)
        passed = (folder / "counts").read_text().split()
        own = (*files, "marks", "counts")
        left = {path.name: path.read_bytes() for path in folder.iterdir() if path.name not in own}
    addresses = np.array([int(text, 16) for text in passed[0::2]], np.int64)
    return Outcome(left, Passings(addresses, np.array(passed[1::2], np.int64)))


def counting_plugin() -> Path:
    """The plugin as a library, built on first use. Raises DeviceError without a compiler or emulator, ToolError."""
    source = b"".join(path.read_bytes() for path in sorted(PLUGIN.iterdir()))
    interface = plugin_interface(version(EMULATOR))
    flags = [*_PLUGIN_FLAGS, f"-DPLUGIN_VERSION={interface}"]
    key = digest_json([source.hex(), flags, os.uname().machine])
    library = cache_folder() / "mcu" / f"count-{key[:32]}.so"
    if library.is_file():
        return library
    try:
        library.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=library.parent, prefix=".build-") as temporary:
            made = Path(temporary) / library.name
            built = run([HOST_COMPILER, *flags, str(PLUGIN / "count.c"), "-o", str(made)], library.parent)
            if built.returncode:
                complaint = (built.stderr.strip().splitlines() or ["no message"])[0]
                raise ToolError(
                    f"the instruction counter cannot be compiled: {complaint}", install_command([HOST_COMPILER])
                )
            made.replace(library)
    except OSError as error:
        raise cache_error(library, error) from error
    return library


def plugin_interface(emulator: str) -> int:
    """The plugin interface's version to state to an emulator of that `--version` line: QEMU 9 asks for 2 at least."""
    found = re.search(r"version (\d+)\.", emulator)
    return 2 if found and int(found[1]) >= 9 else 1


def _run(command: list[str], folder: Path, timeout_seconds: float, device: str, program: Program) -> None:
    try:
        ended = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, errors="replace", timeout=timeout_seconds,
            stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise DeviceError(f"{device}: {EMULATOR} is not installed", install_command([EMULATOR])) from error
    except subprocess.TimeoutExpired as error:
        message = f"{device}: the program ran longer than {timeout_seconds:g} s in the emulator"
        raise DeviceError(message, "raise timeout_seconds, or profile fewer frames") from error
    fault = folder / FAULT_FILE
    if fault.is_file():
        raise DeviceError(f"{device}: {describe_fault(fault.read_bytes(), program)}", _FAULT_HINT)
    if ended.returncode < 0:
        name = signal.Signals(-ended.returncode).name.removeprefix("SIG")
        raise DeviceError(f"{device}: the emulator was killed by signal {name}", _KILLED_HINT)
    if ended.returncode:
        said = [line for line in ended.stderr.strip().splitlines() if line]
        # The program says nothing: it ends early when what it read or made cannot be read or written.
        who, hint = (f"{EMULATOR} ({said[0]})", _REFUSED_HINT) if said else ("the program", _ENDED_HINT)
        raise DeviceError(f"{device}: {who} ended with code {ended.returncode}", hint)


_FAULT_HINT = "the generated code and the core's flags must agree; fast: false tries plain C"
_KILLED_HINT = "run it again; by KILL most often the memory was short: end other programs first"
_REFUSED_HINT = f"QEMU 6 or later with its plugins is needed: {install_command([EMULATOR])}"
_ENDED_HINT = "free space where temporary files go, or set TMPDIR to a folder with space"


def describe_fault(registers: bytes, program: Program) -> str:
    """One line: where a fault was taken and why. `registers` as `struct fault` of bare/semihosting.h."""
    cfsr, hfsr, address, link, counter = struct.unpack_from("<5I", registers)
    causes = [text for bit, text in _CAUSES.items() if cfsr >> bit & 1] or ["no cause given"]
    if cfsr >> 15 & 1:
        causes.append(f"at address {address:#010x}")
    where = program.nearest(counter) if counter else "an unknown place"
    detail = f"pc {counter:#010x}, lr {link:#010x}, cfsr {cfsr:#010x}, hfsr {hfsr:#010x}"
    return f"fault in {where}: {' '.join(causes)} ({detail})"
