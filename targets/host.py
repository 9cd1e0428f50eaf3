"""The machine earshot runs on: the device agent as a subprocess, pinned to one core, one model a process.

Each model has a process of its own, so that peak memory is its own, and repeats alternate (A B A B), so that a machine
that slows down slows all models alike.
"""

from __future__ import annotations

import contextlib
import importlib.util
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from earshot.core.config import Config, parse
from earshot.core.errors import DeviceError
from earshot.targets.agent_link import (
    AGENT,
    AgentLink,
    Ending,
    RaceLink,
    agent_arguments,
    race_arguments,
    take_turns,
)
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

RUNTIMES = ("ai_edge_litert", "tflite_runtime")
ANSWER_SECONDS = 20.0
OTHER_PYTHON = "set the option python to an interpreter of Python 3.11 or later"
_HAS_RUNTIME = """
import importlib.util, sys
print("yes" if any(importlib.util.find_spec(name) for name in sys.argv[1:]) else "no")
"""


class HostOptions(Config):
    """Options of the driver `host`.

    Attributes:
        python: interpreter that runs the agent; another environment's to profile with another runtime.
    """

    python: str = sys.executable


class HostTarget:
    """Profiles on this machine with the TFLite runtime that is installed."""

    name: str = "host"
    kind: Kind = "host"
    precisions = PRECISIONS
    exclusive = True

    def __init__(self, python: str = sys.executable) -> None:
        self.python = python

    @classmethod
    def open(cls, name: str, profile: DeviceProfile) -> HostTarget:
        """The driver's entry in the registry. Raises ConfigError for an unknown option."""
        target = cls(parse(HostOptions, profile.options, f"target {name}: options").python)
        target.name = name
        return target

    def availability(self) -> Availability:
        """Ready where the interpreter that runs the agent has a TFLite runtime."""
        if self.python != sys.executable:
            return _ask(self.python)
        if any(importlib.util.find_spec(runtime) for runtime in RUNTIMES):
            return Availability(True)
        return Availability(False, "no TFLite runtime is installed", "pip install ai-edge-litert")

    def profile(self, models: Mapping[str, Path], config: ProfileConfig, progress: Progress) -> list[ProfileResult]:
        """Profiles every model, their repeats alternating. Raises ModelError or DeviceError."""
        progress.start(f"profile on {self.name}", config.repeats * len(models))
        with ExitStack() as stack:
            agents = {
                variant: AgentLink(str(path), stack.enter_context(AgentProcess(self.python, path, config)))
                for variant, path in models.items()
            }
            found = take_turns(agents, config.repeats, progress)
        progress.finish()
        return [read_result(variant, raw, self.name) for variant, raw in found.items()]

    @contextmanager
    def race(self, base: Path, candidate: Path, config: ProfileConfig) -> Iterator[RaceLink]:
        """Runs two models by turns in one process. Raises ModelError or DeviceError."""
        arguments = race_arguments(str(base), str(candidate), config, config.core)
        with AgentProcess(self.python, candidate, config, arguments) as channel:
            yield RaceLink(AgentLink(f"{base} and {candidate}", channel))


class AgentProcess:
    """A channel to an agent on this machine; it is gone when the block ends, whatever happens.

    On Linux also when this process is killed: the kernel then ends the agent, in the middle of a repeat if need be.
    Without `arguments` the agent profiles `model`.
    """

    def __init__(self, python: str, model: Path, config: ProfileConfig, arguments: Sequence[str] | None = None) -> None:
        self.model = model
        self._timeout = config.timeout_seconds
        self._expired = False
        arguments = agent_arguments(str(model), config, config.core) if arguments is None else arguments
        self._command = [python, "-P", str(AGENT), *arguments, "--die-with-parent"]

    def __enter__(self) -> AgentProcess:
        self._errors = tempfile.TemporaryFile("w+")
        try:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True
            )
        except OSError as error:
            self._errors.close()
            hint = "set the option python to an interpreter with numpy and ai-edge-litert, or leave it out"
            raise DeviceError(f"{self._command[0]}: cannot be started ({error.strerror})", hint) from error
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

    def readline(self) -> str:
        """The next line of its standard output; empty once it has ended."""
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def write(self, text: str) -> None:
        """Text for its standard input; lost without an error when it has ended."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(text)
            self._process.stdin.flush()

    def ending(self) -> Ending:
        """Waits for its end. Raises DeviceError when its time is up."""
        code = self._process.wait()
        if self._expired:
            raise DeviceError(f"{self.model}: profiling took longer than {self._timeout:g} s", "raise timeout_seconds")
        self._errors.seek(0)
        return Ending.of_process(code, self._errors.read())

    def _expire(self) -> None:
        self._expired = True
        self._process.kill()


def _ask(python: str) -> Availability:
    """Whether another interpreter has a runtime: only it can tell."""
    try:
        asked = subprocess.run(
            [python, "-P", "-c", _HAS_RUNTIME, *RUNTIMES],
            capture_output=True, text=True, timeout=ANSWER_SECONDS, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except OSError as error:
        return Availability(False, f"{python}: cannot be started ({error.strerror})", OTHER_PYTHON)
    except subprocess.TimeoutExpired:
        return Availability(False, f"{python}: no answer in {ANSWER_SECONDS:g} s", OTHER_PYTHON)
    answer = asked.stdout.strip()
    if answer == "yes":
        return Availability(True)
    if answer == "no":
        install = f"{python} -m pip install ai-edge-litert"
        return Availability(False, f"{python}: no TFLite runtime is installed", install)
    said = "".join(f" ({line})" for line in asked.stderr.strip().splitlines()[-1:])
    return Availability(False, f"{python}: no interpreter{said}", OTHER_PYTHON)
