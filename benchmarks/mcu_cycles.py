"""Where the CPI in the Cortex-M profiles comes from: python benchmarks/mcu_cycles.py MODEL.tflite...

Runs one frame on the emulated core, takes every instruction it executed, and adds up cycles by documented timings:

    Cortex-M4   technical reference manual r0p1, table 3-1: 1 cycle for data processing and every multiply-accumulate;
                loads 2, or 1 right behind another load or store; stores 1; multiple loads and stores 1 + registers;
                taken branches 1 + 2 (the manual says 1 to 3 to fill the pipeline again); VFMA and VMLA 3, VDIV and
                VSQRT 14, divisions 7 (2 to 12)
    Cortex-M55  the same without what its longer pipeline and loop hardware save: loads 1, taken branches 1 + 1,
                low-overhead loop ends 1, VFMA 1; a vector instruction works on two beats a cycle: 2 cycles, or 1 right
                behind one of the other kind (memory or arithmetic), with which it overlaps
    Cortex-M33  Arm publishes no timings: the M4's cycles by the two cores' CoreMark/MHz as Arm gives them, 3.42 / 4.02

All without caches, flash wait states and bus contention. Prints cycles, instructions and CPI for each model.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from earshot.targets.agent import swinging_noise
from earshot.targets.base import load_profile
from earshot.targets.mcu.emulator import emulate
from earshot.targets.mcu.target import CortexMTarget, linked

DIVISIONS = {"sdiv": 7, "udiv": 7, "vdiv": 14, "vsqrt": 14}
SLOW_M4 = {**DIVISIONS, **dict.fromkeys(("vfma", "vfms", "vfnma", "vfnms", "vmla", "vmls", "vnmla", "vnmls"), 3)}
COREMARK = {"cortex-m4": 3.42, "cortex-m33": 4.02}
_LISTED = re.compile(r"\s*([0-9a-f]+):\t(\S+)\s*(.*)")
_BRANCH = re.compile(r"^(b(?!f|ic)|cbn?z|tb[bh])|^le\b|^letp\b|^w?ls|^dls")


def executed(target: CortexMTarget, model: Path) -> list[tuple[int, str, str]]:
    """Address, mnemonic and operands of all that one frame executes, in order."""
    _, program = linked(model, target.board, target.kernel_flags)
    command = ["arm-none-eabi-objdump", "-d", "--no-show-raw-insn", str(program.elf)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    code = {int(row[1], 16): (row[2], row[3]) for row in map(_LISTED.match, text.splitlines()) if row}
    sound = {"sound.f32": swinging_noise(2048, 16000).tobytes()}
    passed = emulate(program, target.board, sound, code, 300, target.name).passings.addresses.tolist()
    first, last = passed.index(program.symbols["model_analyse"]), passed.index(program.symbols["hop_done"])
    return [(address, *code[address]) for address in passed[first:last]]


def registers(operands: str) -> int:
    """Registers in a list such as {r4, r6-r8, lr}."""
    inside = re.search(r"\{(.*)\}", operands)
    spans = [re.findall(r"\d+", part) for part in (inside[1] if inside else operands).split(",")]
    return sum(int(span[1]) - int(span[0]) + 1 if len(span) == 2 else 1 for span in spans)


def m4_cycles(name: str, operands: str, before: str, taken: bool) -> float:
    """Cycles of one instruction on a Cortex-M4."""
    refill = 2 if taken else 0
    if re.match(r"push|pop|ldm|stm|vpush|vpop|vldm|vstm", name):
        return 1 + registers(operands) + refill
    if re.match(r"ldrd|strd", name):
        return 3
    if re.match(r"v?ldr", name):
        return (1 if re.match(r"v?(ldr|str)", before) else 2) + refill
    return SLOW_M4.get(name.partition(".")[0], 1) + (refill if _BRANCH.match(name) else 0)


def m55_cycles(name: str, operands: str, before: str, taken: bool) -> float:
    """Cycles of one instruction on a Cortex-M55."""
    if is_vector(name, operands):
        return 1 if vector_kind(before) not in (None, vector_kind(name)) else 2
    if re.match(r"push|pop|ldm|stm|vpush|vpop|vldm|vstm", name):
        return 1 + registers(operands) / 2
    refill = 1 if taken and _BRANCH.match(name) and not name.startswith("le") else 0
    return DIVISIONS.get(name.partition(".")[0], 1) + refill


def is_vector(name: str, operands: str) -> bool:
    """Whether it works on vectors: objdump 2.40 shows part of them as coprocessor instructions."""
    return bool(re.match(r"ldc|stc|cdp|mcr|mrc", name)) or (
        name.startswith("v") and bool(re.search(r"\bq\d", operands))
    )


def vector_kind(name: str) -> str | None:
    """`memory`, `arithmetic`, or None for scalar instructions."""
    if re.match(r"ldc|stc|vldr[bhw]|vstr[bhw]|vld\d|vst\d", name):
        return "memory"
    return "arithmetic" if re.match(r"v|cdp|mcr|mrc", name) else None


def cycles(target: CortexMTarget, model: Path, timing: Callable[[str, str, str, bool], float]) -> tuple[float, int]:
    """Cycles and instructions of one frame."""
    trace, total, before = executed(target, model), 0.0, ""
    for (address, name, operands), (following, _, _) in zip(trace, [*trace[1:], trace[-1]], strict=True):
        total += timing(name, operands, before, not 0 < following - address <= 4)
        before = name
    return total, len(trace)


def main() -> None:
    """Prints one line a model, core and kind of kernel."""
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    print(f"{'':22}{'core':12}{'kernels':9}{'cycles':>11}{'instructions':>14}{'CPI':>7}")
    for path in map(Path, sys.argv[1:]):
        for core, timing in (("cortex-m4", m4_cycles), ("cortex-m33", m4_cycles), ("cortex-m55", m55_cycles)):
            for fast in (True, False):
                profile = load_profile(core)
                options = {**profile.options, "fast": fast}
                target = CortexMTarget.open(core, profile.model_copy(update={"options": options}))
                spent, count = cycles(target, path, timing)
                spent *= COREMARK["cortex-m4"] / COREMARK.get(core, COREMARK["cortex-m4"])
                kind = "fast" if fast else "plain"
                print(f"{path.name:22}{core:12}{kind:9}{spent:11,.0f}{count:14,}{spent / count:7.2f}", flush=True)


if __name__ == "__main__":
    main()
