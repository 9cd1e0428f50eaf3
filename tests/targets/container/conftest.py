"""A container engine of the tests' own: a real dockerd, started here, gone afterwards, with arm64 programs emulated."""

import os
import shutil
import subprocess
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from earshot.pipeline.progress import Silent
from earshot.targets.base import load_profile
from earshot.targets.container.engine import Engine
from earshot.targets.container.target import ContainerTarget

BINFMT = Path("/proc/sys/fs/binfmt_misc")
REGISTRATION = Path("/usr/lib/binfmt.d/qemu-aarch64.conf")
INSTALL = "apt-get install docker.io mmdebstrap qemu-user-static binfmt-support"


def whats_missing():
    """Why no engine can be started here, None where one can."""
    if os.geteuid() != 0:
        return "starting a container engine needs root: sudo -E .venv/bin/pytest tests/targets/container"
    for tool in ("dockerd", "mmdebstrap", "qemu-aarch64-static"):
        if not shutil.which(tool):
            return f"{tool} is not installed: {INSTALL}"
    try:
        import docker  # noqa: F401
    except ModuleNotFoundError:
        return "the Docker SDK is not installed: pip install 'earshot[docker]'"
    return None


@contextmanager
def arm64_programs():
    """Registers QEMU for arm64 programs with the kernel where it is not, and takes that back."""
    with ExitStack() as undo:
        if not (BINFMT / "register").exists():
            subprocess.run(["mount", "-t", "binfmt_misc", "binfmt_misc", str(BINFMT)], check=True)
            undo.callback(subprocess.run, ["umount", str(BINFMT)], check=False)
        entry = BINFMT / "qemu-aarch64"
        if not entry.exists():
            (BINFMT / "register").write_text(REGISTRATION.read_text().strip())
            undo.callback(entry.write_text, "-1")
        yield


@contextmanager
def dockerd(folder: Path):
    """A daemon that has its data, its socket and its containers in a folder."""
    socket, log = folder / "docker.sock", folder / "dockerd.log"
    command = [
        *("dockerd", "--data-root", str(folder / "data"), "--exec-root", str(folder / "exec")),
        *("--host", f"unix://{socket}", "--pidfile", str(folder / "pid"), "--storage-driver", "overlay2"),
        *("--iptables=false", "--ip6tables=false", "--bridge=none"),
    ]
    with log.open("w") as words, subprocess.Popen(command, stdout=words, stderr=words) as process:
        try:
            until = time.monotonic() + 60
            while not socket.exists():
                if process.poll() is not None or time.monotonic() > until:
                    pytest.skip(f"dockerd does not start here: {log.read_text().strip().splitlines()[-1]}")
                time.sleep(0.1)
            yield f"unix://{socket}"
        finally:
            process.terminate()
            process.wait(60)
            mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
            for mount in reversed([path for path in mounts if path.startswith(f"{folder}/")]):
                subprocess.run(["umount", "--lazy", mount], check=False)
            shutil.rmtree(folder / "data", ignore_errors=True)  # gigabytes that pytest would keep


@pytest.fixture(scope="session")
def engine_url(tmp_path_factory):
    if missing := whats_missing():
        pytest.skip(missing)
    with arm64_programs(), dockerd(tmp_path_factory.mktemp("engine")) as url:
        yield url


@pytest.fixture(scope="session")
def kept(tmp_path_factory):
    """Where what the image is built from is kept for the session, unless EARSHOT_CACHE names a cache to be used."""
    return os.environ.get("EARSHOT_CACHE") or str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def built(engine_url, kept):
    """The engine, with the deployment image built from nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EARSHOT_CACHE", kept)
        make_target(engine_url).setup(Silent())
    return Engine(engine_url)


@pytest.fixture(scope="module", autouse=True)
def cache(kept):
    """Not in the user's cache; and the tests of other targets find theirs again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EARSHOT_CACHE", kept)
        yield


def make_target(url, **options) -> ContainerTarget:
    profile = load_profile("arm64-container")
    options = {"cpuset": "0", "frames": 10, **profile.options, "engine": url, **options}
    return ContainerTarget.open("arm64-container", profile.model_copy(update={"options": options}))


@pytest.fixture
def target(built):
    """A function that makes a target of the engine; no container may be left when the test ends."""
    yield lambda **options: make_target(built.url, **options)
    assert built.api.containers(all=True) == []
