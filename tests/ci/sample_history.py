"""Entries of a history made by hand: one row that ships, scores of its clips, a time on a host."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
from referencing import Registry, Resource
from sample_runs import BOARD, HOST, INT8

from earshot.ci.evidence import Evidence, Scores, Timing
from earshot.ci.history import Entry
from earshot.ci.run_file import Row, Run
from earshot.core.measurement import Measurement, Provenance

SCHEMAS = Path(__file__).parents[2] / "ci" / "schema"


def entry(
    name: str,
    pesq: Sequence[float | None] = (2.0, 3.0),
    *,
    day: int = 1,
    rtf: float = 0.01,
    size: float = 1000.0,
    instructions: float | None = 5000.0,
    dataset: str = "one",
    protocol: str = "pesq 0.0.4",
    host: dict[str, Any] = HOST,
    provenance: Provenance = Provenance.MEASURED,
    flags: tuple[str, ...] = (),
    row: str = INT8,
    tags: tuple[str, ...] = (),
    **run: Any,
) -> Entry:
    """One run; its clips are called clip0, clip1, … and belong to `even` and `odd` in turn."""
    known = [value for value in pesq if value is not None]
    even = [value for value in pesq[::2] if value is not None]
    found = [
        Measurement("pesq_wb", sum(known) / len(known) if known else None, "MOS", len(known), reason="too quiet"),
        Measurement("pesq_wb[even]", sum(even) / len(even) if even else None, "MOS", len(even)),
        Measurement("model_bytes", size, "bytes"),
        Measurement("rtf", rtf, "1", 5, provenance, "host", flags=flags),
    ]
    if instructions is not None:
        found.append(Measurement("instructions_per_frame", instructions, "instructions", 9, Provenance.EMULATED, "m4"))
    rows = (Row(row=row, measurements=tuple(found)),)
    scores = Scores(
        dataset=dataset,
        protocol={"pesq_wb": protocol},
        clips=tuple(f"clip{number}" for number in range(len(pesq))),
        groups=tuple(("even", "odd")[number % 2] for number in range(len(pesq))),
        values={"pesq_wb": tuple(pesq)},
    )
    timings = (
        Timing(target="host", row=row, kind="host", machine="m", environment=host),
        Timing(target="m4", row=row, kind="microcontroller", environment=BOARD),
    )
    made = datetime(2026, 1, day, 12, tzinfo=UTC)
    evidence = Evidence(name=name, run=name, rows=rows, scores={row: scores}, timings=timings)
    return Entry(name, tags, made, Run(**{"name": name, "status": "complete", "rows": rows, **run}), evidence)


def candidate(name: str, quality: float, cost: float, size: float, **more: Any) -> Entry:
    """A run at a place of the leaderboard."""
    return entry(name, (quality, quality), rtf=cost, size=size, **more)


KNOWN = [
    candidate("best", 3.0, 0.02, 500),
    candidate("fast", 2.0, 0.01, 500),
    candidate("small", 2.0, 0.02, 100),
    candidate("beaten", 2.5, 0.03, 600),  # by best
    candidate("slower", 2.0, 0.011, 500),  # by fast
    candidate("twin of small", 2.0, 0.02, 100),  # equal: neither beats the other
    candidate("beaten twice", 1.9, 0.02, 600),  # by best, fast, small and its twin, slower and beaten not named
]
# Reason -> a run that would be the best of all, and is not ranked.
NEVER = {
    "the run failed: convert died": candidate("x", 5.0, 0.001, 1, status="failed", error="convert died"),
    "rtf came from a stand-in for a device": candidate("x", 5.0, 0.001, 1, provenance=Provenance.TEST_DOUBLE),
    "rtf is marked throttled": candidate("x", 5.0, 0.001, 1, flags=("throttled",)),
    "pesq_wb could not be measured: too quiet": entry("x", (None, None), rtf=0.001, size=1),
    "runs/x.json: damaged": Entry("x", problem="runs/x.json: damaged"),
    "keeps no scores per clip": replace(
        KNOWN[0], name="x", evidence=KNOWN[0].evidence.model_copy(update={"scores": {}})
    ),
    "does not say what its numbers": replace(
        KNOWN[0], name="x", evidence=KNOWN[0].evidence.model_copy(update={"timings": ()})
    ),
}


def schema(name: str) -> jsonschema.Draft202012Validator:
    """A published schema, which may refer to the others."""
    found = {path.name: json.loads(path.read_text()) for path in SCHEMAS.glob("*.json")}
    registry = Registry().with_resources((one["$id"], Resource.from_contents(one)) for one in found.values())
    jsonschema.Draft202012Validator.check_schema(found[name])
    return jsonschema.Draft202012Validator(found[name], registry=registry)
