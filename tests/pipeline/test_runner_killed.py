"""SIGKILL in the middle of every stage, the store stays whole, and the next run ends with the same result."""

from __future__ import annotations

import random
import time
from pathlib import Path

import psutil
import pytest
from tiny_recipe import earshot, newest_run, start, write_recipe

from earshot.pipeline.store import Artifact, Store

pytestmark = pytest.mark.slow

STAGES = ("quality", "distill", "export", "prune", "quantize", "convert", "profile")
DECISIVE = ("teacher", "distill", "prune", "quantize", "convert:float32", "convert:int8")


def kill_in(stage: str, folder: Path, delay: float) -> bool:
    """Starts a run and kills it `delay` seconds into a stage; False where it left the stage before.

    A stage is under way while its unfinished artifact stands in tmp/.
    """
    process = start(folder, "run", "tiny.yaml", "--quiet")
    unfinished = folder / ".earshot" / "tmp"
    while not list(unfinished.glob(f"{stage}-*")):
        assert process.poll() is None, f"{stage} never ran: {process.communicate()}"
        time.sleep(0.002)
    time.sleep(delay)
    hit = bool(list(unfinished.glob(f"{stage}-*")))
    workers = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.communicate()
    _, orphans = psutil.wait_procs(workers, timeout=30)
    assert not orphans, f"processes of a killed run go on: {orphans}"
    return hit


def whole_artifacts(folder: Path) -> dict[str, Artifact]:
    """Identity -> artifact; every byte of every one is checked."""
    store = Store(folder / ".earshot")
    return {artifact.id: artifact for artifact in map(store.open, store.folders())}


def test_a_run_killed_in_every_stage_goes_on_to_the_same_result(finished, tmp_path: Path) -> None:
    folder, dice, hits = tmp_path / "killed", random.Random(1), 0
    write_recipe(folder)
    (folder / "tiny.yaml").write_text((finished.folder / "tiny.yaml").read_text())
    for stage in STAGES:
        before = whole_artifacts(folder)
        hits += kill_in(stage, folder, dice.choice([0, dice.uniform(0, 0.4)]))
        assert before.keys() <= whole_artifacts(folder).keys(), f"killed in {stage}: an artifact is gone"
        assert not list((folder / ".earshot" / "runs").glob("*")), "a killed run looks finished"
    assert hits >= len(STAGES) - 2, "most kills came too late to mean anything"
    done = earshot(folder, "run", "tiny.yaml", "--quiet")
    assert done.returncode == 0, done.stderr
    content, original = newest_run(folder), newest_run(finished.folder)
    assert content["artifacts"] == original["artifacts"]
    mine, theirs = whole_artifacts(folder), whole_artifacts(finished.folder)
    assert mine.keys() == set(content["artifacts"].values())
    for title in DECISIVE:
        artifact_id = content["artifacts"][title]
        assert mine[artifact_id].manifest.files == theirs[artifact_id].manifest.files, f"{title} came out otherwise"
    assert not [*(folder / ".earshot").glob("tmp/*"), *(folder / ".earshot").glob("work/*")]
