"""Building the image: whole or absent, one builder at a time, and what a build that fails says."""

import os
import signal
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import pytest

from earshot.core.errors import ToolError
from earshot.pipeline.progress import Silent
from earshot.targets.guest.build import build_image, install, missing_tools
from earshot.targets.guest.image import Image, find_image, images_folder
from earshot.targets.guest.machine import Machine
from earshot.targets.guest.recipe import Recipe
from earshot.targets.ssh.connection import Deadline, SshConnection

needs_tools = pytest.mark.skipif(bool(missing_tools()), reason=f"building needs: {install(missing_tools())}")
BUILD = "from earshot.targets.guest.build import *; from earshot.pipeline.progress import Silent;"
BUILD += "print(build_image(Recipe(), Silent()).folder)"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EARSHOT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def written(folder: Path, **contents: bytes) -> Image:
    """An image by hand, as far as finding it goes."""
    folder.mkdir(parents=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return Image(folder)


def remains() -> set[str]:
    return {path.name for path in images_folder().iterdir()} - {".lock"}


def test_only_a_whole_image_is_found(cache):
    place = images_folder() / Recipe().digest
    assert find_image(Recipe()) is None
    image = written(place, kernel=b"k" * 10, initrd=b"i" * 20)
    assert find_image(Recipe()) is None  # no manifest
    (place / "manifest.json").write_text('{"bytes": {"kernel": 10, "initrd": 20}}')
    assert find_image(Recipe()) == image
    assert find_image(Recipe(suite="trixie")) is None
    image.initrd.write_bytes(b"i" * 19)
    assert find_image(Recipe()) is None
    image.initrd.unlink()
    assert find_image(Recipe()) is None


def test_what_was_built_already_needs_no_tools(cache, monkeypatch, tmp_path):
    image = written(images_folder() / Recipe().digest, kernel=b"k")
    (image.folder / "manifest.json").write_text('{"bytes": {"kernel": 1}}')
    monkeypatch.setenv("PATH", str(tmp_path))
    assert build_image(Recipe(), Silent()) == image
    with pytest.raises(ToolError, match="needs qemu-system-arm and mmdebstrap") as caught:
        build_image(Recipe(suite="trixie"), Silent())
    assert caught.value.hint == "sudo apt-get install --no-install-recommends qemu-system-arm mmdebstrap"


@needs_tools
def test_a_wheel_that_is_not_to_be_had(cache):
    with pytest.raises(ToolError, match=r"python.* ended with code 1: ERROR: .*absent-earshot"):
        build_image(Recipe(wheels=("./absent-earshot.whl",)), Silent())
    assert remains() == set()


@needs_tools
def test_packages_that_are_not_to_be_had(cache, tmp_path):
    wheel = tmp_path / "nothing-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr("nothing-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: nothing\nVersion: 1\n")
        file.writestr("nothing-1.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr("nothing-1.dist-info/RECORD", "")
    with pytest.raises(ToolError, match="mmdebstrap ended with code"):
        build_image(Recipe(wheels=(str(wheel),), packages=("earshot-has-no-such-package",)), Silent())
    assert remains() == set()


@needs_tools
def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("EARSHOT_CACHE", str(tmp_path / "file"))
    with pytest.raises(ToolError, match="cannot be written") as caught:
        build_image(Recipe(), Silent())
    assert "EARSHOT_CACHE" in str(caught.value.hint)


@pytest.mark.slow
@needs_tools
@pytest.mark.timeout(1500)
def test_a_killed_builder_leaves_no_image_and_of_two_builders_one_works(cache):
    environment = {**os.environ, "EARSHOT_CACHE": str(cache)}
    command = [sys.executable, "-c", BUILD]
    killed = subprocess.Popen(command, env=environment, start_new_session=True)
    end = time.monotonic() + 600
    while not any(images_folder().glob(".building-*/image/initrd")) and time.monotonic() < end:
        time.sleep(0.2)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    assert find_image(Recipe()) is None
    assert len(remains()) == 1  # what it had begun

    said: list[str] = []
    builders = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    readers = [threading.Thread(target=lambda b=b: said.append(b.communicate()[0].strip())) for b in builders]
    for reader in readers:
        reader.start()
    seen = 0
    while any(reader.is_alive() for reader in readers):
        seen = max(seen, len(list(images_folder().glob(".building-*"))) if images_folder().exists() else 0)
        time.sleep(0.2)
    image = find_image(Recipe())
    assert image is not None
    assert said == [str(image.folder)] * 2
    assert seen == 1
    assert remains() == {Recipe().digest}
    assert image.folder.stat().st_mode & 0o777 == 0o700
    assert image.key.stat().st_mode & 0o777 == 0o600
    packages = image.manifest["packages"]
    assert any(name.startswith("openssh-server_") for name in packages)
    with Machine("new", image, boot_seconds=300) as machine, SshConnection("new", machine.ssh_options()) as connection:
        script = 'python3 -c "import ai_edge_litert.interpreter, numpy; print(numpy.__version__)"'
        said_there = connection.run(script, deadline=Deadline(120, "late")).text
    assert f"numpy=={said_there.strip()}" in Recipe().wheels
