"""profile: how long every file of the run takes on each target, their repeats alternating."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from earshot.core.errors import DeviceError
from earshot.core.files import digest_json, write_json
from earshot.core.measurement import Measurement
from earshot.pipeline.progress import Progress
from earshot.pipeline.stages.step import Inputs, Step
from earshot.targets.base import ProfileConfig
from earshot.targets.registry import open_target

VERSION = 1
RESULTS = "profile.json"


def profile(target: str, settings: ProfileConfig, *, models: Mapping[str, tuple[Step, str]]) -> Step:
    """A profiling step on one target.

    Args:
        target: name of the device.
        settings: frames, repeats, pinning.
        models: row -> the step that makes its .tflite, and the file's name.
    """

    def produce(inputs: Inputs, out: Path, work: Path, progress: Progress) -> list[Measurement]:
        device = open_target(target)
        available = device.availability()
        if not available.ok:
            raise DeviceError(f"target {target}: {available.reason}", available.enable)
        paths = {
            row: inputs[row].path / name for row, (_, name) in models.items() if (inputs[row].path / name).exists()
        }
        results = device.profile(paths, settings, progress)
        write_json(
            out / RESULTS,
            {
                result.variant: {
                    "measurements": [found.to_dict() for found in result.measurements],
                    "histogram": asdict(result.histogram) if result.histogram else None,
                    "operators": [asdict(operator) for operator in result.operators],
                    "environment": dict(result.environment),
                }
                for result in results
            },
        )
        return []

    config = {
        "target": target,
        "settings": settings.model_dump(mode="json"),
        "files": {row: name for row, (_, name) in models.items()},
    }
    steps = {row: step for row, (step, _) in models.items()}
    return Step(f"profile on {target}", "profile", VERSION, config, steps, {"machine": _machine()}, 0, produce)


def _machine() -> str:
    """Latency belongs to a machine: a store that moves to another one is measured again."""
    cpu = ""
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line for line in info.read_text(errors="replace").splitlines() if line.startswith("model name")]
        cpu = names[0] if names else ""
    return digest_json([platform.node(), platform.machine(), cpu])
