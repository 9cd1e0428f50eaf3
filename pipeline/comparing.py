"""From what targets gave to the comparison that reports are made of (`ci/comparison.py`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from earshot.ci.comparison import Comparison, Device, ModelResult, compare_run
from earshot.ci.run_file import Run
from earshot.pipeline.beside import Done
from earshot.pipeline.profiling import Profiled
from earshot.pipeline.stages.profile import read_profile
from earshot.pipeline.store import Store
from earshot.targets.base import ProfileResult
from earshot.targets.registry import find_profile


def compare_outcomes(outcomes: Sequence[Done[Profiled]], title: str) -> Comparison:
    """Targets as they were profiled, failed ones with their error, in the order given."""
    return Comparison(title=title, devices=tuple(_device(outcome) for outcome in outcomes))


def compare_stored_run(run: Run, store: Store) -> Comparison:
    """A run's targets with operators, histograms and environments, as far as its profiles are still in the store."""
    found = compare_run(run)
    return found.model_copy(update={"devices": tuple(_filled(device, run, store) for device in found.devices)})


def _device(outcome: Done[Profiled]) -> Device:
    profile, done, error = find_profile(outcome.name), outcome.value, outcome.error
    return Device(
        target=outcome.name,
        kind=profile.kind if profile else "",
        title=profile.title if profile else "",
        results=tuple(_result(result) for result in done.results) if done else (),
        left_out=dict(done.left_out) if done else {},
        error=error.message if error else None,
        fix=error.hint if error else None,
    )


def _result(result: ProfileResult) -> ModelResult:
    return ModelResult.model_validate(
        {
            "model": result.variant,
            "measurements": result.measurements,
            "operators": [asdict(operator) for operator in result.operators],
            "histogram": asdict(result.histogram) if result.histogram else None,
            "environment": dict(result.environment),
        }
    )


def _filled(device: Device, run: Run, store: Store) -> Device:
    artifact_id = run.artifacts.get(f"profile on {device.target}")
    artifact = store.find(artifact_id) if artifact_id else None
    if artifact is None:
        return device
    kept: dict[str, Any] = read_profile(artifact).get("results", {})  # another version's profile tells no details
    return device.model_copy(
        update={"results": tuple(_detailed(result, kept.get(result.model, {})) for result in device.results)}
    )


def _detailed(result: ModelResult, kept: dict[str, Any]) -> ModelResult:
    details = {key: kept[key] for key in ("operators", "histogram", "environment") if key in kept}
    return ModelResult.model_validate({"model": result.model, "measurements": result.measurements, **details})
