"""What a target is: something that runs stream models and says how long they take, and where the numbers come from."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from pydantic import Field, model_validator

from earshot.core.config import Config, load_yaml, parse
from earshot.core.measurement import Measurement, Provenance

if TYPE_CHECKING:
    from earshot.pipeline.progress import Progress

PROFILES = Path(__file__).with_name("profiles")
PRECISIONS = frozenset({"float32", "int8", "int16x8"})

Kind = Literal["host", "raspberry-pi", "container", "phone", "microcontroller", "npu"]


class DeviceProfile(Config):
    """What is known of a device or a class of devices; one YAML file in `targets/profiles` each.

    Attributes:
        kind: class of device.
        driver: the registered driver that runs models on it (`targets/registry.py`).
        title: its name for people.
        cpu, clock_mhz: processor and its clock; None where it is read from the device.
        ram_bytes, flash_bytes: limits a model and its surroundings must fit; None where none matters.
        metrics: the metrics a budget for it should name.
        needs: options that only a device of one's own has (its address); without them the profile is a class of
            devices, which an entry of the inventory completes.
        budgets: budgets that a run which names this target is held to, judged by the gate's own config; `target` is
            filled in, and a `name` gets the target's in front: `ram` becomes `cortex-m4-ram`.
        options: settings of the driver, judged by the driver's own config.
    """

    kind: Kind
    driver: str
    title: str
    cpu: str | None = None
    clock_mhz: float | None = Field(default=None, gt=0)
    ram_bytes: int | None = Field(default=None, gt=0)
    flash_bytes: int | None = Field(default=None, gt=0)
    metrics: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    budgets: tuple[dict[str, Any], ...] = ()
    options: dict[str, Any] = Field(default_factory=dict)


class ProfileConfig(Config):
    """How a model is timed.

    Attributes:
        frames: timed frames of one repeat.
        repeats: repeats of each model; those of several models alternate.
        warmup: untimed frames before each repeat.
        threads: threads of the runtime.
        core: core to pin to, with one thread only; None takes the last ones this process may use, one a thread.
        delegate: run XNNPACK; False times the plain kernels.
        timeout_seconds: a model that takes longer in all counts as failed.
    """

    frames: int = Field(default=500, ge=1)
    repeats: int = Field(default=5, ge=1)
    warmup: int = Field(default=50, ge=0)
    threads: int = Field(default=1, ge=1)
    core: int | None = Field(default=None, ge=0)
    delegate: bool = True
    timeout_seconds: float = Field(default=300.0, gt=0)

    @model_validator(mode="after")
    def _one_thread_on_a_core(self) -> ProfileConfig:
        if self.core is not None and self.threads > 1:
            raise ValueError(f"{self.threads} threads cannot share core {self.core}: leave out core, or use 1 thread")
        return self


@dataclass(frozen=True)
class Availability:
    """Whether a target can be driven from here; if not, why, and the command that enables it."""

    ok: bool
    reason: str = ""
    enable: str = ""


@dataclass(frozen=True)
class Histogram:
    """`counts[i]` frames took from `edges_us[i]` to `edges_us[i + 1]` microseconds."""

    edges_us: tuple[float, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True)
class OperatorCost:
    """What one operator of the graph costs in one frame.

    Attributes:
        index: place in the graph.
        name: builtin operator, e.g. `CONV_2D`.
        location: name of its first output tensor.
        value, unit: the cost: `us`, `instructions` or `cycles`.
        placement: what runs it where a device has several processors, e.g. `npu` or `cpu`.
    """

    index: int
    name: str
    location: str
    value: float
    unit: str
    placement: str = ""


@dataclass(frozen=True)
class ProfileResult:
    """What profiling one model on one target gave.

    Attributes:
        variant: the model's name among those profiled, e.g. `int8`.
        measurements: every number, with `target` set.
        histogram: times of one graph step; None where no clock was read.
        environment: engine, versions, compiler, processor, core: what the numbers hold for.
        raw: all the device said, for the record.
        operators: cost of every operator, where the target can tell.
    """

    variant: str
    measurements: tuple[Measurement, ...]
    histogram: Histogram | None
    environment: Mapping[str, Any]
    raw: Mapping[str, Any]
    operators: tuple[OperatorCost, ...] = ()


class Target(Protocol):
    """One way of running models.

    Attributes:
        name: what a recipe, a budget and a Measurement call it.
        kind: class of device.
        precisions: the precisions it can run (`precision` of the stream description); others are left out, and said so.
        exclusive: it reads this machine's clock, so nothing else may run beside it.
    """

    name: str
    kind: Kind
    precisions: frozenset[str]
    exclusive: bool

    def availability(self) -> Availability:
        """Whether it can be driven now. Cheap: nothing is started."""

    def profile(self, models: Mapping[str, Path], config: ProfileConfig, progress: Progress) -> list[ProfileResult]:
        """Profiles stream models, given by variant name, one result each in their order.

        Raises:
            ModelError: a model is no stream model, or the runtime refuses it.
            DeviceError: the device is absent or failed.
        """


@runtime_checkable
class Identified(Protocol):
    """A target whose results depend on more than its profile: compilers, emulators, an image. Optional."""

    def identity(self) -> Mapping[str, str]:
        """What else decides a result, e.g. `{"qemu": "7.2.1"}`; a profile made with another is made anew.

        Cheap, and never raises: what is missing is left out, because profiling says what it lacks.
        """


class Race(Protocol):
    """Two models that run by turns on one device.

    Attributes:
        environment: engine, versions, processor, core: what the numbers hold for.
    """

    environment: Mapping[str, Any]

    def round(self) -> tuple[Mapping[str, float], Mapping[str, float]]:
        """Metric -> value of base and candidate in one more round. Raises as `Target.profile`."""


@runtime_checkable
class Racing(Protocol):
    """A target on which two models can run by turns, so that their times compare on a busy machine. Optional."""

    def race(self, base: Path, candidate: Path, config: ProfileConfig) -> AbstractContextManager[Race]:
        """Opens a race; `config` says threads, core, delegate and the time it may take. Raises as `Target.profile`."""


@runtime_checkable
class NeedsSetup(Protocol):
    """A target that has to be made ready once: `earshot targets setup NAME`. Optional."""

    def setup(self, progress: Progress) -> None:
        """Builds or installs what profiling needs, into the cache folder; done already, it returns at once.

        Raises:
            ToolError: it could not be built or installed; names what failed.
        """


def builtin_profiles() -> tuple[str, ...]:
    """Names of the device profiles that come with earshot."""
    return tuple(sorted(path.stem for path in PROFILES.glob("*.yaml")))


def did_you_mean(word: str, known: Sequence[str], more: str = "") -> str:
    """The end of a message about an unknown name: the nearest known one, or all of them and what else there may be."""
    near = difflib.get_close_matches(word, known, n=1)
    return f"did you mean '{near[0]}'?" if near else f"known: {', '.join((*known, *filter(None, [more]))) or 'none'}"


def load_profile(name: str) -> DeviceProfile:
    """A device profile by file name. Raises ConfigError."""
    path = PROFILES / f"{name}.yaml"
    return parse(DeviceProfile, load_yaml(path), str(path))


def read_result(
    variant: str, raw: Mapping[str, Any], target: str, provenance: Provenance = Provenance.MEASURED
) -> ProfileResult:
    """An agent's result as measurements; every target that runs the agent reads it here.

    Times carry the flag `throttled` when something held the clock back, `delegate-missing` when XNNPACK was asked for
    and took no operator. It has no kernels for 16-bit activations: there that is as it should be.
    """
    frames, repeats, graph = raw["frames"], raw["repeats"], raw["graph_us"]
    asked = raw["environment"]["delegate"] and raw["precision"] != "int16x8"
    marks = {"throttled": raw["held_back"], "delegate-missing": asked and not raw["delegate_coverage"]}
    flags = tuple(mark for mark, applies in marks.items() if applies)

    def timed(metric: str, value: float, unit: str, n: int) -> Measurement:
        return Measurement(metric, value, unit, n, provenance, target, flags=flags)

    def counted(metric: str, value: float, unit: str, n: int = 1) -> Measurement:
        return Measurement(metric, value, unit, n, provenance, target)

    measurements = [
        timed("rtf", raw["rtf"], "1", repeats),
        timed("hop_rtf", raw["hop_rtf"], "1", repeats),
        timed("graph_rtf", raw["graph_rtf"], "1", repeats),
        timed("frame_p50_us", graph["p50"], "us", frames),
        timed("frame_p95_us", graph["p95"], "us", frames),
        timed("frame_p99_us", graph["p99"], "us", frames),
        timed("frame_max_us", graph["max"], "us", frames),
        timed("deadline_misses", raw["deadline_misses"], "1", frames),
        counted("peak_rss_bytes", raw["peak_rss_bytes"], "bytes"),
        counted("arena_bytes", raw["arena_bytes"], "bytes"),
        counted("delegate_coverage", raw["delegate_coverage"], "1", raw["operators"]),
    ]
    degrees = [sample["temperature_c"] for sample in raw["conditions"] if sample["temperature_c"] is not None]
    if degrees:
        measurements.append(counted("temperature_c", max(degrees), "C", len(degrees)))
    histogram = Histogram(tuple(raw["histogram"]["edges_us"]), tuple(raw["histogram"]["counts"]))
    environment = {**raw["environment"], "held_back": raw["held_back"], "clock_mhz": _clocks(raw["conditions"])}
    return ProfileResult(variant, tuple(measurements), histogram, environment, raw)


def _clocks(conditions: Sequence[Mapping[str, Any]]) -> list[float]:
    """The clocks seen, from lowest to highest."""
    return sorted({sample["clock_mhz"] for sample in conditions if sample["clock_mhz"] is not None})
