"""A running container as a channel to its agent: streams attached, limits set, gone in every ending.

The engine removes the container when it ends, and it ends when its input does: also when this process is killed.
"""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from earshot.core.errors import DeviceError
from earshot.targets.agent_link import Ending
from earshot.targets.container.engine import EMULATE, PLATFORM, Engine, cannot_execute

AGENT_PATH = "/opt/earshot/agent.py"
MODEL = "/tmp/model.tflite"  # a RAM disk: the image's own files cannot be written
DESCRIPTION = "/tmp/model.json"
# Takes the model and its description from standard input, byte by byte counted, and leaves the rest to the agent.
RECEIVE = f'head -c "$1" >{MODEL} && head -c "$2" >{DESCRIPTION}; shift 2; exec "$@"'
STDOUT, STDERR = 1, 2
KEPT_WORDS = 20_000  # characters of standard error
GRACE = 30.0  # seconds for an engine to kill what it was told to kill
PROCESSES = 64


@dataclass(frozen=True)
class Limits:
    """What a container may use; None leaves it free.

    Attributes:
        memory_bytes: memory; there is no swap beside it.
        cpus: share of the processors, e.g. 0.5.
        cpuset: cores, e.g. `0-1`.
    """

    memory_bytes: int | None = None
    cpus: float | None = None
    cpuset: str | None = None


@dataclass(frozen=True)
class Deployment:
    """What the containers of one session have in common.

    Attributes:
        engine: where they run.
        image: the image's name.
        limits: what each may use.
        seconds: after which each is killed.
        emulated: processor to emulate, and the file to show as /proc/cpuinfo; None where arm64 runs natively.
    """

    engine: Engine
    image: str
    limits: Limits
    seconds: float
    emulated: tuple[str, Path] | None = None

    def container(self, model: Path, arguments: Sequence[str]) -> ContainerChannel:
        """A container for the agent on one model, which it finds at MODEL; entered, it runs."""
        return ContainerChannel(self, model, arguments)


class ContainerChannel:
    """A container that runs the agent on one model; it is gone when the block ends, whatever happens.

    It has no network, no capabilities, a read-only root and a small RAM disk. A description beside the model travels
    along.
    """

    def __init__(self, deployment: Deployment, model: Path, arguments: Sequence[str]) -> None:
        self._deployment, self._engine, self._limits = deployment, deployment.engine, deployment.limits
        self._model, self._arguments = model, arguments
        self._lines, self._words, self._expired = bytearray(), "", False
        self.warnings: tuple[str, ...] = ()

    def __enter__(self) -> ContainerChannel:
        parts = [self._model.read_bytes()]
        sidecar = self._model.with_suffix(".json")
        parts.append(sidecar.read_bytes() if sidecar.is_file() else b"")
        with self._engine.asked():
            made = self._engine.api.create_container(**self._request([len(part) for part in parts]))
        self._id = made["Id"]
        self._alarm = threading.Timer(self._deployment.seconds, self._expire)
        self._alarm.daemon = True
        try:
            self._judge(made.get("Warnings") or [])
            with self._engine.asked():
                self._attached = self._engine.api.attach_socket(
                    self._id, params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}
                )
                self._socket = getattr(self._attached, "_sock", self._attached)
                self._socket.settimeout(self._deployment.seconds + GRACE)
                self._engine.api.start(self._id)
        except DeviceError as error:
            self._engine.remove(self._id)
            if cannot_execute(error.message):
                raise DeviceError(
                    f"{self._deployment.image}: this engine cannot run arm64 programs", EMULATE
                ) from error
            raise
        except BaseException:
            self._engine.remove(self._id)
            raise
        self._alarm.start()
        for part in parts:
            self._send(part)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._alarm.cancel()
        self._engine.remove(self._id)
        with suppress(OSError):
            self._socket.close()
            self._attached.close()

    def readline(self) -> str:
        """The next line of its standard output; empty once it has ended."""
        while b"\n" not in self._lines:
            kind, data = self._frame()
            if kind == STDOUT:
                self._lines += data
            elif kind == STDERR:
                self._words = (self._words + data.decode(errors="replace"))[-KEPT_WORDS:]
            elif not self._lines:
                return ""
            else:
                self._lines += b"\n"
        line, _, self._lines = self._lines.partition(b"\n")
        return line.decode(errors="replace") + "\n"

    def write(self, text: str) -> None:
        """Text for its standard input; lost without an error when it has ended."""
        self._send(text.encode())

    def ending(self) -> Ending:
        """Waits for its end. Raises DeviceError: too long, out of memory, or the engine cannot run arm64."""
        while self.readline():
            pass
        code, out_of_memory = self._exit()
        if self._expired:
            raise DeviceError(
                f"{self._model}: profiling took longer than {self._deployment.seconds:g} s", "raise timeout_seconds"
            )
        if out_of_memory:
            limit = (self._limits.memory_bytes or 0) / 2**20
            raise DeviceError(
                f"{self._model}: does not fit the container's memory limit of {limit:.0f} MiB",
                "raise the option memory_bytes, or take a smaller model",
            )
        if cannot_execute(self._words):
            raise self._no_arm64()
        # The container's init tells a signal as a shell does.
        return Ending.of_process(128 - code if code > 128 else code, self._words)

    def _request(self, sizes: Sequence[int]) -> dict[str, Any]:
        limits, api = self._limits, self._engine.api
        processor, file = self._deployment.emulated or (None, None)
        host = api.create_host_config(
            init=True,  # a crashing first process would be no one's child and hang
            auto_remove=True,
            network_mode="none",
            read_only=True,
            cap_drop=["ALL"],
            security_opt=["no-new-privileges"],
            pids_limit=PROCESSES,
            tmpfs={"/tmp": "size=64m,mode=1777"},
            mem_limit=limits.memory_bytes,
            memswap_limit=limits.memory_bytes,
            nano_cpus=round(limits.cpus * 1e9) if limits.cpus else None,
            cpuset_cpus=limits.cpuset,
            binds={str(file): {"bind": "/proc/cpuinfo", "mode": "ro"}} if file else None,
        )
        return {
            "image": self._deployment.image,
            "entrypoint": ["sh", "-c", RECEIVE, "sh", *map(str, sizes)],
            "command": ["python3", AGENT_PATH, *self._arguments],
            "host_config": host,
            "stdin_open": True,
            "environment": {"QEMU_CPU": processor} if processor else {},
            "platform": PLATFORM,
            "labels": {"earshot": "agent"},
        }

    def _no_arm64(self) -> DeviceError:
        return DeviceError(f"{self._deployment.image}: this engine cannot run arm64 programs", EMULATE)

    def _judge(self, warnings: Sequence[str]) -> None:
        """A limit that the engine does not set is no limit."""
        self.warnings = tuple(warnings)
        for warning in warnings:
            if "discarded" in warning.lower():
                raise DeviceError(
                    f"the container engine does not keep a limit: {warning}",
                    "on a Raspberry Pi add cgroup_enable=memory cgroup_memory=1 to /boot/firmware/cmdline.txt",
                )

    def _frame(self) -> tuple[int, bytes]:
        """The next piece of a stream, `(0, b"")` at the end."""
        header = self._receive(8)
        if len(header) < 8:
            return 0, b""
        kind, length = struct.unpack(">BxxxI", header)
        return kind, self._receive(length)

    def _receive(self, length: int) -> bytes:
        data = b""
        try:
            while len(data) < length:
                part = self._socket.recv(length - len(data))
                if not part:
                    return b""
                data += part
        except TimeoutError as error:
            raise DeviceError(f"the container engine at {self._engine.url} does not answer", "restart it") from error
        except OSError:
            return b""
        return data

    def _send(self, data: bytes) -> None:
        with suppress(OSError):
            self._socket.sendall(data)

    def _exit(self) -> tuple[int, bool]:
        """Exit code, and whether the kernel killed it for its memory: the engine's own record, which outlives it."""
        out_of_memory = False
        with self._engine.asked():
            for event in self._engine.api.events(
                since=1, until=int(time.time() + GRACE), filters={"container": self._id}, decode=True
            ):
                out_of_memory |= event["Action"] == "oom"
                if event["Action"] == "die":
                    return int(_attributes(event).get("exitCode", 1)), out_of_memory
        raise DeviceError(f"{self._model}: the container engine at {self._engine.url} lost the container", "restart it")

    def _expire(self) -> None:
        self._expired = True
        self._engine.kill(self._id)


def _attributes(event: Mapping[str, Any]) -> Mapping[str, str]:
    found: Mapping[str, str] = event.get("Actor", {}).get("Attributes", {})
    return found
