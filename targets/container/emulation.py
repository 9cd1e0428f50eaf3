"""arm64 programs on an engine of another architecture: QEMU's user-mode emulation, and the traps around it."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from earshot.core.errors import DeviceError

# Arm's part numbers and the features Linux shows; those of the a53 and a72 are a Raspberry Pi's, without cryptography.
PARTS = {
    "cortex-a53": ("0xd03", "fp asimd evtstrm crc32 cpuid"),
    "cortex-a72": ("0xd08", "fp asimd evtstrm crc32 cpuid"),
    "cortex-a76": (
        "0xd0b",
        "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp",
    ),
}
BINFMT = Path("/proc/sys/fs/binfmt_misc")


def check_cpu(cpu: str) -> str:
    """An emulated processor that gives right results. Raises ValueError: `max` does not, others are not known."""
    if cpu == "max":
        raise ValueError("the emulated CPU 'max' makes XNNPACK's int8 kernels give wrong results; name a real one")
    if cpu not in PARTS:
        raise ValueError(f"no such emulated CPU; known: {', '.join(PARTS)}")
    return cpu


def check_environment() -> None:
    """Raises DeviceError where QEMU_CPU asks for the processor that gives wrong results, with or without features."""
    asked = os.environ.get("QEMU_CPU", "")
    if asked.partition(",")[0] == "max":
        raise DeviceError(f"QEMU_CPU={asked} makes XNNPACK's int8 kernels give wrong results", "unset QEMU_CPU")


def cpuinfo(cpu: str, cores: int = 4) -> str:
    """What /proc/cpuinfo says on a board with that processor.

    The emulator shows the host's, in which the runtime finds no Arm processor and crashes.
    """
    part, features = PARTS[cpu]
    return "".join(
        f"processor\t: {core}\nBogoMIPS\t: 108.00\nFeatures\t: {features}\nCPU implementer\t: 0x41\n"
        f"CPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: {part}\nCPU revision\t: 3\n\n"
        for core in range(cores)
    )


def registered() -> bool:
    """Whether this machine's kernel runs arm64 programs; elsewhere than on Linux the engine's own machine counts."""
    if platform.system() != "Linux" or platform.machine() == "aarch64":
        return True
    return any(BINFMT.glob("qemu-aarch64*"))
