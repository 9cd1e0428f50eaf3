"""The pipeline's own image, ci/Dockerfile, built by a real engine from a local root file system under its base's name.

Its packages are those of requirements.lock, some 2 GB: too long for every run of the tests.
"""

import functools
import http.server
import os
import shutil
import subprocess
import sys
import threading
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from earshot.targets.container.engine import Engine

ROOT = Path(__file__).parents[3]
SWITCH = "EARSHOT_TEST_PIPELINE_IMAGE"
BASE = "python:3.11-slim-bookworm"
CERTIFICATES = "etc/ssl/certs/ca-certificates.crt"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(os.environ.get(SWITCH) != "1", reason=f"takes many minutes and 8 GB of disk: set {SWITCH}=1"),
]


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@contextmanager
def served(folder):
    """The address of a folder of this machine; an index's links lead out of it, to its neighbours."""
    folder = Path(folder)
    handler = functools.partial(Quiet, directory=folder.parent)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/{folder.name}/"
        server.shutdown()


def pip_addresses(setting, stack):
    """What pip is set to here, as a container in this machine's network reaches it."""
    command = [sys.executable, "-m", "pip", "config", "get", f"global.{setting}"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    given = os.environ.get("PIP_" + setting.upper().replace("-", "_"), "")
    addresses = dict.fromkeys(address.removeprefix("file://") for address in f"{listed} {given}".split())
    return [stack.enter_context(served(path)) if Path(path).is_dir() else path for path in addresses]


def make_base(engine, folder, find_links):
    """Debian with Python and pip, as the image of that name has them, and this machine's certificates."""
    rootfs = folder / "rootfs"
    packages = "python3,python3-dev,python3-pip,python3-setuptools,ca-certificates"
    subprocess.run(
        ["mmdebstrap", "--quiet", "--variant=apt", f"--include={packages}", "bookworm", str(rootfs)], check=True
    )
    for name in ("python", "pip"):
        link = rootfs / "usr/local/bin" / name
        link.unlink(missing_ok=True)
        link.symlink_to(f"/usr/bin/{name}3")
    (rootfs / "usr/lib/python3.11/EXTERNALLY-MANAGED").unlink()  # that image's Python is its own
    shutil.copy(f"/{CERTIFICATES}", rootfs / CERTIFICATES)
    links = f"find-links = {' '.join(find_links)}\n" if find_links else ""
    (rootfs / "etc/pip.conf").write_text(f"[global]\ncert = /{CERTIFICATES}\ntimeout = 180\n{links}")
    archive = folder / "rootfs.tar"
    subprocess.run(["tar", "--create", "--file", archive, "--directory", rootfs, "."], check=True)
    shutil.rmtree(rootfs)
    engine.api.import_image_from_file(str(archive), repository=BASE.split(":")[0], tag=BASE.split(":")[1])
    archive.unlink()


def checkout(folder):
    """What git tracks, as a build from a fresh checkout sees it."""
    folder.mkdir()
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    for name in filter(None, files):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


def test_the_pipelines_image_builds_and_runs(engine_url, tmp_path):
    engine = Engine(engine_url, seconds=120)
    with ExitStack() as stack:
        make_base(engine, tmp_path, pip_addresses("find-links", stack))
        arguments = {"PIP_EXTRA_INDEX_URL": " ".join(pip_addresses("extra-index-url", stack))}
        words = []
        for event in engine.api.build(
            path=str(checkout(tmp_path / "checkout")),
            dockerfile="ci/Dockerfile",
            tag="earshot:test",
            network_mode="host",
            buildargs=arguments,
            rm=True,
            forcerm=True,
            decode=True,
            timeout=3000,
        ):
            words.append(event.get("stream", ""))
            assert "error" not in event, "".join(words[-30:]) + str(event)
    said = {}
    for command in (["--version"], ["doctor"], ["targets"]):
        container = engine.api.create_container(
            "earshot:test", command, host_config=engine.api.create_host_config(init=True, network_mode="none")
        )["Id"]
        try:
            engine.api.start(container)
            code = engine.api.wait(container, timeout=300)["StatusCode"]
            said[command[0]] = code, engine.api.logs(container).decode()
        finally:
            engine.remove(container)
    assert said["--version"][0] == 0 and "earshot" in said["--version"][1]
    assert said["targets"][0] == 0 and "cortex-m4" in said["targets"][1]
    assert "host" in said["doctor"][1]
    assert engine.image("earshot:test")["Config"]["User"] == "earshot"
