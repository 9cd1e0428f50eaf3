"""From a run and the store it lies in to what it can be compared by (`ci/evidence.py`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from earshot.ci.budget_set import BudgetSet
from earshot.ci.evidence import SCHEMA, Evidence, Scores, Timing, parse_baseline
from earshot.ci.run_file import Run, parse_run, read_json, read_run
from earshot.core.errors import ArtifactError, EarshotError
from earshot.pipeline.metrics.results import Evaluation
from earshot.pipeline.runs import find_run, tags
from earshot.pipeline.store import Artifact, Store
from earshot.targets.registry import find_profile

TAG = "baseline"
_SCORES, _PROFILE = "scores.json", "profile.json"  # named in stages/quality.py and stages/profile.py


def find_evidence(store: Store, reference: str) -> tuple[Evidence, Run | None]:
    """One side of a comparison as a person names it: a run, a tag, `latest`, a run file, or a baseline file.

    Returns:
        What it is compared by, and the run; None for a baseline file, which holds no recipe.

    Raises:
        ArtifactError: there is none, or it is damaged or of another schema.
    """
    if reference.endswith(".json"):
        path = Path(reference)
        value = read_json(path, "run or baseline", "write one with: earshot baseline RUN FILE")
        if isinstance(value, dict) and str(value.get("schema")).startswith(SCHEMA.partition("/")[0]):
            return parse_baseline(value, path), None
        run = parse_run(value, str(path))
    else:
        run = read_run(find_run(store, reference))
    return gather(run, store), run


def find_baseline(store: Store, budgets: BudgetSet, named: str | None) -> Evidence | None:
    """What budgets against a baseline compare with: as named, else as the budgets name it, else the tag `baseline`.

    Returns:
        None where no budget needs one.

    Raises:
        ArtifactError: one is needed and there is none, or it is damaged, of another schema, or of a failed run.
    """
    if not budgets.against_baseline:
        return None
    reference = named or budgets.baseline or TAG
    if reference == TAG and TAG not in tags(store):
        needing = budgets.against_baseline[0].title
        raise ArtifactError(
            f"{store.root}: no run is tagged '{TAG}', and budget '{needing}' compares with one",
            f"tag one: earshot tag RUN {TAG}, or name one: --baseline FILE; the first run of all: --no-baseline",
        )
    return as_baseline(*find_evidence(store, reference))


def as_baseline(evidence: Evidence, run: Run | None) -> Evidence:
    """The evidence, of a run that completed. Raises ArtifactError for one that failed half-way."""
    if run is not None and run.status != "complete":
        raise ArtifactError(
            f"{run.name}: the run failed ({run.error or 'no reason was recorded'}), it cannot be a baseline",
            "choose a run that completed: earshot artifacts list",
        )
    return evidence


def gather(run: Run, store: Store) -> Evidence:
    """A run's rows with scores and environments, as far as their artifacts are still in the store."""
    scores, timings = {}, []
    for row in run.rows:
        scored = _artifact(run, store, f"quality of {row.row}")
        if scored and (found := scores_of(scored)) is not None:
            scores[row.row] = found
    for target in dict.fromkeys(found.target for row in run.rows for found in row.measurements if found.target):
        profiled = _artifact(run, store, f"profile on {target}")
        if profiled is not None:
            timings += timings_of(target, profiled)
    return Evidence(name=run.name, run=run.name, rows=run.rows, scores=scores, timings=tuple(timings))


def scores_of(artifact: Artifact) -> Scores | None:
    """What a quality artifact holds, in columns; None where the row could not be scored."""
    content = _read(artifact, _SCORES)
    if "unavailable" in content:
        return None
    found = Evaluation.from_dict(content)
    return Scores(
        dataset=found.dataset,
        protocol=dict(found.protocol),
        clips=tuple(clip.id for clip in found.clips),
        groups=tuple(clip.group for clip in found.clips),
        values={metric: tuple(clip.values.get(metric) for clip in found.clips) for metric in found.units},
    )


def timings_of(target: str, artifact: Artifact) -> list[Timing]:
    """What a profile's numbers hold for, of every row."""
    try:
        profile = find_profile(target)
    except EarshotError:  # a device that this machine does not know, or does no longer
        profile = None
    machine = artifact.manifest.inputs.get("machine", "")
    return [
        Timing(
            target=target,
            row=row,
            kind=profile.kind if profile else "",
            machine=machine,
            environment=result.get("environment", {}),
            repeats=tuple(result.get("repeats", ())),
        )
        for row, result in _read(artifact, _PROFILE).get("results", {}).items()
    ]


def _artifact(run: Run, store: Store, title: str) -> Artifact | None:
    identity = run.artifacts.get(title)
    return store.find(identity) if identity else None


def _read(artifact: Artifact, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(artifact.file(name).read_text(encoding="utf-8"))
    return found
