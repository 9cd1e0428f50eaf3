"""An S3-compatible server on loopback: moto's, as a process of its own, from wherever it is installed."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass

INSTALL = "python3 -m venv V && V/bin/pip install 'moto[s3]' flask flask-cors && export EARSHOT_TEST_TOOLS=$PWD/V"
BUCKET = "bucket"


@dataclass
class S3Server:
    """A running server with one empty bucket."""

    url: str
    process: subprocess.Popen[bytes]

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


def server_command() -> list[str] | None:
    """What starts moto's server, None where it is not installed."""
    tools = os.environ.get("EARSHOT_TEST_TOOLS")
    found = shutil.which("moto_server", path=f"{tools}/bin" if tools else None)
    if found:
        return [found]
    here = importlib.util.find_spec("moto") and importlib.util.find_spec("flask")
    return [sys.executable, "-m", "moto.server"] if here else None


@contextlib.contextmanager
def s3_server() -> Iterator[S3Server]:
    """A server for the length of the block."""
    command = server_command()
    assert command is not None
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [*command, "-H", "127.0.0.1", "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    server = S3Server(f"http://127.0.0.1:{port}", process)
    try:
        _make_bucket(server)
        yield server
    finally:
        server.stop()


def _make_bucket(server: S3Server) -> None:
    until = time.monotonic() + 120
    while True:
        request = urllib.request.Request(f"{server.url}/{BUCKET}", method="PUT", headers={"Host": "s3.amazonaws.com"})
        try:
            urllib.request.urlopen(request, timeout=30).close()
            return
        except (urllib.error.URLError, ConnectionError):
            assert server.process.poll() is None and time.monotonic() < until, "moto's server does not start"
            time.sleep(0.2)
