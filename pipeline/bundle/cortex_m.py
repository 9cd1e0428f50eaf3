"""For a Cortex-M: the model as C, a main around it for any machine, and what runs it on an emulated board."""

from __future__ import annotations

from earshot.core.errors import UsageError
from earshot.pipeline.bundle.generated import generated_c, self_test
from earshot.pipeline.bundle.part import Entry, Part, template
from earshot.pipeline.shipped import Shipped
from earshot.quantize.metadata import read_description
from earshot.targets.mcu.target import CortexMTarget
from earshot.targets.mcu.toolchain import BARE, STACK
from earshot.targets.registry import open_target

_START = {
    "startup.c": "from reset to main on any Cortex-M",
    "semihosting.c": "files of the machine that emulates or debugs",
    "semihosting.h": "files of the machine that emulates or debugs",
    "board.ld": "linker script",
}
_EXAMPLE = {
    "main.c": "example: a stream, hop by hop",
    "board.h": "where your hardware comes in",
    "selftest.c": "test of the network, on any machine",
    "host/board.c": "sound from and to files",
    "qemu/board.c": "sound from and to files, in the emulator",
}


def open_core(device: str) -> CortexMTarget:
    """A Cortex-M target by name. Raises UsageError for any other."""
    core = open_target(device)
    if not isinstance(core, CortexMTarget):
        raise UsageError(f"target {device} is no Cortex-M", "see: earshot targets")
    return core


def cortex_m_part(shipped: Shipped, device: str) -> Part:
    """Files for firmware.

    Args:
        shipped: an int8 or int16x8 model.
        device: the target whose compiler flags and emulated board the example is for.

    Raises:
        UsageError: the target is no Cortex-M.
        ModelError: the model cannot become C.
    """
    core = open_core(device)
    frontend = read_description(shipped.model).frontend
    usage = template(
        "c/usage.md",
        {
            "RATE": frontend.rate,
            "HOP_MS": f"{1000 * frontend.hop_seconds:g}",
            "CPU": core.board.core,
            "FLAGS": " ".join(core.kernel_flags),
        },
    )
    return Part({**example(shipped, core), **generated_c(shipped.model)}, usage)


def example(shipped: Shipped, core: CortexMTarget) -> dict[str, Entry]:
    """The folder `example/`."""
    symbols = " ".join(f"-Wl,--defsym={name}={value:#x}" for name, value in core.board.link_symbols(STACK).items())
    makefile = template(
        "c/Makefile",
        {
            "CPU": core.board.core,
            "MACHINE": core.board.machine,
            "FLAGS": " ".join(core.kernel_flags),
            "SYMBOLS": symbols,
        },
    )
    return {
        "example/Makefile": Entry(makefile.encode(), "builds the example and the test"),
        "example/expected.h": Entry(self_test(shipped.model).encode(), "what the test expects"),
        **{f"example/{name}": Entry(template(f"c/{name}").encode(), what) for name, what in _EXAMPLE.items()},
        **{f"example/qemu/{name}": Entry((BARE / name).read_bytes(), what) for name, what in _START.items()},
    }
