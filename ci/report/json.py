"""The result as JSON, schema `earshot.result/1` (ci/schema/result.schema.json)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from earshot.ci.explanation import Explanation
from earshot.ci.run_file import Run
from earshot.ci.verdict import Verdict, passed

SCHEMA = "earshot.result/1"


def render(run: Run, verdicts: Sequence[Verdict], explanation: Explanation | None = None) -> str:
    """Outcome, rows and their measurements, failed targets, verdicts, and why budgets were missed.

    ASCII: any terminal and log keeps it whole.
    """
    result: dict[str, Any] = {
        "schema": SCHEMA,
        "run": run.name,
        "status": run.status,
        "error": run.error,
        "passed": passed(verdicts),
        "rows": [
            {"row": row.row, "stage": row.stage, "measurements": [m.to_dict() for m in row.measurements]}
            for row in run.rows
        ],
        "failures": [failure.model_dump(mode="json") for failure in run.failures],
        "left_out": [one.model_dump(mode="json") for one in run.left_out],
        "verdicts": [verdict.to_dict() for verdict in verdicts],
    }
    if explanation is not None and not explanation.empty:
        result["explanation"] = explanation.to_dict()
    return json.dumps(result, indent=2, allow_nan=False) + "\n"
