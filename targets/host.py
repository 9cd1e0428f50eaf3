"""The machine earshot runs on: the device agent as a subprocess, pinned to one core, one model a process.

Each model has a process of its own, so that peak memory is its own, and repeats alternate (A B A B), so that a machine
that slows down slows all models alike.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from earshot.core.errors import DeviceError, EarshotError, ModelError
from earshot.targets.base import (
    PRECISIONS,
    Availability,
    DeviceProfile,
    Kind,
    ProfileConfig,
    ProfileResult,
    read_result,
)

if TYPE_CHECKING:
    from earshot.pipeline.progress import Progress

AGENT = Path(__file__).with_name("agent.py")
RUNTIMES = ("ai_edge_litert", "tflite_runtime")


class HostTarget:
    """Profiles on this machine with the TFLite runtime that is installed.

    Attributes:
        python: interpreter that runs the agent; another environment's to profile with another runtime.
    """

    name: str = "host"
    kind: Kind = "host"
    precisions = PRECISIONS
    exclusive = True

    def __init__(self, python: str = sys.executable) -> None:
        self.python = python

    @classmethod
    def open(cls, name: str, profile: DeviceProfile) -> HostTarget:
        """The driver's entry in the registry; the host has no options."""
        return cls()

    def availability(self) -> Availability:
        """Ready where a TFLite runtime is installed."""
        if any(importlib.util.find_spec(runtime) for runtime in RUNTIMES):
            return Availability(True)
        return Availability(False, "no TFLite runtime is installed", "pip install ai-edge-litert")

    def profile(self, models: Mapping[str, Path], config: ProfileConfig, progress: Progress) -> list[ProfileResult]:
        """Profiles every model, their repeats alternating. Raises ModelError or DeviceError."""
        core = max(os.sched_getaffinity(0)) if config.core is None else config.core
        progress.start("profile on host", config.repeats * len(models))
        with ExitStack() as stack:
            agents = {
                variant: stack.enter_context(AgentProcess(self.python, path, config, core))
                for variant, path in models.items()
            }
            for agent in agents.values():
                agent.expect("start")
            for _ in range(config.repeats):
                for variant, agent in agents.items():
                    agent.go_on()
                    repeat = agent.expect("repeat")
                    progress.advance(note=f"{variant} {repeat['graph_us']['p50']:.1f} us")
            results = [read_result(variant, agent.expect("result"), self.name) for variant, agent in agents.items()]
        progress.finish()
        return results


class AgentProcess:
    """One running agent: its events are read in turn, and it is gone when the block ends, whatever happens."""

    def __init__(self, python: str, model: Path, config: ProfileConfig, core: int) -> None:
        self.model = model
        self._timeout = config.timeout_seconds
        self._expired = False
        self._command = [python, "-P", str(AGENT), "profile", str(model), "--paced", "--core", str(core)]
        for option in ("frames", "repeats", "warmup", "threads"):
            self._command += [f"--{option}", str(getattr(config, option))]
        if not config.delegate:
            self._command.append("--no-delegate")

    def __enter__(self) -> AgentProcess:
        self._errors = tempfile.TemporaryFile("w+")
        try:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True
            )
        except OSError as error:
            self._errors.close()
            raise DeviceError(f"{self._command[0]}: cannot be started ({error.strerror})") from error
        self._alarm = threading.Timer(self._timeout, self._expire)
        self._alarm.daemon = True
        self._alarm.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._alarm.cancel()
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def go_on(self) -> None:
        """Lets the agent run its next repeat."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write("\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended; what it said last is read next

    def expect(self, name: str) -> dict[str, Any]:
        """The next event, which must be `name`.

        Raises:
            ModelError: the agent refused the model.
            DeviceError: it ended, crashed or took too long.
        """
        assert self._process.stdout is not None
        for line in self._process.stdout:
            event = _parse(line)
            if event.get("event") == name:
                return event
            if event.get("event") == "error":
                raise self._refusal(event)
        raise self._ending()

    def _refusal(self, event: Mapping[str, Any]) -> EarshotError:
        refused = self._process.wait() == ModelError.exit_code
        return (ModelError if refused else DeviceError)(event["message"], event.get("hint"))

    def _ending(self) -> DeviceError:
        code = self._process.wait()
        if self._expired:
            return DeviceError(f"{self.model}: profiling took longer than {self._timeout:g} s", "raise timeout_seconds")
        self._errors.seek(0)
        last = self._errors.read().strip().splitlines()[-1:]
        how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
        return DeviceError(f"{self.model}: the agent {how}" + (f" ({last[0]})" if last else ""))

    def _expire(self) -> None:
        self._expired = True
        self._process.kill()


def _parse(line: str) -> dict[str, Any]:
    """A line of the agent; runtimes may write lines of their own between."""
    try:
        event = json.loads(line)
    except ValueError:
        return {}
    return event if isinstance(event, dict) else {}
