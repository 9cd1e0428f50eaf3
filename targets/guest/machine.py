"""One run of the guest: QEMU as a child process that is gone when the block ends, whatever happens.

With `-icount shift=0` every instruction takes one nanosecond of the guest's time, and with `cntfrq` its counter ticks
as often, so that a clock read in the guest counts instructions. What would differ from boot to boot (addresses, the
seed of randomness in the device tree) is turned off.
"""

from __future__ import annotations

import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path
from types import TracebackType

from earshot.core.errors import DeviceError
from earshot.targets.guest.image import Image
from earshot.targets.ssh.address import SshOptions

EMULATOR = "qemu-system-aarch64"
ENABLE = "sudo apt-get install qemu-system-arm"
LEASH = Path(__file__).with_name("leash.py")
COMMAND_LINE = "console=ttyAMA0 rdinit=/init nokaslr norandmaps panic=-1 quiet"
READY, TAKEN = "earshot guest: ready", "Could not set up host forwarding"
KEEPALIVE_SECONDS = 30.0  # a dead emulator closes the connection by itself; this is for one that hangs
KEPT_LINES = 20
PORT_ATTEMPTS = 5


def emulator_version() -> str | None:
    """Version of the emulator on this machine, None without one."""
    program = shutil.which(EMULATOR)
    if not program:
        return None
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    return said.partition("version ")[2].split("\n")[0].strip() or None


class Machine:
    """The guest, from start to end of a `with` block.

    Attributes:
        port: of 127.0.0.1, where its SSH server answers.
    """

    def __init__(
        self,
        name: str,
        image: Image,
        *,
        cpu: str = "cortex-a72",
        memory_mb: int = 1024,
        port: int | None = None,
        boot_seconds: float = 120.0,
    ) -> None:
        self.port = 0
        self._name, self._image, self._cpu, self._memory_mb = name, image, cpu, memory_mb
        self._wanted_port, self._boot_seconds = port, boot_seconds

    def __enter__(self) -> Machine:
        """Starts it and waits until it can be logged in to. Raises DeviceError."""
        program = shutil.which(EMULATOR)
        if not program:
            raise DeviceError(f"target {self._name}: {EMULATOR} is not installed", ENABLE)
        for _ in range(PORT_ATTEMPTS):
            self.port = self._wanted_port or _free_port()
            self._start(program)
            try:
                taken = not self._boot()
            except BaseException:
                self._end()
                raise
            if not taken:
                return self
            self._end()
            if self._wanted_port:
                break  # a free one is chosen anew: somebody was quicker
        raise DeviceError(f"target {self._name}: port {self.port} of 127.0.0.1 is taken", "choose another: option port")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def ssh_options(self) -> SshOptions:
        """How to log in: the image's own keys, and patience, because it is slow."""
        return SshOptions(
            host="127.0.0.1",
            port=self.port,
            user="root",
            key=self._image.key,
            known_hosts=self._image.known_hosts,
            ssh_config=False,
            python="python3",
            connect_timeout_seconds=self._boot_seconds,
            keepalive_seconds=KEEPALIVE_SECONDS,
        )

    @property
    def pid(self) -> int:
        """Process number of the emulator."""
        return self._process.pid

    def death(self, grace_seconds: float = 1.0) -> DeviceError | None:
        """What ended the emulator, None while it runs; a connection may be lost a moment before its process is."""
        try:
            code = self._process.wait(grace_seconds)
        except subprocess.TimeoutExpired:
            return None
        how = f"was killed by signal {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        return DeviceError(
            f"target {self._name}: {EMULATOR} {how}{self._last_words()}", "run again; memory may be short"
        )

    def _start(self, program: str) -> None:
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._kept: deque[str] = deque(maxlen=KEPT_LINES)
        # The leash is set by the thread that forks, which is the one that waits here.
        leash = [sys.executable, "-I", "-S", str(LEASH), str(os.getpid()), program]
        try:
            self._process = subprocess.Popen(
                [*leash, *self._arguments()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            )
        except OSError as error:
            raise DeviceError(f"target {self._name}: {EMULATOR} cannot be started ({error.strerror})") from error
        self._reader = threading.Thread(target=self._read, name=f"console of {self._name}", daemon=True)
        self._reader.start()

    def _arguments(self) -> list[str]:
        return [
            *("-machine", "virt,dtb-randomness=off", "-cpu", f"{self._cpu},cntfrq=1000000000", "-smp", "1"),
            *("-m", str(self._memory_mb), "-icount", "shift=0"),
            *("-nodefaults", "-display", "none", "-no-reboot", "-serial", "stdio"),
            *("-kernel", str(self._image.kernel), "-initrd", str(self._image.initrd), "-append", COMMAND_LINE),
            *("-netdev", f"user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{self.port}-10.0.2.15:22"),
            *("-device", "virtio-net-device,netdev=net"),
        ]

    def _read(self) -> None:
        """Empties the console, which would stop the guest when full."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._kept.append(line.strip())
            self._lines.put(line)
        self._lines.put(None)

    def _boot(self) -> bool:
        """Waits for the guest; False when the port was taken. Raises DeviceError."""
        end = time.monotonic() + self._boot_seconds
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                raise DeviceError(
                    f"target {self._name}: the guest was not up after {self._boot_seconds:g} s{self._last_words()}",
                    "raise option boot_timeout_seconds, or end what keeps this machine busy",
                ) from None
            if line is None and any(TAKEN in kept for kept in self._kept):
                return False
            if line is None:
                code = self._process.wait()
                raise DeviceError(
                    f"target {self._name}: {EMULATOR} ended with code {code} while the guest started"
                    f"{self._last_words()}",
                    "build the image anew: remove it and run earshot targets setup",
                )
            if READY in line:
                return True

    def _last_words(self) -> str:
        words = [line for line in self._kept if line]
        return f" ({words[-1][:200]})" if words else ""

    def _end(self) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()
        if self._process.stdout:
            self._process.stdout.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
