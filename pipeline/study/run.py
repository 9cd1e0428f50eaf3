"""A study from its file to its result."""

from __future__ import annotations

from pathlib import Path

from earshot.core.files import write_atomic, write_json
from earshot.pipeline.progress import Progress
from earshot.pipeline.store import Store
from earshot.pipeline.study import report
from earshot.pipeline.study.cells import matrix, open_study_data
from earshot.pipeline.study.config import Study
from earshot.pipeline.study.engine import Engine, Outcome, execute
from earshot.pipeline.study.result import Result, collect

SCHEMA = "earshot.study/1"


def run_study(study: Study, store: Store, progress: Progress, engine: Engine) -> tuple[Result, Outcome, Path]:
    """Makes what is missing, compares, and writes the result.

    Args:
        study: what to combine.
        store: artifacts go there, and the result under `studies/`.
        progress: told about all work.
        engine: makes the steps, in this machine's processes or on a cluster.

    Returns:
        The result, what was made for it, and the folder with result.csv, result.md, result.html and study.json.

    Raises:
        EarshotError: the data, a name or the machine is wrong; a cell that fails is part of the result.
    """
    plan = matrix(study, open_study_data(study, store.root / "cache"))
    outcome = execute(study, plan, store, engine, progress)
    result = collect(study, plan, outcome)
    folder = store.root / "studies" / study.name
    content = {
        "schema": SCHEMA,
        "study": study.model_dump(mode="json"),
        "artifacts": {
            f"{step.title} ({step.stage})": step.id for step in plan.steps.values() if step.id in outcome.made
        },
        "failed": [
            {"cell": one.arm.title, "seed": one.seed, "error": one.error.message, "fix": one.error.hint}
            for one in result.failed
        ],
    }
    write_json(folder / "study.json", content)
    write_atomic(folder / "result.csv", report.to_csv(result))
    write_atomic(folder / "result.md", report.to_markdown(result))
    write_atomic(folder / "result.html", report.to_html(result))
    return result, outcome, folder
