"""Compiles a generated network with the bare-metal program around it, and reads what came out.

generated C + bare/ --arm-none-eabi-gcc--> program.elf --nm, size--> Program
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from earshot.core.errors import DeviceError, ToolError
from earshot.core.files import digest_json, write_json
from earshot.targets.cache import cache_folder
from earshot.targets.mcu.boards import Board
from earshot.targets.mcu.stack import deepest_call, read_call_graph

BARE = Path(__file__).with_name("bare")
COMPILER = "arm-none-eabi-gcc"
EMULATOR = "qemu-system-arm"
HOST_COMPILER = "gcc"
# Debian's, for every program that is run.
PACKAGES = {
    COMPILER: "gcc-arm-none-eabi libnewlib-arm-none-eabi",
    EMULATOR: "qemu-system-arm",
    HOST_COMPILER: "gcc",
}
STACK = 16 << 10  # set aside; what is used of it is measured
ENTRY = "model_enhance"
# Multiplication and addition may become one instruction; square roots need no errno; unused functions are left out.
COMMON = (
    "-std=gnu11", "-Wall", "-Wextra", "-ffp-contract=fast", "-fno-math-errno", "-ffunction-sections", "-fdata-sections",
)  # fmt: skip
_TIMEOUT_SECONDS = 300.0
_MEMORY = {"RAM": "RAM", "ROM": "flash"}


@dataclass(frozen=True)
class Program:
    """A linked program.

    Attributes:
        elf: the file.
        symbols: function or object -> address.
        sections: section -> bytes.
        stack_bound: bytes of stack that `model_enhance` can need, from the compiler's call graph; None where that has
            calls whose depth it does not know.
        compiler: its version.
    """

    elf: Path
    symbols: Mapping[str, int]
    sections: Mapping[str, int]
    stack_bound: int | None
    compiler: str

    @property
    def flash_bytes(self) -> int:
        """Code, constants and initial values: all that is programmed into flash, the emulator's harness excepted."""
        return sum(self.sections.get(name, 0) for name in (".vectors", ".text", ".ARM.exidx", ".data"))

    @property
    def static_ram_bytes(self) -> int:
        """Variables: arena, states, frontend; neither the stack nor the harness."""
        return self.sections.get(".data", 0) + self.sections.get(".bss", 0)

    def nearest(self, address: int) -> str:
        """The function an address lies in."""
        functions = ((start, name) for name, start in self.symbols.items() if not name.startswith("earshot_mark_"))
        below = [(start, name) for start, name in functions if start <= address]
        return max(below)[1] if below else f"{address:#x}"


def missing_tools() -> list[str]:
    """Programs that are not on the path."""
    return [tool for tool in PACKAGES if shutil.which(tool) is None]


def install_command(tools: Iterable[str]) -> str:
    """The command that installs programs."""
    return "apt-get install " + " ".join(PACKAGES.get(tool, PACKAGES[COMPILER]) for tool in tools)


@functools.cache
def version(tool: str) -> str:
    """The first line that `TOOL --version` says. Raises DeviceError where there is no such program."""
    return (run([tool, "--version"], Path.cwd()).stdout.splitlines() or [tool])[0]


def build(generated: Path, board: Board, flags: Sequence[str]) -> Program:
    """Compiles and links all C of `generated` (with `model_enhance`) and of `bare/` for a board, once for each content.

    Raises:
        DeviceError: the compiler is missing, or the program does not fit the board's memory.
        ToolError: the compiler refused the code, or the cache cannot be written.
    """
    sources = {
        str(path.relative_to(root)): path
        for root in (BARE, generated)
        for path in sorted(root.rglob("*"))
        if path.suffix in (".c", ".h", ".ld")
    }
    compiler = version(COMPILER)
    content = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in sources.items()}
    key = digest_json([compiler, board.link_symbols(STACK), list(COMMON), list(flags), content])
    folder = cache_folder() / "mcu" / "programs" / key[:32]
    if not folder.is_dir():
        _fill(folder, sources, board, flags)
    elf = folder / "program.elf"
    bound = json.loads((folder / "stack.json").read_text())["bytes"]
    return Program(elf, _symbols(elf), _sections(elf), bound, compiler)


def _fill(folder: Path, sources: Mapping[str, Path], board: Board, flags: Sequence[str]) -> None:
    """Builds beside the place and moves there whole, so that two builds at once do not meet."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".build-") as temporary:
            work = Path(temporary)
            for name, path in sources.items():
                (work / name).parent.mkdir(exist_ok=True)
                shutil.copy(path, work / name)
            _compile(work, board, flags)
            done = work / "done"
            done.mkdir()
            (work / "program.elf").replace(done / "program.elf")
            write_json(done / "stack.json", {"bytes": deepest_call(read_call_graph(work.glob("*.ci")), ENTRY)})
            try:
                done.rename(folder)
            except OSError:
                if not folder.is_dir():  # else another build was quicker, and made the same
                    raise
    except OSError as error:
        raise cache_error(folder, error) from error


def cache_error(path: Path, error: OSError) -> ToolError:
    """The error for a write to the cache that failed."""
    return ToolError(f"{path}: cannot be written ({error.strerror})", "set EARSHOT_CACHE to a folder with space")


def _compile(work: Path, board: Board, flags: Sequence[str]) -> None:
    code = sorted(str(path.relative_to(work)) for path in work.rglob("*.c"))
    compiled = run([COMPILER, *COMMON, *flags, "-fcallgraph-info=su", "-c", *code], work)
    if compiled.returncode:
        why = _complaint(compiled.stderr)
        raise ToolError(f"{COMPILER} refused the generated C: {why}", "check the target's flags")
    symbols = [f"-Wl,--defsym={name}={value:#x}" for name, value in board.link_symbols(STACK).items()]
    objects = [Path(name).with_suffix(".o").name for name in code]
    linker = ["-nostdlib", "-Wl,--gc-sections", "-T", "board.ld", *symbols, *objects, "-lm", "-lc", "-lgcc"]
    linked = run([COMPILER, *flags, *linker, "-o", "program.elf"], work)
    if linked.returncode:
        raise _link_error(linked.stderr, board)


def _link_error(text: str, board: Board) -> DeviceError | ToolError:
    over = re.search(r"region [`'](RAM|ROM)' overflowed by (\d+) bytes", text)
    if over is None:
        return ToolError(f"{COMPILER} cannot link the program: {_complaint(text)}", install_command([COMPILER]))
    have = board.ram.length if over[1] == "RAM" else board.rom.length
    need = f"{have + int(over[2]):,} bytes of {_MEMORY[over[1]]}"
    hint = "prune the network, or convert it to int8"
    return DeviceError(f"{board.machine}: the program needs {need}, the board has {have:,}", hint)


def _complaint(text: str) -> str:
    """The compiler's first error line, or its last words."""
    lines = [line.strip() for line in text.splitlines() if line.strip()] or ["no message"]
    return next((line for line in lines if "error:" in line or "undefined reference" in line), lines[-1])


def _symbols(elf: Path) -> dict[str, int]:
    listed = run(["arm-none-eabi-nm", "--defined-only", str(elf)], elf.parent)
    rows = (line.split() for line in listed.stdout.splitlines())
    # Mapping symbols ($t, $d) are the assembler's own; the lowest bit of a function's address says Thumb.
    return {row[2]: int(row[0], 16) & ~1 for row in rows if len(row) == 3 and not row[2].startswith("$")}


def _sections(elf: Path) -> dict[str, int]:
    listed = run(["arm-none-eabi-size", "-A", str(elf)], elf.parent)
    rows = (line.split() for line in listed.stdout.splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) == 3 and row[0].startswith(".")}


def run(command: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """A tool run to its end, in a folder. Raises DeviceError when it is missing or hangs."""
    try:
        return subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=False,
            env={**os.environ, "LC_ALL": "C"}, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise DeviceError(f"{command[0]} is not installed", install_command([command[0]])) from error
    except subprocess.TimeoutExpired as error:
        hint = "run it again when this machine has less to do, or take a smaller network"
        raise DeviceError(f"{command[0]} took longer than {_TIMEOUT_SECONDS:g} s", hint) from error
