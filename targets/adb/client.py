"""The adb client as an object: which phone, one command on it, a file to it, a folder on it that never outlives us.

Everything goes through the `adb` program, so that whatever reaches a phone from a terminal reaches it from here: USB,
Wi-Fi, an adb server on another machine.
"""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from earshot.core.errors import DeviceError

DEFAULT_PORT = 5037
QUICK = 30.0  # seconds for a command that asks the phone something
PUSH = 120.0  # seconds for a file
INSTALL = "apt-get install adb  (or Android's platform-tools)"
# What keeps a phone that is listed from being used, and what its owner must do.
STATES = {
    "unauthorized": "unlock the phone and accept the debugging prompt; if none appears: adb kill-server",
    "authorizing": "unlock the phone and accept the debugging prompt",
    "offline": "unplug the phone and plug it in again, or: adb reconnect offline",
    "connecting": "wait a moment, or: adb reconnect",
    "recovery": "start Android on the phone: adb reboot",
    "sideload": "start Android on the phone: adb reboot",
    "bootloader": "start Android on the phone: fastboot reboot",
    "no permissions": "apt-get install android-sdk-platform-tools-common, then plug the phone in again",
}
# The shell ends a command's output with this and its exit code; no such line means that the phone went away.
ENDING = "earshot-exit-code:"


@dataclass(frozen=True)
class Output:
    """What a command on the phone said; `text` holds standard output and error in order."""

    code: int
    text: str


class Adb:
    """The adb client and its server.

    Args:
        program: name or path of the client.
        port: the server's port; None takes ANDROID_ADB_SERVER_PORT or 5037, as the client itself does.
    """

    def __init__(self, program: str = "adb", port: int | None = None) -> None:
        self.program, self._chosen_port = program, port
        self.port = port or int(os.environ.get("ANDROID_ADB_SERVER_PORT") or DEFAULT_PORT)

    def installed(self) -> bool:
        """Whether the client is there."""
        return shutil.which(self.program) is not None

    def server_running(self) -> bool:
        """Whether something answers on the server's port; asking starts nothing."""
        with socket.socket() as probe:
            probe.settimeout(1)
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def command(self, *arguments: str, serial: str | None = None) -> list[str]:
        """The command line of a call."""
        port = ["-P", str(self._chosen_port)] if self._chosen_port else []
        return [self.program, *port, *(["-s", serial] if serial else []), *arguments]

    def run(self, *arguments: str, serial: str | None = None, timeout: float = QUICK) -> Output:
        """One call of the client.

        Raises:
            DeviceError: the client is missing, or did not end in `timeout` seconds.
        """
        try:
            done = subprocess.run(
                self.command(*arguments, serial=serial),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=timeout,
                check=False,
            )
        except OSError as error:
            raise DeviceError(f"{self.program}: cannot be started ({error.strerror})", INSTALL) from error
        except subprocess.TimeoutExpired as error:
            what = f"phone {serial}" if serial else "adb"
            raise DeviceError(
                f"{what}: no answer to '{arguments[0]}' in {timeout:g} s", "check the cable, or: adb reconnect"
            ) from error
        return Output(done.returncode, done.stdout.decode(errors="replace").replace("\r\n", "\n"))

    def devices(self) -> dict[str, str]:
        """State of every phone the server knows, by serial number; the server is started if need be."""
        listing = self.run("devices")
        if listing.code:
            raise DeviceError(f"adb devices failed ({_last_line(listing.text)})", "adb kill-server, then try again")
        rows = [line.split("\t", 1) for line in listing.text.splitlines() if "\t" in line]
        return {serial: state.split(" (")[0].split(";")[0].strip() for serial, state in rows}

    def choose(self, serial: str | None) -> Phone:
        """The phone with that serial number, or the only one there is.

        Raises:
            DeviceError: none, several to choose from, or one that is not ready; the hint says what to do.
        """
        known = self.devices()
        if serial is None:
            if not known:
                raise DeviceError(
                    "no phone is connected", "switch on USB debugging, plug it in, and look for it with: adb devices"
                )
            ready = [name for name, state in known.items() if state == "device"] or list(known)
            if len(ready) > 1:
                raise DeviceError(
                    f"{len(ready)} phones are connected: {', '.join(ready)}", "name one with the option serial"
                )
            serial = ready[0]
        if serial not in known:
            listed = ", ".join(known) or "none"
            raise DeviceError(f"phone {serial} is not connected (connected: {listed})", "look for it with: adb devices")
        if known[serial] != "device":
            raise DeviceError(f"phone {serial} is {known[serial]}", STATES.get(known[serial], "adb reconnect"))
        return Phone(self, serial)


class Phone:
    """One phone that is ready."""

    def __init__(self, adb: Adb, serial: str) -> None:
        self.adb, self.serial = adb, serial

    def shell(self, command: str, timeout: float = QUICK) -> Output:
        """Runs a line of shell on the phone. Raises DeviceError when the phone goes away or takes too long."""
        said = self.adb.run(
            "shell", f"( {command} ) 2>&1; c=$?; echo; echo {ENDING}$c", serial=self.serial, timeout=timeout
        )
        text, marker, code = said.text.rpartition(ENDING)
        if not marker:
            raise self.gone(_last_line(said.text))
        return Output(int(code.strip() or 1), text.removesuffix("\n"))

    def push(self, source: Path, target: str) -> None:
        """Copies a file to the phone. Raises DeviceError: full, or gone."""
        said = self.adb.run("push", str(source), target, serial=self.serial, timeout=PUSH)
        if said.code == 0:
            return
        reason = _last_line(said.text)
        if "No space left" in said.text:
            raise DeviceError(f"phone {self.serial} is full: {source.name} does not fit", "make room on the phone")
        if "failed to copy" in said.text and "closed" not in reason and "EOF" not in reason:
            raise DeviceError(f"phone {self.serial} refused {source.name} ({reason})", "check the option folder")
        raise self.gone(reason)

    def gone(self, reason: str) -> DeviceError:
        """The error for a phone that went away."""
        why = f" ({reason})" if reason else ""
        return DeviceError(f"phone {self.serial} went away{why}", "check the cable, keep the phone awake, run again")


class PhoneFolder:
    """A folder on the phone for one session. It is removed, and what runs from it is killed, in every ending.

    A shell on the phone holds it: it waits for a line from here, and cleans up when the line comes, when its input
    ends because this process was killed, or when the connection breaks (adbd then hangs up on it).

        with PhoneFolder(phone, "/data/local/tmp") as folder:
            phone.push(file, f"{folder.path}/file")
            folder.run("./file")
    """

    def __init__(self, phone: Phone, parent: str) -> None:
        self.phone, self._parent = phone, parent

    def __enter__(self) -> PhoneFolder:
        template = shlex.quote(f"{self._parent}/earshot-XXXXXX")
        # A copy that was under way when this process was killed can bring the folder back: hence the second removal.
        script = (
            f"d=$(mktemp -d {template}) || exit 1; "
            'clean() { [ -f "$d/pid" ] && kill -9 $(cat "$d/pid") 2>/dev/null; rm -rf "$d"; }; '
            "trap 'clean; exit 0' HUP INT TERM; "
            'echo "$d"; word=; read -r word; clean; [ "$word" = done ] || { sleep 2; rm -rf "$d"; }; echo removed'
        )
        self._guard = subprocess.Popen(
            self.phone.adb.command("shell", script, serial=self.phone.serial),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self._guard.stdout is not None
        alarm = threading.Timer(QUICK, self._guard.kill)
        alarm.start()
        self.path = self._guard.stdout.readline().strip()
        alarm.cancel()
        if not self.path.startswith(f"{self._parent}/earshot-"):
            self._stop()
            if not self.path or "error:" in self.path:
                raise self.phone.gone(self.path)
            raise DeviceError(
                f"phone {self.phone.serial}: no folder can be made in {self._parent} ({self.path})",
                "make room on the phone, or set the option folder",
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._guard.communicate("done\n", timeout=QUICK)
        except (subprocess.TimeoutExpired, BrokenPipeError, ValueError):
            pass  # the phone does not answer; its own shell cleans up once the connection breaks
        finally:
            self._stop()

    def run(self, command: str, timeout: float) -> Output:
        """Runs a program so that it is killed with the folder.

        Raises:
            DeviceError: the phone went away, or the program took longer than `timeout` seconds.
        """
        started = time.monotonic()
        line = f"cd {shlex.quote(self.path)} && {{ {command} & echo $! > pid; wait $!; }}"
        try:
            return self.phone.shell(line, timeout)
        except DeviceError as error:
            if time.monotonic() - started < timeout:
                raise
            raise DeviceError(
                f"phone {self.phone.serial}: the run took longer than {timeout:g} s", "raise timeout_seconds"
            ) from error

    def _stop(self) -> None:
        self._guard.kill()
        self._guard.wait()
        for pipe in (self._guard.stdin, self._guard.stdout):
            if pipe:
                pipe.close()


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1].removeprefix("adb: ") if lines else ""
