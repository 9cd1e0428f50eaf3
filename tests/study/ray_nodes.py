"""Real Ray nodes on loopback: each a process tree of its own with its own folders, killed as a machine would be."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil

RAY = Path(sys.executable).with_name("ray")
_START_SECONDS = 180


def free_port() -> int:
    """A port of loopback that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Nodes:
    """A cluster whose first node is its head; every node runs in `folder/NAME` and lends one CPU."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, self.client_port = free_port(), free_port()
        self._started: dict[str, subprocess.Popen[str]] = {}

    @property
    def address(self) -> str:
        """For a process on this machine."""
        return f"127.0.0.1:{self.port}"

    @property
    def client_address(self) -> str:
        """For a process on any machine."""
        return f"ray://127.0.0.1:{self.client_port}"

    def start(self, name: str, **environment: str) -> None:
        """Starts a node and waits until it is there."""
        place = self.folder / name
        place.mkdir()
        if not self._started:
            own = ["--head", f"--port={self.port}", f"--ray-client-server-port={self.client_port}"]
            own += ["--include-dashboard=false", f"--temp-dir={self.folder}"]
        else:
            own = [f"--address={self.address}", f"--node-ip-address=127.0.0.{len(self._started) + 1}"]
        common = ["--num-cpus=1", "--object-store-memory=80000000", "--disable-usage-stats", "--block"]
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("EARSHOT", "RAY_"))}
        log = place / "ray.log"
        with log.open("w") as out:
            self._started[name] = subprocess.Popen(
                [RAY, "start", *own, *common],
                cwd=place,
                env=clean | {"EARSHOT_CACHE": str(place / "cache"), "NODE": name} | environment,
                stdout=out,
                stderr=subprocess.STDOUT,
                text=True,
            )
        until = time.monotonic() + _START_SECONDS
        while "Ray runtime started" not in log.read_text():
            assert self._started[name].poll() is None and time.monotonic() < until, log.read_text()
            time.sleep(0.1)

    def workers(self, name: str) -> list[psutil.Process]:
        """Processes of a node that make a step, which Ray names by it, with their children."""
        found = []
        for process in _tree(self._started[name]):
            try:
                title = process.cmdline()[0]
            except (psutil.Error, IndexError):
                continue
            if title.startswith("ray::") and ("seed" in title or "teacher" in title):
                found += [process, *process.children(recursive=True)]
        return found

    def kill(self, name: str) -> None:
        """Takes the whole node away at once."""
        tree = _tree(self._started[name])
        for process in tree:
            process.suspend()  # none of them sees another one die
        for process in _tree(self._started[name]) + tree:
            if process.is_running():
                process.kill()
        psutil.wait_procs(tree, timeout=30)
        self._started[name].wait()

    def stop(self) -> None:
        """Takes away what is left."""
        for name, process in self._started.items():
            if process.poll() is None:
                self.kill(name)


def _tree(process: subprocess.Popen[str]) -> list[psutil.Process]:
    try:
        parent = psutil.Process(process.pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
