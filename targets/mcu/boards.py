"""Boards that QEMU emulates, one for each core: where their memory lies."""

from __future__ import annotations

from dataclasses import dataclass

KIB, MIB = 1 << 10, 1 << 20


@dataclass(frozen=True)
class Region:
    """A stretch of memory, in bytes."""

    origin: int
    length: int


@dataclass(frozen=True)
class Board:
    """An emulated board. Its memory is larger than the devices it stands for: what does not fit is measured too.

    Attributes:
        machine: what QEMU calls it.
        core: its processor, as compilers name it.
        boot: where the processor finds its vectors at reset.
        rom, ram: where program and data go.
    """

    machine: str
    core: str
    boot: int
    rom: Region
    ram: Region

    def link_symbols(self, stack: int) -> dict[str, int]:
        """What the linker script asks for; `stack` bytes are set aside for the stack."""
        return {
            "BOOT_ORIGIN": self.boot,
            "ROM_ORIGIN": self.rom.origin,
            "ROM_LENGTH": self.rom.length,
            "RAM_ORIGIN": self.ram.origin,
            "RAM_LENGTH": self.ram.length,
            "STACK_LENGTH": stack,
        }


# From Arm's application notes AN386, AN505 and AN547, and QEMU's memory maps of them; the first kilobyte of code memory
# is left to the vectors.
BOARDS = {
    board.machine: board
    for board in (
        Board("mps2-an386", "cortex-m4", 0x0, Region(0x400, 4 * MIB - KIB), Region(0x20000000, 4 * MIB)),
        Board("mps2-an505", "cortex-m33", 0x10000000, Region(0x10000400, 4 * MIB - KIB), Region(0x38000000, 4 * MIB)),
        Board("mps3-an547", "cortex-m55", 0x0, Region(0x01000000, 2 * MIB), Region(0x21000000, 4 * MIB)),
    )
}
