"""What is done on a device: a folder that removes itself, the files in it, the Python that can run them.

The folder hangs on one shell there, whose standard input is the connection. However the connection ends (orderly, by
Ctrl-C, a killed process here, a cut cable), the shell reads an end, kills what runs out of the folder and removes it.
"""

from __future__ import annotations

import json
import shlex
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from earshot.core.errors import DeviceError, ToolError
from earshot.targets.agent_link import Ending
from earshot.targets.ssh.address import SshOptions
from earshot.targets.ssh.connection import Deadline, SshChannel, SshConnection
from earshot.targets.ssh.failures import ssh

PYTHONS = ("python3", "~/earshot/bin/python")
OLDEST_PYTHON = (3, 9)
STEP_SECONDS = 30.0  # for one small command; a board that swaps is slow, not gone
UPLOAD_BYTES_A_SECOND = 50_000  # the slowest radio link that is waited for
FOLDER_MARK = "earshot-folder "

# No single quotes and no line ends: they pass through login shells of every kind.
HOLD = (
    "LC_ALL=C; export LC_ALL; umask 077; "
    'dir=$(mktemp -d "${1:-${TMPDIR:-/tmp}}/earshot.XXXXXXXX") || exit 3; '
    'clean() { for found in $(grep -lsF -- "$dir" /proc/[0-9]*/cmdline); do '
    'found=${found#/proc/}; kill -9 "${found%/cmdline}" 2>/dev/null; done; rm -rf -- "$dir"; }; '
    'trap clean EXIT; trap "exit 1" HUP INT TERM; '
    f'echo "{FOLDER_MARK}$dir"; '
    'if command -v timeout >/dev/null; then timeout "$2" cat >/dev/null; else cat >/dev/null; fi'
)
SEND = 'LC_ALL=C; export LC_ALL; cat >"$1" && wc -c <"$1"'
TRY_PYTHONS = (
    'probe=$1; shift; for python in "$@"; do case $python in "~/"*) python=$HOME/${python#"~/"};; esac; '
    'if command -v "$python" >/dev/null 2>&1; then echo "python $python"; "$python" -c "$probe" 2>&1; echo; fi; done'
)
RUN = 'exec "$@"'
PROBE = (
    "import json, sys; from importlib.util import find_spec as has; "
    'print(json.dumps({"version": list(sys.version_info[:2]), "wide": sys.maxsize > 2**32, "numpy": bool(has("numpy")),'
    ' "runtime": bool(has("ai_edge_litert") or has("tflite_runtime"))}))'
)


class DeviceFolder:
    """A private folder on the device, gone with everything that runs out of it when the block ends.

    Args:
        connection: the login.
        parent: where the folder is made; None takes the device's TMPDIR, else /tmp.
        seconds: after this long the device removes it, even if nobody says so.
    """

    def __init__(self, connection: SshConnection, parent: str | None, seconds: float) -> None:
        self._connection, self._parent, self._seconds = connection, parent, seconds

    def __enter__(self) -> DeviceFolder:
        """Makes the folder. Raises DeviceError: disk full, not writable, connection lost."""
        device = self._connection.device
        deadline = Deadline(STEP_SECONDS, f"{device}: made no folder within {STEP_SECONDS:g} s")
        self._holder = self._connection.start(HOLD, self._parent or "", str(int(self._seconds)), deadline=deadline)
        while line := self._holder.readline():
            if line.startswith(FOLDER_MARK):
                self.path = line.removeprefix(FOLDER_MARK).strip()
                return self
        raise _no_room(device, "a folder cannot be made", self._holder.ending())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A lost connection is no failure here: the device has seen its end, and cleans up.
        with suppress(DeviceError):
            self._holder.close_input()
            self._holder.ending(Deadline(STEP_SECONDS, "the folder is still there"))

    def send(self, file: Path, name: str) -> str:
        """Copies a file into the folder and returns its path there.

        Raises:
            ToolError: the file cannot be read here.
            DeviceError: the disk is full, or the connection was lost.
        """
        try:
            data = file.read_bytes()
        except OSError as error:
            raise ToolError(f"{file}: cannot be read ({error.strerror})", "check the path and its rights") from error
        device, target = self._connection.device, f"{self.path}/{name}"
        late = f"{device}: copying {file.name} took too long"
        deadline = Deadline(STEP_SECONDS + len(data) / UPLOAD_BYTES_A_SECOND, late, "check the network")
        sent = self._connection.run(SEND, target, data=data, deadline=deadline)
        if sent.ending.code != 0 or sent.text.split()[-1:] != [str(len(data))]:
            raise _no_room(device, f"{file.name} ({len(data)} bytes) cannot be copied", sent.ending)
        return target

    def send_model(self, model: Path, name: str) -> str:
        """Copies a model as NAME.tflite, and the description beside it, if any, as NAME.json; returns the model's path.

        A description that an earlier model of that name left goes. Raises as `send`.
        """
        description = model.with_suffix(".json")
        if description.is_file():
            self.send(description, f"{name}.json")
        else:
            late = f"{self._connection.device}: removed no file within {STEP_SECONDS:g} s"
            deadline = Deadline(STEP_SECONDS, late, "check the network")
            self._connection.run(RUN, "rm", "-f", "--", f"{self.path}/{name}.json", deadline=deadline)
        return self.send(model, f"{name}.tflite")

    def start(self, *words: str, deadline: Deadline) -> SshChannel:
        """Starts a program. It dies with the folder if one of its words names a path in it."""
        return self._connection.start(RUN, *words, deadline=deadline)


def find_python(connection: SshConnection, options: SshOptions) -> str:
    """The first Python on the device with numpy and a TFLite runtime.

    Raises:
        DeviceError: there is none; names what is missing and the command that installs it.
    """
    names = (options.python,) if options.python else PYTHONS
    device = connection.device
    deadline = Deadline(STEP_SECONDS, f"{device}: its Python did not answer within {STEP_SECONDS:g} s")
    said = connection.run(TRY_PYTHONS, PROBE, *names, deadline=deadline).text
    found = [(path, facts) for path, facts in _probes(said)]
    for path, facts in found:
        if not _lacks(facts):
            return path
    if not found:
        here = " or ".join(names)
        raise DeviceError(f"{device}: no Python at {here}", _install(options, "sudo apt install -y python3-venv; ", {}))
    path, facts = found[-1]
    raise DeviceError(f"{device}: {path} {_lacks(facts)}", _install(options, "", facts))


def _probes(said: str) -> list[tuple[str, dict[str, Any]]]:
    """(path, facts) of every Python that was tried; facts are empty where it did not run."""
    probes: list[tuple[str, dict[str, Any]]] = []
    for line in said.splitlines():
        if line.startswith("python "):
            probes.append((line.removeprefix("python "), {}))
        elif line.startswith("{") and probes:
            probes[-1] = (probes[-1][0], json.loads(line))
    return probes


def _lacks(facts: dict[str, Any]) -> str:
    if not facts:
        return "is no Python that runs"
    if tuple(facts["version"]) < OLDEST_PYTHON:
        oldest, found = (".".join(map(str, version)) for version in (OLDEST_PYTHON, facts["version"]))
        return f"is Python {found}, the agent needs {oldest} or later"
    if not facts["runtime"]:
        return "has no TFLite runtime"
    return "" if facts["numpy"] else "has no numpy"


def _install(options: SshOptions, before: str, facts: dict[str, Any]) -> str:
    """The command that installs a runtime where the driver looks by itself. 32-bit boards have the older one only."""
    packages = "ai-edge-litert" if facts.get("wide", True) else "tflite-runtime 'numpy<2'"
    folder = PYTHONS[1].partition("/bin")[0]
    steps = f"{before}python3 -m venv {folder} && {folder}/bin/pip install {packages}"
    found = "" if options.python is None else f", and leave out the option python or set it to {PYTHONS[1]}"
    return f"{ssh(options)} {shlex.quote(steps)}{found}"


def _no_room(device: str, what: str, ending: Ending) -> DeviceError:
    words = ending.words.strip().splitlines()[-1:]
    reason = words[0] if words else f"signal {ending.signal}" if ending.signal else f"code {ending.code}"
    hint = "free space on its disk (df -h there), or set the option folder to a place with room"
    return DeviceError(f"{device}: {what} ({reason})", hint)
