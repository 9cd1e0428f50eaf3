"""What the guest's image is made of. Its digest names the image in the cache: another recipe is another image."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path, PurePosixPath

from pydantic import Field

from earshot.core.config import Config
from earshot.core.files import digest_json

HERE = Path(__file__).parent
VERSION = 1  # of the code in build.py: raised when it makes another image of the same recipe


class Recipe(Config):
    """An image: Debian's packages, extracted and never configured, Python wheels, and the files that start it.

    Attributes:
        suite: Debian release; Raspberry Pi OS of the same name has its Python and its C library.
        packages: brought along with what they depend on.
        wheels: pinned; the runtime is the one this project tests with, so that outputs compare.
        platforms: wheel tags that the suite's C library satisfies.
        python: the suite's Python.
        modules: kernel modules loaded when the guest starts, in this order; those built into the kernel are skipped.
        compiled: Python modules that the agent imports late; those it imports at once are compiled anyhow.
        left_out: files (regular expressions from the start of the path) that no agent needs: the image is a RAM disk.
        init, sshd: text of the first process and of the SSH server's configuration.
    """

    suite: str = "bookworm"
    packages: tuple[str, ...] = (
        "busybox-static",
        "coreutils",
        "dash",
        "libpython3-stdlib",
        "libstdc++6",
        "linux-image-cloud-arm64",
        "openssh-server",
        "procps",
        "python3-minimal",
    )
    wheels: tuple[str, ...] = ("ai-edge-litert==2.3.0", "numpy==2.4.6")
    platforms: tuple[str, ...] = ("manylinux_2_27_aarch64", "manylinux_2_28_aarch64", "manylinux2014_aarch64")
    python: str = "3.11"
    modules: tuple[str, ...] = ("virtio_ring", "virtio", "virtio_mmio", "failover", "net_failover", "virtio_net")
    compiled: tuple[str, ...] = ("numpy.fft", "numpy.ma", "numpy.random")
    left_out: tuple[str, ...] = (
        r"boot/|dev/|etc/|var/|usr/(share|include|games|src)/",
        r"(usr/)?lib/(udev|systemd|modules|firmware|modprobe\.d|linux-image[^/]*|aarch64-linux-gnu/gconv)/",
        r"usr/(bin|lib/aarch64-linux-gnu)/(lib)?perl|usr/lib/(apt|dpkg|initramfs-tools|klibc|openssh/ssh-(key|pkcs|sk))",
        r"usr/lib/python3\.11/(pydoc_data|ensurepip|idlelib|lib2to3|test|tkinter|distutils)/",
        r"python/ai_edge_litert/(aot|tools|tflite)/|python/ai_edge_litert/libLiteRtWebGpu",
        r"python/numpy/.*(/tests/|\.pyi$|\.a$)|python/numpy/(f2py|distutils|_core/include)/|python/bin/",
    )
    init: str = Field(default_factory=lambda: (HERE / "init.sh").read_text(encoding="utf-8"))
    sshd: str = Field(default_factory=lambda: (HERE / "sshd_config").read_text(encoding="utf-8"))

    @property
    def digest(self) -> str:
        """Hex, 16 digits: names the image in the cache."""
        return digest_json({"version": VERSION, **self.model_dump()})[:16]

    def wants(self, path: str) -> bool:
        """Whether a file goes into the image; `path` is relative to the guest's root, wheels lie under `python/`."""
        return not _any(self.left_out).match(path)

    def module(self, path: str) -> str | None:
        """Name of the kernel module at `path` when it is one of those loaded."""
        name = PurePosixPath(path).stem
        return name if path.endswith(".ko") and name in self.modules else None


@cache
def _any(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{pattern})" for pattern in patterns))
