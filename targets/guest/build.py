"""Builds the guest's image, once, by one builder at a time; a build that was cut short is never used.

Packages are extracted, not installed (mmdebstrap's variant `extract`), so that nothing of the guest's architecture runs
on this machine: no root, no binfmt, no user-mode emulator. The finished guest is started once. That proves it, and
its Python compiles the agent's modules then, so that later starts are quick and all alike.
"""

from __future__ import annotations

import base64
import io
import shutil
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from earshot.core.errors import ToolError
from earshot.core.files import disk_error, write_json
from earshot.targets.agent_link import AGENT
from earshot.targets.guest.image import Image, find_image, images_folder
from earshot.targets.guest.initramfs import Initramfs
from earshot.targets.guest.machine import EMULATOR, Machine
from earshot.targets.guest.recipe import Recipe
from earshot.targets.tool import running

if TYPE_CHECKING:
    from earshot.pipeline.progress import Progress

PACKAGER = "mmdebstrap"
TOOLS = {EMULATOR: "qemu-system-arm", PACKAGER: "mmdebstrap"}
BUILD_SECONDS = 1200.0  # mirrors may be slow
AGAIN = "check the network and the disk, then build again"
PYTHON_PATH = "usr/lib/python3/dist-packages"  # where Debian's Python looks
USERS = "root:x:0:0:root:/root:/bin/sh\nsshd:x:100:65534::/run/sshd:/usr/sbin/nologin\n"
GROUPS = "root:x:0:\nnogroup:x:65534:\n"
# Imports what the agent does, and hands over what Python compiled on the way.
COMPILE = (
    'python3 -c "import runpy, $2; runpy.run_path(\\"$1\\")[\\"environment\\"](1, True)" && '
    'cd / && find usr -name "*.pyc" | tar -c -T - | base64 -w 0'
)


def missing_tools() -> list[str]:
    """Debian packages of the tools that building needs and this machine lacks."""
    return [package for tool, package in TOOLS.items() if not shutil.which(tool)]


def install(packages: list[str]) -> str:
    """The command that installs Debian's packages."""
    return f"sudo apt-get install --no-install-recommends {' '.join(packages)}"


def build_image(recipe: Recipe, progress: Progress) -> Image:
    """The recipe's image, built when it is not there.

    Raises:
        ToolError: a tool is missing or failed, the packages cannot be had, or the disk is full.
    """
    image = find_image(recipe)
    if image is not None:
        return image
    missing = missing_tools()
    if missing:
        raise ToolError(f"building the image needs {' and '.join(missing)}", install(missing))
    root = images_folder()
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / ".lock"):
            return find_image(recipe) or _build(recipe, root, progress)
    except OSError as error:
        raise ToolError(disk_error(root, error).message, "free space, or set EARSHOT_CACHE to another disk") from error


def _build(recipe: Recipe, root: Path, progress: Progress) -> Image:
    """Makes the image beside its place, and moves it there when it is whole."""
    for remains in root.glob(".building-*"):  # a builder was killed
        shutil.rmtree(remains, ignore_errors=True)
    place = root / recipe.digest
    with tempfile.TemporaryDirectory(dir=root, prefix=".building-") as scratch:
        folder = Path(scratch) / "image"
        folder.mkdir(mode=0o700)
        _make(recipe, folder, Path(scratch), progress)
        shutil.rmtree(place, ignore_errors=True)  # a damaged one
        folder.rename(place)
    return Image(place)


def _make(recipe: Recipe, folder: Path, scratch: Path, progress: Progress) -> None:
    progress.start("build the emulated Pi's image", 3)
    wheels = _download_wheels(recipe, scratch / "wheels")
    progress.advance(note="Python wheels")
    with (folder / "initrd").open("wb") as file, Initramfs(file) as archive:
        _write_own_files(archive, recipe, _make_keys(folder))
        for wheel in wheels:
            _add_wheel(archive, recipe, wheel)
        packages = _add_packages(archive, recipe, folder / "kernel")
    progress.advance(note="Debian packages")
    image = Image(folder)
    _compile_modules(recipe, image)
    files = ("kernel", "initrd", "key", "known_hosts")
    manifest = {
        "schema": "earshot.guest/1",
        "recipe": recipe.model_dump(mode="json"),
        "packages": packages,
        "wheels": [wheel.name for wheel in wheels],
        "bytes": {name: (folder / name).stat().st_size for name in files},
    }
    write_json(folder / "manifest.json", manifest)
    progress.advance()
    progress.finish(note=f"{image.initrd.stat().st_size / 1e6:.0f} MB")


def _download_wheels(recipe: Recipe, folder: Path) -> list[Path]:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--dest", str(folder), "--python-version", recipe.python, "--implementation", "cp"]
    for platform in recipe.platforms:
        command += ["--platform", platform]
    with running([*command, *recipe.wheels], folder.parent, BUILD_SECONDS, AGAIN):
        pass
    return sorted(folder.glob("*.whl"))


def _add_wheel(archive: Initramfs, recipe: Recipe, wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as files:
        for item in files.infolist():
            if not item.is_dir() and recipe.wants(f"python/{item.filename}"):
                archive.write(f"{PYTHON_PATH}/{item.filename}", files.read(item))


def _add_packages(archive: Initramfs, recipe: Recipe, kernel: Path) -> list[str]:
    """Streams the packages into the archive, the kernel into a file of its own. Returns the packages' file names."""
    command = [PACKAGER, "--quiet", "--variant=extract", "--mode=chrootless", "--format=tar"]
    command += ["--architectures=arm64", f"--include={','.join(recipe.packages)}"]
    command += ['--extract-hook=ls "$1/var/cache/apt/archives" >"$1/packages"', recipe.suite, "-"]
    packages: list[str] = []
    # A tool that stops in the middle is the reason of a stream that does: its last words say why.
    with (
        running(command, kernel.parent.parent, BUILD_SECONDS, AGAIN) as process,
        suppress(tarfile.TarError),
        tarfile.open(fileobj=process.stdout, mode="r|") as files,
    ):
        for path, item, data in _members(files):
            module = recipe.module(path)
            if path == "packages":
                packages = [line for line in data.decode().split() if line.endswith(".deb")]
            elif path.startswith("boot/vmlinuz-"):
                kernel.write_bytes(data)
            elif module:
                archive.write(f"modules/{module}.ko", data)
            elif recipe.wants(path):
                _add_member(archive, path, item, data)
    if not kernel.is_file() or not packages:
        raise ToolError(f"the packages of {recipe.suite} hold no kernel", "check what mirrors apt uses here")
    return packages


def _members(files: tarfile.TarFile) -> Iterator[tuple[str, tarfile.TarInfo, bytes]]:
    for item in files:
        content = files.extractfile(item) if item.isreg() else None
        yield item.name.removeprefix("./").strip("/"), item, content.read() if content else b""


def _add_member(archive: Initramfs, path: str, item: tarfile.TarInfo, data: bytes) -> None:
    if item.isreg():
        archive.write(path, data, item.mode & 0o755)
    elif item.issym():
        archive.link(path, item.linkname)
    elif item.islnk():
        archive.link(path, "/" + item.linkname.removeprefix("./"))


def _write_own_files(archive: Initramfs, recipe: Recipe, keys: tuple[bytes, bytes]) -> None:
    archive.folder("tmp", 0o1777)
    archive.folder("root", 0o700)
    archive.write("init", recipe.init.encode(), 0o755)
    archive.write("modules/order", "".join(f"{name}\n" for name in recipe.modules).encode())
    archive.write("etc/passwd", USERS.encode())
    archive.write("etc/group", GROUPS.encode())
    archive.write("etc/ssh/sshd_config", recipe.sshd.encode())
    host_key, authorized = keys
    archive.write("etc/ssh/host_key", host_key, 0o600)
    archive.write("etc/ssh/authorized_keys", authorized, 0o600)


def _make_keys(folder: Path) -> tuple[bytes, bytes]:
    """Makes both key pairs; the guest's is returned with the user's public half, the rest stays in the folder."""
    import asyncssh

    guest, user = (asyncssh.generate_private_key("ssh-ed25519", comment=side) for side in ("guest", "earshot"))
    key = folder / "key"
    key.touch(mode=0o600)
    key.write_bytes(user.export_private_key())
    public = guest.export_public_key().decode()
    (folder / "known_hosts").write_text(f"127.0.0.1,[127.0.0.1]:* {public}", encoding="utf-8")
    return guest.export_private_key(), user.export_public_key()


def _compile_modules(recipe: Recipe, image: Image) -> None:
    """Starts the guest and adds what its Python compiles to the image, as a second archive. Raises DeviceError."""
    from earshot.targets.ssh.connection import Deadline, SshConnection
    from earshot.targets.ssh.device import DeviceFolder

    name = "emulated Pi"
    deadline = Deadline(BUILD_SECONDS, f"{name}: the new image did not answer")
    with (
        Machine(name, image, boot_seconds=BUILD_SECONDS) as machine,
        SshConnection(name, machine.ssh_options()) as connection,
        DeviceFolder(connection, None, BUILD_SECONDS) as folder,
    ):
        done = connection.run(COMPILE, folder.send(AGENT, AGENT.name), ", ".join(recipe.compiled), deadline=deadline)
    if done.ending.code or not done.text:
        raise ToolError(f"{name}: the new image cannot run the agent ({done.ending.words.strip()[-200:]})", AGAIN)
    with (
        image.initrd.open("ab") as file,
        Initramfs(file) as archive,
        tarfile.open(fileobj=io.BytesIO(base64.b64decode(done.text))) as files,
    ):
        for path, item, data in _members(files):
            _add_member(archive, path, item, data)
