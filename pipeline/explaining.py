"""Why a run missed its budgets, from what its store still holds. Cheap: it reads files and runs nothing."""

from __future__ import annotations

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
        gone=frozenset(gone),
    )
    return explain(known, verdicts)
