"""What a run leaves to be compared by: its rows, every clip's scores, and what the times of each target hold for.

A baseline is this as one file that lives in git (`earshot.baseline/1`, ci/schema/baseline.schema.json): it needs no
store, and its digest tells a damaged or hand-edited one.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from earshot.ci.run_file import Plain, Row, read_json
from earshot.core.config import parse
from earshot.core.errors import ArtifactError, ConfigError
from earshot.core.files import digest_json

SCHEMA = "earshot.baseline/1"
_HINT = "write it again with: earshot baseline RUN FILE"


class Scores(Plain):
    """One row's scores on the evaluation set, in columns.

    Attributes:
        dataset: digest of the set.
        protocol: metric -> how it was computed, with library versions.
        clips: ids, in the set's order.
        groups: the part of the set that each clip belongs to.
        values: metric -> one value a clip, None where it could not be scored.
    """

    dataset: str
    protocol: dict[str, str]
    clips: tuple[str, ...]
    groups: tuple[str, ...]
    values: dict[str, tuple[float | None, ...]]

    @model_validator(mode="after")
    def _columns_agree(self) -> Scores:
        if {len(self.clips)} != {len(column) for column in (self.groups, *self.values.values(), self.clips)}:
            raise ValueError("columns of different length")
        if len(set(self.clips)) != len(self.clips):
            raise ValueError("a clip occurs more than once")
        return self

    def column(self, metric: str, group: str = "") -> dict[str, float]:
        """Clip -> value of a metric, of one group or of all; clips that could not be scored are left out."""
        columns = zip(self.clips, self.groups, self.values.get(metric, ()), strict=False)
        return {clip: value for clip, part, value in columns if value is not None and group in ("", part)}


class Timing(Plain):
    """What the numbers of one row on one target hold for.

    Attributes:
        target, row: which.
        kind: class of device.
        machine: digest that tells machines apart, empty where none was kept.
        environment: engine, versions, processor, threads.
        repeats: metric -> value, of each repeat; empty where no clock was read or none were kept.
    """

    target: str
    row: str
    kind: str = ""
    machine: str = ""
    environment: dict[str, Any] = Field(default_factory=dict)
    repeats: tuple[dict[str, float], ...] = ()


class Evidence(Plain):
    """One side of a comparison.

    Attributes:
        name: what people call it: a run, or a baseline's file.
        run: the run it is of.
        rows: with all measurements.
        scores: row -> scores.
        timings: of every target and row.
    """

    name: str = ""
    run: str
    rows: tuple[Row, ...]
    scores: dict[str, Scores] = Field(default_factory=dict)
    timings: tuple[Timing, ...] = ()

    def row(self, name: str) -> Row | None:
        """A row by name."""
        return next((row for row in self.rows if row.row == name), None)

    def timing(self, target: str, row: str) -> Timing | None:
        """What a target's numbers in a row hold for."""
        return next((one for one in self.timings if (one.target, one.row) == (target, row)), None)


def baseline_text(evidence: Evidence) -> str:
    """A baseline file's content: one number a line, so that git shows what changed."""
    body = _body(evidence)
    content = {"schema": SCHEMA, "digest": digest_json(body), **body}
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def read_baseline(path: Path) -> Evidence:
    """Reads a baseline file.

    Raises:
        ArtifactError: missing, too large, of another schema, damaged, or edited by hand.
    """
    return parse_baseline(read_json(path, "baseline", _HINT), path)


def parse_baseline(value: Any, path: Path) -> Evidence:
    """Turns a baseline file's JSON data into evidence. Raises ArtifactError as `read_baseline`."""
    schema = value.get("schema") if isinstance(value, dict) else None
    if schema != SCHEMA:
        raise ArtifactError(f"{path}: schema is {str(schema)[:80]!r}, expected '{SCHEMA}'", _HINT)
    body = {key: item for key, item in value.items() if key not in ("schema", "digest")}
    try:
        digest = digest_json(body)
    except (ValueError, RecursionError):  # numbers beyond a float's, characters that no file holds
        digest = None
    if digest is None or value.get("digest") != digest:
        raise ArtifactError(f"{path}: damaged or edited: its content does not match its digest", _HINT)
    try:
        return parse(Evidence, {**body, "name": str(path)}, str(path))
    except ConfigError as error:
        raise ArtifactError(error.message[:500], _HINT) from error


def _body(evidence: Evidence) -> dict[str, Any]:
    rows = [
        {
            "row": row.row,
            "stage": row.stage,
            "artifact": row.artifact,
            "measurements": [found.to_dict() for found in row.measurements],
        }
        for row in evidence.rows
    ]
    return {"run": evidence.run, "rows": rows, **evidence.model_dump(mode="json", include={"scores", "timings"})}
