"""A phone: TensorFlow Lite's own benchmark tool, run on it over adb, times one step of the graph.

The tool knows nothing of sound, so the figures are those of the graph: no analysis, no synthesis, no whole-frame
factor. Each repeat is a process of its own, and those of several models alternate (A B A B). A last run of each model,
not counted in the times, has every operator profiled.
"""

from __future__ import annotations

import hashlib
import shlex
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from earshot.core.config import Config, parse
from earshot.core.errors import DeviceError, EarshotError, ModelError
from earshot.core.measurement import Measurement, Provenance
from earshot.targets.adb.benchmark import (
    Accelerator,
    Delegation,
    Timing,
    UnreadableError,
    arguments,
    complaint,
    missing_operator,
    profiling_arguments,
    read_delegation,
    read_operators,
    read_timing,
    refusal,
)
from earshot.targets.adb.client import INSTALL, Adb, Output, PhoneFolder
from earshot.targets.adb.condition import (
    DOUBLE,
    Core,
    Thermal,
    clocks,
    fastest,
    properties,
    read_cores,
    read_thermal,
)
from earshot.targets.base import (
    PRECISIONS,
    Availability,
    DeviceProfile,
    OperatorCost,
    ProfileConfig,
    ProfileResult,
)

if TYPE_CHECKING:
    from earshot.pipeline.progress import Progress

TOOL = "benchmark_model"
CANNOT_EXECUTE = (126, 127)


class PhoneOptions(Config):
    """Options of a phone.

    Attributes:
        benchmark_model: the tool, built for the phone's processor.
        serial: which phone, as `adb devices` names it; None where only one is connected.
        accelerator: what runs the graph: XNNPACK on the processor, the GPU or NNAPI delegate, or none.
        nnapi_accelerator: NNAPI's name for one of its devices; None lets it choose.
        cores: cores to pin to; None takes as many of the fastest as there are threads.
        folder: where on the phone a folder for the session is made.
        adb: name or path of the adb client.
        server_port: port of the adb server; None takes the client's own.
    """

    benchmark_model: Path
    serial: str | None = None
    accelerator: Accelerator = "xnnpack"
    nnapi_accelerator: str | None = None
    cores: tuple[Annotated[int, Field(ge=0, lt=64)], ...] | None = Field(default=None, min_length=1)
    folder: str = Field(default="/data/local/tmp", pattern=r"^/[\w./-]+$")
    adb: str = "adb"
    server_port: int | None = Field(default=None, ge=1, le=65535)


@dataclass
class _Session:
    """What is known of one model while its repeats run."""

    variant: str
    model: Path
    file: str
    hop_us: float
    precision: str
    seconds_left: float
    timings: list[Timing] = field(default_factory=list)
    delegation: Delegation = field(default_factory=lambda: Delegation(0, None))
    operators: Sequence[OperatorCost] = ()
    logs: list[str] = field(default_factory=list)
    operators_csv: str = ""


class PhoneTarget:
    """Profiles on one phone."""

    kind = "phone"
    precisions = PRECISIONS
    exclusive = False

    def __init__(self, name: str, options: PhoneOptions) -> None:
        self.name, self.options = name, options
        self._adb = Adb(options.adb, options.server_port)

    @classmethod
    def open(cls, name: str, profile: DeviceProfile) -> PhoneTarget:
        """The driver's entry in the registry. Raises ConfigError."""
        return cls(name, parse(PhoneOptions, profile.options, f"target {name}: options"))

    def availability(self) -> Availability:
        """Ready where the adb server runs and the phone is there; no server is started to find out."""
        if not self._adb.installed():
            return Availability(False, f"the adb client '{self.options.adb}' is not installed", INSTALL)
        if not self._tool.is_file():
            return Availability(False, f"{self._tool}: no such file", "set the option benchmark_model to the tool")
        if not self._adb.server_running():
            return Availability(False, "no adb server is running", "adb start-server")
        try:
            self._adb.choose(self.options.serial)
        except DeviceError as error:
            return Availability(False, error.message, error.hint or "")
        return Availability(True)

    def identity(self) -> Mapping[str, str]:
        """The tool decides a result as much as the phone does."""
        return {TOOL: _digest(self._tool)} if self._tool.is_file() else {}

    def profile(self, models: Mapping[str, Path], config: ProfileConfig, progress: Progress) -> list[ProfileResult]:
        """Profiles every model, their repeats alternating.

        Raises:
            ModelError: a model is no stream model, or the tool's runtime refuses it.
            DeviceError: the phone or the tool is absent or failed, the tool is too old for the model, the time is up.
        """
        if not self._tool.is_file():
            raise DeviceError(f"{self._tool}: no such file", "set the option benchmark_model to the tool")
        sessions = [
            _Session(variant, path, f"{index}.tflite", *_facts(path), config.timeout_seconds)
            for index, (variant, path) in enumerate(models.items())
        ]
        phone = self._adb.choose(self.options.serial)
        says = properties(phone)
        progress.start(f"profile on {self.name}", (config.repeats + 1) * len(sessions))
        with PhoneFolder(phone, self.options.folder) as folder:
            phone.push(self._tool, f"{folder.path}/{TOOL}")
            phone.shell(f"chmod 755 {folder.path}/{TOOL}")
            for session in sessions:
                phone.push(session.model, f"{folder.path}/{session.file}")
            before, cores = read_thermal(phone), read_cores(phone)
            used = self._cores(cores, config)
            for _ in range(config.repeats):
                for session in sessions:
                    self._repeat(folder, session, config, used)
                    progress.advance(note=f"{session.variant} {session.timings[-1].average:.1f} us")
            after, seen = read_thermal(phone), [clocks(cores, used), clocks(read_cores(phone), used)]
            for session in sessions:
                self._profile_operators(folder, session, config, used)
                progress.advance(note=f"{session.variant} operators")
        progress.finish()
        environment = {
            "phone": says,
            "serial": phone.serial,
            "tool": {"file": self._tool.name, "sha256": _digest(self._tool)},
            "accelerator": self.options.accelerator if config.delegate else "none",
            "threads": config.threads,
            "cores": list(used),
            "governor": sorted({core.governor for core in cores if core.number in used}),
            "clock_mhz": seen,
            "thermal": [before.to_dict(), after.to_dict()],
        }
        provenance = Provenance.TEST_DOUBLE if says.get(DOUBLE) == "1" else Provenance.MEASURED
        return [self._result(session, config, provenance, (before, after), environment) for session in sessions]

    @property
    def _tool(self) -> Path:
        return self.options.benchmark_model.expanduser()

    def _cores(self, cores: Sequence[Core], config: ProfileConfig) -> tuple[int, ...]:
        chosen = self.options.cores or ((config.core,) if config.core is not None else None)
        if not chosen:
            return fastest(list(cores), config.threads)
        there = [core.number for core in cores]
        missing = [number for number in chosen if number not in there]
        if missing:
            raise DeviceError(
                f"phone {self.name} has no core {missing[0]}, it has {there}", "set the option cores to some of them"
            )
        return tuple(chosen)

    def _repeat(self, folder: PhoneFolder, session: _Session, config: ProfileConfig, cores: tuple[int, ...]) -> None:
        log = self._run(folder, session, config, cores, config.frames).text
        try:
            session.timings.append(read_timing(log))
        except UnreadableError as error:
            raise DeviceError(
                f"{session.model}: {self._tool.name} printed what cannot be read ({error}; it ended with: "
                f"{complaint(log)})",
                "use TensorFlow Lite's benchmark_model, 2.6 or later",
            ) from error
        session.delegation = read_delegation(log, self._accelerator(config))

    def _profile_operators(
        self, folder: PhoneFolder, session: _Session, config: ProfileConfig, cores: tuple[int, ...]
    ) -> None:
        """Costs of the operators; a tool that cannot tell them leaves them out, and the record says so."""
        csv = f"{session.file}.csv"
        self._run(folder, session, config, cores, min(config.frames, 50), profiling_arguments(csv))
        said = folder.phone.shell(f"cat {shlex.quote(f'{folder.path}/{csv}')}")
        session.operators_csv = said.text
        try:
            session.operators = read_operators(said.text, self._accelerator(config)) if said.code == 0 else ()
        except UnreadableError:
            session.operators = ()

    def _run(
        self,
        folder: PhoneFolder,
        session: _Session,
        config: ProfileConfig,
        cores: tuple[int, ...],
        runs: int,
        extra: Sequence[str] = (),
    ) -> Output:
        """One process of the tool on the phone."""
        flags = [
            f"--graph={session.file}",
            *arguments(self._accelerator(config), config.threads, runs, config.warmup, self.options.nnapi_accelerator),
            *extra,
        ]
        # The mask of toybox's taskset is a hexadecimal number.
        pinned = f"taskset {sum(1 << core for core in cores):x} ./{TOOL} {shlex.join(flags)}"
        started = time.monotonic()
        try:
            output = folder.run(pinned, max(session.seconds_left, 0.1))
        except DeviceError as error:
            raise DeviceError(f"{session.model}: {error.message}", error.hint) from error
        session.seconds_left -= time.monotonic() - started
        session.logs.append(output.text)
        if output.code:
            raise self._failure(session.model, output)
        return output

    def _failure(self, model: Path, output: Output) -> EarshotError:
        newer = f"use a newer {self._tool.name}, or another precision"
        lacks = missing_operator(output.text)
        if lacks:
            return DeviceError(f"{model}: {self._tool.name} on {self.name} lacks one of its operators ({lacks})", newer)
        refused = refusal(output.text)
        if refused:
            return ModelError(f"{model}: refused on {self.name} ({refused})", newer)
        signal = f"{output.code - 128} is the number of the signal; " if output.code > 128 else ""
        hint = f"{signal}profile another model: if that fails too, take another build of {self._tool.name}"
        if output.code in CANNOT_EXECUTE:
            hint = (
                "set benchmark_model to the tool built for the phone's processor (adb shell getprop ro.product.cpu.abi)"
            )
        elif "delegate" in complaint(output.text):
            hint = "the phone cannot run this graph on that accelerator; set the option accelerator"
        return DeviceError(
            f"{model}: {self._tool.name} on {self.name} ended with code {output.code} ({complaint(output.text)})", hint
        )

    def _accelerator(self, config: ProfileConfig) -> Accelerator:
        return self.options.accelerator if config.delegate else "none"

    def _result(
        self,
        session: _Session,
        config: ProfileConfig,
        provenance: Provenance,
        thermal: tuple[Thermal, Thermal],
        environment: Mapping[str, Any],
    ) -> ProfileResult:
        accelerator, coverage = self._accelerator(config), session.delegation.coverage
        # XNNPACK has no kernels for 16-bit activations: there none is missing.
        asked = accelerator != "none" and not (accelerator == "xnnpack" and session.precision == "int16x8")
        marks = {"throttled": any(look.throttled for look in thermal), "delegate-missing": asked and not coverage}
        flags = tuple(mark for mark, applies in marks.items() if applies)
        timings, frames = session.timings, sum(timing.count for timing in session.timings)

        def timed(metric: str, value: float | None, unit: str, n: int) -> Measurement:
            why = "this benchmark_model prints no percentiles; use that of TensorFlow 2.14 or later"
            return Measurement(
                metric, value, unit, n, provenance, self.name, flags=flags, reason=why if value is None else None
            )

        def counted(metric: str, value: float | None, unit: str, n: int, why: str) -> Measurement:
            reason = why if value is None else None
            return Measurement(metric, value, unit, n, provenance, self.name, reason=reason)

        median = statistics.median(timing.average for timing in timings)
        memory = max((timing.memory_bytes for timing in timings if timing.memory_bytes is not None), default=None)
        measurements = [
            timed("graph_rtf", median / session.hop_us, "1", len(timings)),
            timed("frame_p50_us", _middle([timing.median for timing in timings]), "us", frames),
            timed("frame_p95_us", _middle([timing.p95 for timing in timings]), "us", frames),
            timed("frame_max_us", max(timing.highest for timing in timings), "us", frames),
            counted("memory_footprint_bytes", memory, "bytes", len(timings), "the phone does not tell its memory use"),
            counted(
                "delegate_coverage",
                coverage,
                "1",
                max(session.delegation.operators, 1),
                f"benchmark_model did not say what {accelerator} took",
            ),
        ]
        if thermal[1].cpu_c is not None:
            measurements.append(counted("temperature_c", max(look.cpu_c or 0 for look in thermal), "C", 2, ""))
        raw = {"logs": session.logs, "operators_csv": session.operators_csv}
        return ProfileResult(session.variant, tuple(measurements), None, environment, raw, tuple(session.operators))


def _middle(values: Sequence[float | None]) -> float | None:
    """The median over repeats of a quantile of each; None where any is unknown."""
    known = [value for value in values if value is not None]
    return statistics.median(known) if len(known) == len(values) else None


def _facts(model: Path) -> tuple[float, str]:
    """Microseconds of sound that one frame is for, and the precision. Raises ModelError."""
    from earshot.targets.agent import AgentError, read_description

    try:
        description = read_description(str(model))
        frontend = description["frontend"]
        return frontend["hop"] / frontend["rate"] * 1e6, description.get("precision", "")
    except AgentError as error:
        raise ModelError(error.message, error.hint) from error
    except (KeyError, TypeError, ZeroDivisionError) as error:
        raise ModelError(f"{model}: damaged stream description ({error!r})", "convert the model again") from error


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
