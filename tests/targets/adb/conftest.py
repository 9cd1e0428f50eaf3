"""A private adb server, and phones that are test doubles: protocol, commands and benchmark tool."""

import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from earshot.targets.adb.target import PhoneTarget
from earshot.targets.base import DeviceProfile

sys.path.insert(0, str(Path(__file__).parent))
from adbd_double import AdbdDouble

TOOL = Path(__file__).with_name("benchmark_model_double.py")
COOL = """\
Thermal Status: 0
Current temperatures from HAL:
\tTemperature{mValue=41.5, mType=0, mName=cpu0, mStatus=0}
Current cooling devices from HAL:
"""


def write_program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


@dataclass
class Bench:
    """An adb server of its own, and folders that stand for phones."""

    folder: Path
    port: int
    phones: list[AdbdDouble] = field(default_factory=list)

    def adb(self, *arguments, check=True):
        return subprocess.run(
            ["adb", "-P", str(self.port), *arguments], capture_output=True, text=True, timeout=60, check=check
        )

    def plug(self, double=True, thermal=COOL, later=None, **options) -> AdbdDouble:
        """A phone on the server; `later` is what it says of its temperature from the second question on."""
        commands = self.folder / f"commands{len(self.phones)}"
        (commands / "now").parent.mkdir(parents=True)
        (commands / "now").write_text(thermal)
        (commands / "later").write_text(later or thermal)
        write_program(
            commands / "getprop",
            "#!/bin/sh\ncase $1 in ro.product.model) echo Double 1;; ro.product.cpu.abi) echo x86_64;; "
            f"ro.earshot.double) echo {'1' if double else ''};; esac\n",
        )
        write_program(commands / "dumpsys", f"#!/bin/sh\ncd {commands} && cat now && cp later now\n")
        phone = AdbdDouble(commands, **options)
        self.phones.append(phone)
        if phone.state == "device":
            self.adb("connect", phone.serial)
        else:  # the client waits ten seconds for a phone that never gets ready; the server goes on without it
            with subprocess.Popen(["adb", "-P", str(self.port), "connect", phone.serial]) as waiting:
                until = time.monotonic() + 20
                while f"{phone.serial}\t{phone.state}" not in self.adb("devices").stdout:
                    assert time.monotonic() < until
                    time.sleep(0.1)
                waiting.kill()
        return phone

    def target(self, tool=None, **options) -> PhoneTarget:
        options = {"cores": (0,), "server_port": self.port, "folder": str(self.storage), **options}
        profile = DeviceProfile(
            kind="phone", driver="adb", title="double", options={"benchmark_model": str(tool or self.tool()), **options}
        )
        return PhoneTarget.open("phone", profile)

    def tool(self, **environment) -> Path:
        words = " ".join(f"{name}={value}" for name, value in environment.items())
        name = "-".join(["tool", *environment])
        return write_program(self.folder / name, f'#!/bin/sh\nexec env {words} {sys.executable} {TOOL} "$@"\n')

    @property
    def storage(self) -> Path:
        """The phone's folder for temporary files."""
        return self.folder / "data" / "local" / "tmp"

    def left_behind(self) -> list[str]:
        """Files on the phone, and processes that run from there."""
        files = [str(path) for path in self.storage.iterdir()]
        running = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                words = (process / "cwd").readlink(), (process / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if str(self.storage) in str(words[0]) or f"{self.storage}/earshot-" in words[1]:
                running.append(f"{process.name}: {words[1]}")
        return files + running


@pytest.fixture
def bench(tmp_path, monkeypatch):
    if not shutil.which("adb"):
        pytest.skip("needs the adb client: apt-get install adb")
    if not shutil.which("taskset"):
        pytest.skip("needs taskset: apt-get install util-linux")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setenv("HOME", str(tmp_path))  # the server writes a key there
    monkeypatch.delenv("ANDROID_SERIAL", raising=False)
    made = Bench(tmp_path, port)
    made.storage.mkdir(parents=True)
    made.adb("start-server")
    yield made
    for phone in made.phones:
        phone.vanish()
    made.adb("kill-server", check=False)
