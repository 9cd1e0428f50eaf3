"""An arm64 container: the agent as it ships, within the memory, the cores and the rights that it will have there.

On an arm64 engine its times are a device's own. On another one QEMU runs it: results and limits are real, times are
not, and none is reported.
"""

from __future__ import annotations

import base64
import importlib.util
import platform
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, Field

from earshot.core.config import Config, parse
from earshot.core.errors import DeviceError
from earshot.core.measurement import Measurement, Provenance
from earshot.targets.agent_link import AgentLink, agent_arguments, take_turns
from earshot.targets.base import (
    PRECISIONS,
    Availability,
    DeviceProfile,
    ProfileConfig,
    ProfileResult,
    read_result,
)
from earshot.targets.container.channel import MODEL, Deployment, Limits
from earshot.targets.container.emulation import check_cpu, check_environment, cpuinfo, registered
from earshot.targets.container.engine import ARM64, EMULATE, INSTALL, Engine
from earshot.targets.container.image import build_image, image_name
from earshot.targets.guest.outputs import Difference, Expected, expect

if TYPE_CHECKING:
    from earshot.pipeline.progress import Progress

# What an emulated run does not tell: all that a clock, or the emulator's own memory, is in.
WITHHELD = (
    *("graph_us", "path_us", "rtf", "hop_rtf", "graph_rtf", "deadline_misses", "histogram"),
    *("conditions", "held_back", "peak_rss_bytes", "base_rss_bytes"),
)
NOT_EMULATED = ("governor", "board")
COMPARED = 50  # frames whose outputs are compared with this machine's
MEBIBYTE = 2**20


class ContainerOptions(Config):
    """Options of a container.

    Attributes:
        engine: where the engine listens; None as the docker command finds it.
        image: an image of one's own with the agent in it; None takes the one that `earshot targets setup` builds.
        base: a Debian 12 image to build from; None builds from Debian's packages, without a registry.
        memory_bytes: memory it may use; None takes the profile's `ram_bytes`.
        cpus: share of the processors it may use.
        cpuset: cores it may use, e.g. `0-1`.
        cpu: processor that is emulated where the engine is no arm64 one.
        frames: at most so many frames are run under emulation, once.
    """

    engine: str | None = None
    image: str | None = None
    base: str | None = None
    memory_bytes: int | None = Field(default=None, ge=6 * MEBIBYTE)  # engines refuse less
    cpus: float | None = Field(default=None, gt=0)
    cpuset: str | None = Field(default=None, pattern=r"^\d+([,-]\d+)*$")
    cpu: Annotated[str, AfterValidator(check_cpu)] = "cortex-a72"
    frames: int = Field(default=50, ge=1)


class ContainerTarget:
    """Profiles in arm64 containers of one engine."""

    kind = "container"
    precisions = PRECISIONS

    def __init__(self, name: str, options: ContainerOptions) -> None:
        self.name, self.options = name, options

    @classmethod
    def open(cls, name: str, profile: DeviceProfile) -> ContainerTarget:
        """The driver's entry in the registry. Raises ConfigError."""
        options = parse(ContainerOptions, profile.options, f"target {name}: options")
        if options.memory_bytes is None:
            options = options.model_copy(update={"memory_bytes": profile.ram_bytes})
        return cls(name, options)

    @property
    def exclusive(self) -> bool:
        """Only where arm64 runs natively, and here, is a clock of this machine read."""
        return platform.machine() in ARM64 and self._engine().url.startswith("unix:")

    @property
    def image(self) -> str:
        """The image's name."""
        return self.options.image or image_name(self.options.base)

    def availability(self) -> Availability:
        """Ready where the engine runs, can run arm64 programs, as they are on a board, and has the image."""
        if importlib.util.find_spec("docker") is None:
            return Availability(False, "the Docker SDK for Python is not installed", INSTALL)
        engine = self._engine(seconds=5)
        try:
            if engine.architecture() not in ARM64:
                check_environment()
                if engine.url.startswith("unix:") and not registered():
                    return Availability(False, "this machine cannot run arm64 programs", EMULATE)
            if engine.image(self.image) is None:
                return Availability(False, f"the engine has no image {self.image}", self._setup)
        except DeviceError as error:
            return Availability(False, error.message, error.hint or "")
        return Availability(True)

    def identity(self) -> Mapping[str, str]:
        """The image decides a result, the processor that is emulated, and the engine it runs on."""
        engine = self._engine(seconds=5)
        known = {"image": self.image, "emulated_cpu": self.options.cpu, "engine": engine.url}
        with suppress(DeviceError):
            known["engine_architecture"] = engine.architecture()
        return known

    def setup(self, progress: Progress) -> None:
        """Builds the image. Raises ToolError or DeviceError."""
        if self.options.image is None:
            build_image(self._engine(), self.options.base, progress)

    def profile(self, models: Mapping[str, Path], config: ProfileConfig, progress: Progress) -> list[ProfileResult]:
        """Profiles every model, each in a container of its own, their repeats alternating.

        Raises:
            ModelError: a model is no stream model, or the runtime refuses it.
            DeviceError: the engine is absent or failed, the image is missing, a limit or the time was too small.
        """
        engine = self._engine()
        native = engine.architecture() in ARM64
        if not native:
            check_environment()
            config = config.model_copy(update={"repeats": 1, "frames": min(config.frames, self.options.frames)})
        if engine.image(self.image) is None:
            raise DeviceError(f"the engine at {engine.url} has no image {self.image}", self._setup)
        expected = {} if native else {variant: expect(path, config, COMPARED) for variant, path in models.items()}
        with self._deployment(engine, native, config.timeout_seconds) as deployment:
            progress.start(f"profile on {self.name}", config.repeats * len(models) + len(expected))
            found, warnings = self._time(deployment, models, config, progress if native else _Timeless(progress))
            differences: dict[str, Difference] = {}
            for variant, ours in expected.items():
                differences[variant] = self._compare(deployment, models[variant], config, ours)
                progress.advance(note=f"{variant} {differences[variant].mismatches} outputs differ")
            progress.finish()
        environment = {
            "engine": engine.version(),
            "engine_architecture": engine.architecture(),
            "image": self.image,
            "limits": asdict(deployment.limits),
            "engine_warnings": warnings,
        }
        return [
            self._emulated(variant, raw, differences[variant], environment)
            if variant in differences
            else self._measured(variant, raw, environment)
            for variant, raw in found.items()
        ]

    def _time(
        self, deployment: Deployment, models: Mapping[str, Path], config: ProfileConfig, progress: Progress
    ) -> tuple[dict[str, dict[str, Any]], list[str]]:
        """Every model's result, and what the engine warned of."""
        arguments = agent_arguments(MODEL, config, config.core)
        with ExitStack() as stack:
            channels = {
                variant: stack.enter_context(deployment.container(path, arguments)) for variant, path in models.items()
            }
            agents = {
                variant: AgentLink(str(models[variant]), channel, self.name, {MODEL: str(models[variant])})
                for variant, channel in channels.items()
            }
            found = take_turns(agents, config.repeats, progress)
            return found, sorted({warning for channel in channels.values() for warning in channel.warnings})

    def _compare(self, deployment: Deployment, model: Path, config: ProfileConfig, ours: Expected) -> Difference:
        """How the container's outputs differ from this machine's, for the same frames."""
        arguments = ["trace", MODEL, "--threads", str(config.threads), *([] if config.delegate else ["--no-delegate"])]
        with deployment.container(model, arguments) as channel:
            channel.write(base64.b64encode(ours.frames).decode() + "\n")
            return ours.compare(AgentLink(str(model), channel, self.name, {MODEL: str(model)}).expect("result"))

    @contextmanager
    def _deployment(self, engine: Engine, native: bool, seconds: float) -> Iterator[Deployment]:
        options = self.options
        limits = Limits(options.memory_bytes, options.cpus, options.cpuset)
        with tempfile.TemporaryDirectory(prefix="earshot-") as folder:
            emulated = None if native else (options.cpu, _readable(Path(folder), "cpuinfo", cpuinfo(options.cpu)))
            yield Deployment(engine, self.image, limits, seconds, emulated)

    @property
    def _setup(self) -> str:
        if self.options.image:
            return f"docker pull --platform linux/arm64 {self.options.image}"
        return f"earshot targets setup {self.name}"

    def _engine(self, seconds: float | None = None) -> Engine:
        return Engine(self.options.engine, seconds) if seconds else Engine(self.options.engine)

    def _measured(self, variant: str, raw: Mapping[str, Any], environment: Mapping[str, Any]) -> ProfileResult:
        result = read_result(variant, raw, self.name)
        return replace(result, environment={**result.environment, **environment})

    def _emulated(
        self, variant: str, raw: Mapping[str, Any], difference: Difference, environment: Mapping[str, Any]
    ) -> ProfileResult:
        # XNNPACK has no kernels for 16-bit activations: there none is missing.
        asked = raw["environment"]["delegate"] and raw["precision"] != "int16x8"
        missing = ("delegate-missing",) if asked and not raw["delegate_coverage"] else ()

        def counted(metric: str, value: float, unit: str, n: int, flags: tuple[str, ...] = ()) -> Measurement:
            return Measurement(metric, value, unit, n, Provenance.EMULATED, self.name, flags=flags)

        measurements = (
            counted("arena_bytes", raw["arena_bytes"], "bytes", 1),
            counted("delegate_coverage", raw["delegate_coverage"], "1", raw["operators"], missing),
            counted("output_mismatches", difference.mismatches, "1", difference.values),
        )
        kept = {key: value for key, value in raw.items() if key not in WITHHELD}
        about = {
            **{key: value for key, value in raw["environment"].items() if key not in NOT_EMULATED},
            **environment,
            "emulated_cpu": self.options.cpu,
            "largest_output_difference": difference.largest,
        }
        return ProfileResult(variant, measurements, None, about, kept)


class _Timeless:
    """Progress without notes: an emulator's times are nobody's."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self.start, self.finish, self.beside = progress.start, progress.finish, progress.beside

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Passes the steps on."""
        self._progress.advance(steps)


def _readable(folder: Path, name: str, text: str) -> Path:
    """A file that an engine's containers may read."""
    folder.chmod(0o755)
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path
