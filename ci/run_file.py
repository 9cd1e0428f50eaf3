"""Typed reader of run files (`earshot.run/1`); all that the gate and the reports know of a run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from earshot.ci.verdict import Verdict
from earshot.core.config import Config, parse
from earshot.core.errors import ArtifactError, ConfigError
from earshot.core.measurement import Measurement

SCHEMA = "earshot.run/1"
LARGEST_BYTES = 64 * 2**20  # a run holds a few kilobytes; what is larger is no run file
LONGEST_MESSAGE = 500
SHIPPING_ORDER = ("convert:int8", "convert:int16x8", "convert:float32")
NOT_SHIPPED = ("noisy", "teacher")
_HINT = "give a run that earshot wrote (earshot.run/1), or make one with: earshot run"


def _fill_value(value: Any) -> Any:
    """`Measurement.to_dict` leaves out a value that could not be measured."""
    return {"value": None, **value} if isinstance(value, dict) else value


ReadMeasurement = Annotated[Measurement, BeforeValidator(_fill_value)]


class Plain(Config):
    """Data of a file that earshot wrote. Later minor versions may add keys: unknown ones are ignored."""

    model_config = ConfigDict(extra="ignore")


class Row(Plain):
    """One line of a run: a stage's artifact, or one variant of it, with what was measured on it."""

    row: str = Field(min_length=1)
    stage: str = ""
    artifact: str | None = None
    cached: bool = False
    seconds: float | None = None
    measurements: tuple[ReadMeasurement, ...] = ()

    def find(self, metric: str, target: str | None = None) -> list[Measurement]:
        """Measurements of a metric, on one target or on all."""
        return [m for m in self.measurements if m.metric == metric and target in (None, m.target)]


class Failure(Plain):
    """A target that failed or could not be used: why, and the command that mends it."""

    target: str
    error: str
    fix: str | None = None


class LeftOut(Plain):
    """A row's file that a target could not run, and why."""

    target: str
    row: str
    reason: str


class Run(Plain):
    """A finished run, complete or failed half-way.

    `artifacts` holds the identity of everything it made or used; `failures` the targets that gave nothing, which leaves
    a run complete; `left_out` the files that a target could not run.
    """

    name: str
    recipe: dict[str, Any] = Field(default_factory=dict)
    status: Literal["complete", "failed"]
    error: str | None = None
    rows: tuple[Row, ...] = ()
    failures: tuple[Failure, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    artifacts: dict[str, str] = Field(default_factory=dict)

    @property
    def identities(self) -> set[str]:
        """Identities of the artifacts it made or used; their ancestors may be more."""
        return {*self.artifacts.values(), *(row.artifact for row in self.rows if row.artifact)}

    def why_absent(self, target: str, row: str) -> str | None:
        """Why a target has no numbers in a row, None when nothing was recorded."""
        for failure in self.failures:
            if failure.target == target:
                return f"target {target} failed: {failure.error}"
        return next((one.reason for one in self.left_out if (one.target, one.row) == (target, row)), None)

    @model_validator(mode="after")
    def _rows_differ(self) -> Run:
        names = [row.row for row in self.rows]
        doubled = {name for name in names if names.count(name) > 1}
        if doubled:
            raise ValueError(f"row '{min(doubled)}' occurs more than once")
        return self


def shipped_row(rows: Sequence[Row]) -> Row | None:
    """The row that ships: int8 before int16x8 before float32, else the last stage's; never `noisy` or `teacher`."""
    by_name = {row.row: row for row in rows}
    for name in SHIPPING_ORDER:
        if name in by_name:
            return by_name[name]
    return next((row for row in reversed(rows) if row.row not in NOT_SHIPPED), None)


def read_run(path: Path) -> Run:
    """Reads a run file.

    Raises:
        ArtifactError: missing, too large, damaged, or not a run file.
    """
    value = read_json(path, "run", _HINT)
    return parse_run(value, str(path))


def read_json(path: Path, kind: str, hint: str) -> Any:
    """The JSON data of a file that earshot wrote.

    Raises:
        ArtifactError: missing, too large, or no JSON; calls the file a `kind` and gives the hint.
    """
    try:
        size = path.stat().st_size
        if size > LARGEST_BYTES:
            raise ArtifactError(f"{path}: {size} bytes, too large for a {kind} file", hint)
        return json.loads(path.read_bytes(), parse_constant=_refuse_constant)
    except FileNotFoundError as error:
        missing = "make one with: earshot run" if kind == "run" else hint
        raise ArtifactError(f"{path}: no such {kind}", missing) from error
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read ({error.strerror})", "check the path") from error
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{path}: not a {kind} file, or a damaged one ({_short(error)})", hint) from error


def parse_run(value: Any, source: str) -> Run:
    """Turns JSON data into a run. Raises ArtifactError that names `source` and the damaged place."""
    schema = value.get("schema") if isinstance(value, dict) else None
    if schema != SCHEMA:
        raise ArtifactError(f"{source}: schema is {_short(repr(schema))}, expected '{SCHEMA}'", _HINT)
    try:
        return parse(Run, {key: item for key, item in value.items() if key != "schema"}, source)
    except ConfigError as error:
        raise ArtifactError(_short(error.message), _HINT) from error


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is not JSON")


def _short(text: object) -> str:
    """Messages quote what was found; a damaged file must not fill the screen."""
    line = str(text)
    return line if len(line) <= LONGEST_MESSAGE else line[:LONGEST_MESSAGE] + " …"
