"""An Ethos-U NPU as a target: the graph compiled by Vela, whose estimates are reported as estimates.

The frontend runs on the CPU beside the NPU and is not counted. What Vela leaves to the CPU counts zero cycles there, so
a network with such operators has totals that are lower bounds, and its measurements carry that flag.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from earshot.core.config import parse
from earshot.core.measurement import Measurement, Provenance
from earshot.quantize.graph import Graph, read_graph
from earshot.quantize.metadata import description_of
from earshot.targets.base import Availability, DeviceProfile, Kind, OperatorCost, ProfileConfig, ProfileResult
from earshot.targets.npu.environment import environment_python, install, vela_version
from earshot.targets.npu.placement import CPU, operator_costs
from earshot.targets.npu.strides import VERSION
from earshot.targets.npu.vela import Fallback, VelaConfig, VelaReport, compile_model

if TYPE_CHECKING:
    from earshot.pipeline.progress import Progress

LOWER_BOUND = "lower-bound"
TOLD_APART = "Shared_Sram"


class EthosUTarget:
    """Profiles stream models by compiling them for an Ethos-U.

    Attributes:
        name: the target's name.
        config: the chip.
    """

    kind: Kind = "npu"
    precisions = frozenset({"int8", "int16x8"})
    exclusive = False

    def __init__(self, name: str, config: VelaConfig) -> None:
        self.name = name
        self.config = config

    @classmethod
    def open(cls, name: str, profile: DeviceProfile) -> EthosUTarget:
        """The driver's entry in the registry. Raises ConfigError for options that are wrong."""
        return cls(name, parse(VelaConfig, profile.options, f"target {name}: options"))

    def availability(self) -> Availability:
        """Ready where Vela's environment has been made."""
        if environment_python().exists():
            return Availability(True)
        return Availability(False, f"vela {vela_version()} is not installed", f"earshot targets setup {self.name}")

    def setup(self, progress: Progress) -> None:
        """Installs Vela in an environment of its own, once for all NPUs. Raises ToolError."""
        install(progress)

    def identity(self) -> Mapping[str, str]:
        """What estimates change with."""
        return {"vela": vela_version(), "strides": VERSION}

    def profile(self, models: Mapping[str, Path], config: ProfileConfig, progress: Progress) -> list[ProfileResult]:
        """Compiles every model and reads the estimates.

        Raises:
            ModelError: the file is no stream model.
            ConfigError: Vela knows no such system or memory mode.
            ToolError: Vela is not installed, refused the model or crashed.
            DeviceError: it took too long.
        """
        progress.start(f"compile for {self.name}", len(models))
        results = []
        for variant, path in models.items():
            graph = read_graph(path)
            frontend = description_of(graph).frontend
            report = compile_model(path, self.config, config.timeout_seconds)
            results.append(self._result(variant, graph, report, frontend.hop / frontend.rate))
            progress.advance(note=f"{variant} {report.cycles:,.0f} cycles")
        progress.finish()
        return results

    def compile(self, model: Path, out: Path, timeout_seconds: float = 300.0) -> VelaReport:
        """Writes the .tflite that the NPU's driver runs; errors as `profile`."""
        description_of(read_graph(model))
        return compile_model(model, self.config, timeout_seconds, keep=out)

    def _result(self, variant: str, graph: Graph, report: VelaReport, hop_seconds: float) -> ProfileResult:
        operators = operator_costs(graph, report)
        left = [operator for operator in operators if operator.placement == CPU]
        flags = (LOWER_BOUND,) if left else ()
        nothing = "no operator is placed on the NPU" if len(left) == len(operators) else None

        def estimated(metric: str, value: float, unit: str) -> Measurement:
            return Measurement(
                metric,
                None if nothing else value,
                unit,
                provenance=Provenance.ESTIMATED,
                target=self.name,
                reason=nothing,
                flags=flags,
            )

        coverage = 1 - len(left) / len(operators)
        placed = Measurement(
            "npu_coverage", coverage, "1", len(operators), provenance=Provenance.ESTIMATED, target=self.name
        )
        measurements = (
            estimated("graph_cycles_per_frame", report.cycles, "cycles"),
            estimated("graph_rtf", report.cycles / report.clock_hz / hop_seconds, "1"),
            self._memory("arena_bytes", estimated("arena_bytes", report.sram_bytes, "bytes")),
            self._memory("flash_bytes", estimated("flash_bytes", report.other_bytes, "bytes")),
            placed,
        )
        fallbacks = _explained(left, report.fallbacks)
        return ProfileResult(
            variant, measurements, None, self._environment(report, fallbacks), asdict(report), operators
        )

    def _memory(self, metric: str, found: Measurement) -> Measurement:
        """Only in this mode does SRAM hold the tensors and nothing else, and the rest only the constants."""
        mode = self.config.memory_mode
        if mode == TOLD_APART:
            return found
        reason = f"vela does not tell tensors from constants in memory mode {mode}, only in {TOLD_APART}"
        return Measurement(metric, None, "bytes", target=self.name, reason=reason)

    def _environment(self, report: VelaReport, fallbacks: Mapping[str, str]) -> dict[str, Any]:
        return {
            "engine": f"vela {vela_version()}",
            "accelerator": self.config.accelerator,
            "systems": self.config.systems,
            "system": self.config.system,
            "memory_mode": self.config.memory_mode,
            "narrow_strides": self.config.narrow_strides,
            "clock_mhz": report.clock_hz / 1e6,
            "not_counted": ["frontend", *(["operators on the CPU"] if fallbacks else [])],
            "on_the_cpu": dict(fallbacks),
        }


def _explained(left: list[OperatorCost], fallbacks: tuple[Fallback, ...]) -> dict[str, str]:
    """Operator and tensor of everything left to the CPU -> why."""
    return {
        f"{operator.name} {operator.location}": next(
            # Vela names the tensor before the operator's fused activation.
            (found.reason for found in fallbacks if found.tensor.removesuffix("_act") == operator.location),
            "vela gives no reason",
        )
        for operator in left
    }
