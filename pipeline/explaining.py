"""Why a run missed its budgets, from what its store still holds. Cheap: it reads files and runs nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence

from earshot.ci.evidence import Evidence
from earshot.ci.explain import Known, explain
from earshot.ci.explanation import Explanation
from earshot.ci.run_file import Run
from earshot.ci.verdict import Status, Verdict
from earshot.pipeline.comparing import compare_stored_run
from earshot.pipeline.evidence import gather
from earshot.pipeline.layers import stored_layers
from earshot.pipeline.store import Store

PARITY = "parity.json"  # named in quantize/convert.py, which is not loaded for its name


def explain_run(run: Run, verdicts: Sequence[Verdict], store: Store, baseline: Evidence | None = None) -> Explanation:
    """Why budgets were missed, and what was measured of the layers; empty where there is neither.

    Args:
        run: the run.
        verdicts: what the gate said of it.
        store: where its artifacts lie; what is gone from it is left unexplained, and said so.
        baseline: what budgets against a baseline were compared with.
    """
    layers = stored_layers(run, store)
    if all(verdict.status is Status.PASS for verdict in verdicts):
        return Explanation(run.name, layers=layers)
    gone = {title for title, identity in run.artifacts.items() if not store.holds(identity)}
    known = Known(
        run=run,
        evidence=gather(run, store),
        comparison=compare_stored_run(run, store),
        baseline=baseline,
        layers=layers,
        float_operators=_float_operators(run, store),
        gone=frozenset(gone),
    )
    return explain(known, verdicts)


def _float_operators(run: Run, store: Store) -> dict[str, list[str]]:
    """Row -> operators of its integer file that compute in float, with the reasons that convert wrote down."""
    found: dict[str, list[str]] = {}
    for row in run.rows:
        counted = next(iter(row.find("float_operators")), None)
        artifact = store.find(row.artifact) if counted and counted.value and row.artifact else None
        if artifact is None or PARITY not in artifact.manifest.files:
            continue
        try:
            variants = json.loads(artifact.file(PARITY).read_text(encoding="utf-8")).get("variants", {})
            listed = variants.get(row.row.rpartition(":")[2], {}).get("float_operators", ())
            if isinstance(listed, list):  # of the float file it is the word "all"
                found[row.row] = [f"{one['operator']} ({one['output']}: {one['reason']})" for one in listed]
        except (ValueError, TypeError, KeyError, AttributeError):  # made elsewhere, in another form: nothing is named
            continue
    return found
