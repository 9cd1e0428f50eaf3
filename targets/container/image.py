"""The deployment image: a root file system with Python, the runtime's wheels, the agent. Built once, named by content.

    CACHE/container/rootfs-<digest>.tar    Debian's packages, extracted for arm64
    CACHE/container/site-<digest>/         the wheels, unpacked for arm64

Nothing of arm64 runs while these are made: packages and wheels are unpacked, never configured. The image itself is
built by the engine, from `Dockerfile` in this folder.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from earshot.core.files import digest_json, disk_error, sha256_file
from earshot.targets.agent_link import AGENT
from earshot.targets.cache import cache_folder
from earshot.targets.container.engine import Engine
from earshot.targets.tool import running

if TYPE_CHECKING:
    from earshot.pipeline.progress import Progress

DOCKERFILE = Path(__file__).with_name("Dockerfile")
SUITE = "bookworm"  # Raspberry Pi OS of the same name has its Python and its C library
PACKAGES = ("python3-minimal", "libpython3-stdlib", "libstdc++6", "coreutils", "dash")
WHEELS = ("ai-edge-litert==2.3.0", "numpy==2.4.6")  # what this project is tested with
PYTHON = "3.11"
PLATFORMS = ("manylinux_2_27_aarch64", "manylinux_2_28_aarch64", "manylinux2014_aarch64")
UNUSED = ("ai_edge_litert/aot", "ai_edge_litert/libLiteRtWebGpuAccelerator.so", "bin")
TOOL_SECONDS = 900.0
ELSEWHERE = "check the network; with a registry in reach: --set base=debian:bookworm-slim"


def image_name(base: str | None) -> str:
    """The image's name: another agent, runtime or base makes another one."""
    content = [sha256_file(DOCKERFILE), sha256_file(AGENT), base or _rootfs_digest(), _site_digest()]
    return f"earshot-agent:{digest_json(content)[:12]}"


def build_image(engine: Engine, base: str | None, progress: Progress) -> str:
    """Builds the image where the engine does not have it, and returns its name.

    Args:
        engine: the engine.
        base: a Debian 12 image to build from; None builds one from Debian's packages.
        progress: three steps.

    Raises:
        ToolError: packages or wheels could not be had, or the disk is full.
        DeviceError: the engine is absent or the build failed.
    """
    name = image_name(base)
    progress.start(f"build {name}", 3)
    if engine.image(name) is None:
        folder = cache_folder() / "container"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / ".lock"):
                _build(engine, name, base, folder, progress)
        except OSError as error:
            raise disk_error(folder, error) from error
    progress.finish(note=name)
    return name


def _build(engine: Engine, name: str, base: str | None, folder: Path, progress: Progress) -> None:
    for remains in folder.glob(".building-*"):  # a builder was killed
        shutil.rmtree(remains, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".building-") as scratch:
        context = Path(scratch) / "context"
        context.mkdir()
        site = _site(folder, Path(scratch))
        progress.advance(note="Python wheels")
        network = None
        if base is None:
            # All that the Dockerfile would fetch is there.
            base, network = _local_base(engine, folder, Path(scratch)), "none"
        progress.advance(note=base)
        shutil.copytree(site, context / "site", copy_function=os.link)
        shutil.copy(AGENT, context / AGENT.name)
        shutil.copy(DOCKERFILE, context / DOCKERFILE.name)
        engine.build(context, name, network, {"BASE": base})
        progress.advance(note=name)


def _local_base(engine: Engine, folder: Path, scratch: Path) -> str:
    """An image of the local root file system, built where the engine does not have it."""
    name = f"earshot-base:{_rootfs_digest()}"
    if engine.image(name) is None:
        context = scratch / "base"
        context.mkdir()
        os.link(_rootfs(folder, scratch), context / "rootfs.tar")
        # `docker import` would label it with the engine's own architecture.
        (context / "Dockerfile").write_text("FROM scratch\nADD rootfs.tar /\n", encoding="utf-8")
        engine.build(context, name, "none")
    return name


def _rootfs(folder: Path, scratch: Path) -> Path:
    """Debian's packages, extracted: no root, no emulator, nothing of arm64 runs."""
    rootfs = folder / f"rootfs-{_rootfs_digest()}.tar"
    if not rootfs.is_file():
        made = scratch / "rootfs.tar"
        command = ["mmdebstrap", "--quiet", "--variant=extract", "--mode=chrootless", "--format=tar"]
        command += ["--architectures=arm64", f"--include={','.join(PACKAGES)}"]
        with running([*command, SUITE, str(made)], scratch, TOOL_SECONDS, ELSEWHERE):
            pass
        made.rename(rootfs)
    return rootfs


def _site(folder: Path, scratch: Path) -> Path:
    """The wheels as arm64's Python finds them."""
    site = folder / f"site-{_site_digest()}"
    if not site.is_dir():
        made = scratch / "site"
        command = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--no-compile",
            "--target",
            str(made),
        ]
        command += ["--only-binary=:all:", "--python-version", PYTHON, "--implementation", "cp"]
        for tag in PLATFORMS:
            command += ["--platform", tag]
        with running([*command, *WHEELS], scratch, TOOL_SECONDS, ELSEWHERE):
            pass
        for path in UNUSED:
            shutil.rmtree(made / path) if (made / path).is_dir() else (made / path).unlink(missing_ok=True)
        made.rename(site)
    return site


def _rootfs_digest() -> str:
    return digest_json([SUITE, PACKAGES])[:12]


def _site_digest() -> str:
    return digest_json([WHEELS, PYTHON, PLATFORMS, UNUSED])[:12]
