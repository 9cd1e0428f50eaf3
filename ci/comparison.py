"""What several models cost on several targets (`earshot.profile/1`): the data behind the cross-device table and page.

{"schema": "earshot.profile/1", "title": …,
 "devices": [{"target": "cortex-m4", "kind": "microcontroller", "title": …, "error": null, "fix": null,
              "left_out": {MODEL: reason},
              "results": [{"model": MODEL, "measurements": [Measurement…], "operators": [Operator…],
                           "histogram": {"edges_us": […], "counts": […]} | null, "environment": {…}}]}],
 "quality": {MODEL: [Measurement…]}}
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from earshot.ci.run_file import Plain, ReadMeasurement, Run
from earshot.core.config import parse
from earshot.core.errors import ArtifactError, ConfigError
from earshot.core.measurement import Measurement

SCHEMA = "earshot.profile/1"


class Histogram(Plain):
    """`counts[i]` frames took from `edges_us[i]` to `edges_us[i + 1]` microseconds."""

    edges_us: tuple[float, ...]
    counts: tuple[int, ...]


class Operator(Plain):
    """What one operator of the graph costs in one frame, in `unit`; `location` names its first output tensor."""

    index: int
    name: str
    location: str = ""
    value: float
    unit: str
    placement: str = ""


class ModelResult(Plain):
    """One model on one target."""

    model: str
    measurements: tuple[ReadMeasurement, ...] = ()
    operators: tuple[Operator, ...] = ()
    histogram: Histogram | None = None
    environment: dict[str, Any] = Field(default_factory=dict)

    def find(self, *metrics: str) -> Measurement | None:
        """The first of these metrics that was measured here."""
        by_name = {found.metric: found for found in self.measurements if found.value is not None}
        return next((by_name[metric] for metric in metrics if metric in by_name), None)


class Device(Plain):
    """One target: its results, the models it could not run, or why it failed and what mends that."""

    target: str
    kind: str = ""
    title: str = ""
    results: tuple[ModelResult, ...] = ()
    left_out: dict[str, str] = Field(default_factory=dict)
    error: str | None = None
    fix: str | None = None


class Comparison(Plain):
    """Models on targets, with the models' quality where it is known."""

    title: str = ""
    devices: tuple[Device, ...] = ()
    quality: dict[str, tuple[ReadMeasurement, ...]] = Field(default_factory=dict)

    @property
    def models(self) -> list[str]:
        """Every model that a target ran or left out, in the order of first use."""
        named = [name for device in self.devices for name in (*(r.model for r in device.results), *device.left_out)]
        return list(dict.fromkeys(named))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data, schema included."""
        plain = self.model_dump(mode="json", exclude={"devices", "quality"})
        devices = [
            device.model_dump(mode="json", exclude={"results"})
            | {"results": [_plain_result(result) for result in device.results]}
            for device in self.devices
        ]
        quality = {model: [found.to_dict() for found in scored] for model, scored in self.quality.items()}
        return {"schema": SCHEMA, **plain, "devices": devices, "quality": quality}


def parse_comparison(value: Any, source: str) -> Comparison:
    """Turns JSON data into a comparison. Raises ArtifactError that names `source` and the damaged place."""
    if not isinstance(value, dict) or value.get("schema") != SCHEMA:
        raise ArtifactError(f"{source}: not a profile", "write one with: earshot profile MODEL --json")
    try:
        return parse(Comparison, {key: item for key, item in value.items() if key != "schema"}, source)
    except ConfigError as error:
        raise ArtifactError(error.message, "profile again with: earshot profile MODEL --json") from error


def compare_run(run: Run) -> Comparison:
    """A run's targets, its rows as the models. The run file has no operators and no histograms."""
    names = [found.target for row in run.rows for found in row.measurements if found.target]
    failures = {failure.target: failure for failure in run.failures}
    devices = []
    for target in dict.fromkeys((*names, *(one.target for one in run.left_out), *failures)):
        by_row = {row.row: tuple(found for found in row.measurements if found.target == target) for row in run.rows}
        failed = failures.get(target)
        devices.append(
            Device(
                target=target,
                results=tuple(ModelResult(model=row, measurements=found) for row, found in by_row.items() if found),
                left_out={one.row: one.reason for one in run.left_out if one.target == target},
                error=failed.error if failed else None,
                fix=failed.fix if failed else None,
            )
        )
    quality = {row.row: tuple(found for found in row.measurements if found.target is None) for row in run.rows}
    return Comparison(title=run.name, devices=tuple(devices), quality=quality)


def _plain_result(result: ModelResult) -> dict[str, Any]:
    plain = result.model_dump(mode="json", exclude={"measurements"})
    return plain | {"measurements": [found.to_dict() for found in result.measurements]}
