"""profile: what every file of the run costs on a target, one artifact a target."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from earshot.core.files import digest_json, write_json
from earshot.core.measurement import Measurement
from earshot.models.registry import own_code
from earshot.pipeline.profiling import profile_on
from earshot.pipeline.progress import Progress
from earshot.pipeline.stages.step import Inputs, Step
from earshot.pipeline.store import Artifact
from earshot.targets.base import Identified, ProfileConfig, Target
from earshot.targets.registry import find_profile, open_target

VERSION = 2
RESULTS = "profile.json"
DECIDING = ("driver", "cpu", "clock_mhz", "ram_bytes", "flash_bytes", "options")


@dataclass(frozen=True)
class ProfileStep:
    """Profiling on one target.

    Attributes:
        target: its name.
        exclusive: it must run alone (`Target.exclusive`).
        step: makes its artifact.
    """

    target: str
    exclusive: bool
    step: Step


def profile(name: str, settings: ProfileConfig, *, models: Mapping[str, tuple[Step, str]]) -> ProfileStep:
    """A profiling step on one target.

    Args:
        name: of the device.
        settings: frames, repeats, pinning.
        models: row -> the step that makes its .tflite, and the file's name.

    Raises:
        UsageError, ConfigError: no such target, or its options are wrong.
    """
    target = open_target(name)

    def produce(inputs: Inputs, out: Path, work: Path, progress: Progress) -> list[Measurement]:
        paths = {
            row: inputs[row].path / file for row, (_, file) in models.items() if file in inputs[row].manifest.files
        }
        done = profile_on(target, paths, settings, progress)
        results = {
            result.variant: {
                "measurements": [found.to_dict() for found in result.measurements],
                "histogram": asdict(result.histogram) if result.histogram else None,
                "operators": [asdict(operator) for operator in result.operators],
                "environment": dict(result.environment),
                "repeats": [dict(one) for one in result.raw.get("by_repeat", ())],
            }
            for result in done.results
        }
        write_json(out / RESULTS, {"results": results, "left_out": dict(done.left_out)})
        return []

    config = {
        "target": name,
        "settings": settings.model_dump(mode="json", include=set(ProfileConfig.model_fields)),
        "files": {row: file for row, (_, file) in models.items()},
    }
    steps = {row: step for row, (step, _) in models.items()}
    outside = {"device": _device(name, target), **own_code(name)}
    if target.exclusive:
        outside["machine"] = _machine()
    return ProfileStep(
        name, target.exclusive, Step(f"profile on {name}", "profile", VERSION, config, steps, outside, 0, produce)
    )


def read_profile(artifact: Artifact) -> dict[str, Any]:
    """What a profile artifact holds: `results` by row and `left_out`, row -> reason."""
    found: dict[str, Any] = json.loads(artifact.file(RESULTS).read_text(encoding="utf-8"))
    return found


def _device(name: str, target: Target) -> str:
    """Numbers belong to a device as its profile has it, and to the tools that made them."""
    profile = find_profile(name)
    known = profile.model_dump(mode="json", include=set(DECIDING)) if profile else {}
    return digest_json([known, dict(target.identity()) if isinstance(target, Identified) else {}])


def _machine() -> str:
    """Latency belongs to a machine: a store that moves to another one is measured again."""
    cpu = ""
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line for line in info.read_text(errors="replace").splitlines() if line.startswith("model name")]
        cpu = names[0] if names else ""
    return digest_json([platform.node(), platform.machine(), cpu])
