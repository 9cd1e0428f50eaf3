"""A real sshd on the loopback interface: the "device" is this machine, seen through its own configuration and keys."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from earshot.targets.ssh.address import SshOptions
from earshot.targets.ssh.target import SshTarget

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
CONFIG = """\
ListenAddress 127.0.0.1
AuthorizedKeysFile {folder}/authorized_keys
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
StrictModes no
PermitRootLogin yes
PidFile none
SetEnv TMPDIR={disk} {environment}
{more}
"""


@dataclass
class Device:
    """A running sshd, and all that is its own.

    Attributes:
        folder: keys and configuration.
        disk: its TMPDIR; what earshot puts on the device lies here.
    """

    folder: Path
    port: int = 0
    options: SshOptions = field(init=False)
    process: subprocess.Popen[bytes] = field(init=False)

    @property
    def disk(self) -> Path:
        return self.folder / "disk"

    def start(self, environment="", more="", host_key="host_key", prefix=()):
        """Starts the server and sets the options with which it can be reached."""
        assert SSHD
        self.disk.mkdir(exist_ok=True)
        for name in ("host_key", "user_key"):
            write_key(self.folder / name)
        shutil.copy(self.folder / "user_key.pub", self.folder / "authorized_keys")
        config = self.folder / "sshd_config"
        config.write_text(CONFIG.format(folder=self.folder, disk=self.disk, environment=environment, more=more))
        self.port = self.port or free_port()
        command = [SSHD, "-D", "-e", "-f", config, "-p", str(self.port), "-h", self.folder / host_key]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen([*prefix, *command], stdin=subprocess.DEVNULL, stderr=log)
        self.trust(host_key)
        self.options = SshOptions(
            host="127.0.0.1",
            port=self.port,
            key=self.folder / "user_key",
            known_hosts=self.folder / "known_hosts",
            ssh_config=False,
            python=sys.executable,
            keepalive_seconds=1,
        )
        wait_until(lambda: answers(self.port), 10, (self.folder / "log").read_text)
        return self

    def trust(self, host_key):
        kind, key, *_ = (self.folder / f"{host_key}.pub").read_text().split()
        (self.folder / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {kind} {key}\n")

    def target(self, name="pi", **changes) -> SshTarget:
        return SshTarget(name, self.options.model_copy(update=changes))

    def sessions(self) -> list[psutil.Process]:
        """The server's own processes that serve a connection."""
        family = psutil.Process(self.process.pid).children(recursive=True)
        return [process for process in family if name_of(process) == "sshd"]

    def residents(self) -> list[str]:
        """Files and processes that are on the device: every process there has its TMPDIR, the server itself has not."""
        found = [str(path) for path in self.disk.iterdir()]
        for process in psutil.process_iter():
            try:
                if process.environ().get("TMPDIR") == str(self.disk):
                    found.append(" ".join(process.cmdline()))
            except psutil.Error:
                continue
        return found

    def empties(self, seconds=10.0):
        """Waits until nothing is on the device; a killed process takes a moment to go."""
        wait_until(lambda: self.residents() == [], seconds, self.residents)

    def stop(self):
        if self.process.poll() is None:
            for process in [*self.sessions(), self.process]:
                process.send_signal(signal.SIGKILL)
            self.process.wait()


def write_key(path: Path, kind="ed25519", phrase="") -> Path:
    if not path.exists():
        subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", phrase, "-f", path], check=True)
    return path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def name_of(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.Error:
        return ""


def wait_until(condition, seconds: float, report=lambda: ""):
    """Waits for a condition; fails with the report when it does not come."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            pytest.fail(f"it did not come about within {seconds} s {report()}")
        time.sleep(0.05)


@pytest.fixture(scope="session")
def _sshd():
    if SSHD is None or shutil.which("ssh-keygen") is None:
        pytest.skip("no SSH server: apt-get install openssh-server openssh-client")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(parents=True, exist_ok=True)  # where a server of root's keeps its privileges apart


@pytest.fixture(scope="module")
def device(_sshd, tmp_path_factory):
    """A device for tests that leave it as it was, which is checked."""
    device = Device(tmp_path_factory.mktemp("device")).start()
    yield device
    try:
        device.empties()
    finally:
        device.stop()


@pytest.fixture
def make_device(_sshd, tmp_path):
    """A function that starts a device of the test's own; nothing may be left on it at the end."""
    made: list[Device] = []

    def make(**settings) -> Device:
        folder = tmp_path / f"device{len(made)}"
        folder.mkdir()
        made.append(Device(folder))
        return made[-1].start(**settings)

    yield make
    try:
        for device in made:
            device.empties()
    finally:
        for device in made:
            device.stop()


@pytest.fixture
def make_key(tmp_path):
    """A function that makes a key pair and returns the private key's file."""

    def make(name, kind="ed25519", phrase="") -> Path:
        return write_key(tmp_path / name, kind, phrase)

    return make


@pytest.fixture
def until():
    """Waits for a condition; see `wait_until`."""
    return wait_until
