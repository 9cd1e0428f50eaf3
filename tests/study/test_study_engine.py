"""A whole study in worker processes: killed half-way, resumed, with cells that fail, and used again."""

from __future__ import annotations

import csv
import time
from pathlib import Path

import psutil
import pytest
from tiny_recipe import SIZES, earshot, start
from tiny_study import write_study

from earshot.pipeline.store import Store
from earshot.pipeline.upkeep import removable

pytestmark = pytest.mark.slow

DIES = """
import os, signal
from earshot.pipeline.distillation.output import OutputMatching

class Dies(OutputMatching):
    def __init__(self, *arguments, **named):
        os.kill(os.getpid(), signal.SIGKILL)
"""


def artifacts(folder: Path) -> dict[str, int]:
    """Folder -> when it was written, of every whole artifact."""
    store = Store(folder / ".earshot")
    return {store.open(path).path.name: (path / "manifest.json").stat().st_mtime_ns for path in store.folders()}


def test_a_study_is_resumed_after_a_kill_keeps_what_is_finished_and_tells_what_failed(tmp_path: Path) -> None:
    (tmp_path / "users_dies.py").write_text(DIES)
    write_study(
        tmp_path,
        students={"narrow": {"params": SIZES}, "broken": {"params": SIZES | {"strides": [8, 8]}}},
        methods={"latent": {"method": "latent_cosine"}, "dies": {"method": "users_dies:Dies"}},
    )
    command = ("study", "study.yaml", "--quiet", "--workers", "2")

    process = start(tmp_path, *command)
    while len(artifacts(tmp_path)) < 5:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    workers = psutil.Process(process.pid).children(recursive=True)
    assert len(workers) >= 2
    process.kill()
    process.communicate()
    _, orphans = psutil.wait_procs(workers, timeout=30)
    assert not orphans, f"processes of a killed study go on: {orphans}"
    before = artifacts(tmp_path)
    assert not (tmp_path / ".earshot" / "studies").exists(), "a killed study looks finished"

    done = earshot(tmp_path, *command)
    assert done.returncode == 3, done.stderr  # a worker that died is the machine's failure
    after = artifacts(tmp_path)
    assert before.items() <= after.items(), "something that was finished was made again"
    made = 1 + 3 * (1 + 2 * 2)  # noisy; teacher, student alone and taught with two seeds
    # Students of the dying method and the broken ones leave nothing.
    assert len(after) == made
    assert f"{made - len(before)} steps made, {len(before)} used again" in done.stderr
    result = tmp_path / ".earshot" / "studies" / "tiny"
    rows = {(row["student"], row["method"]): row for row in csv.DictReader((result / "result.csv").open())}
    assert -30 < float(rows["narrow", "latent"]["mean"]) < 30
    assert rows["narrow", "latent"]["paired_seeds"] == "2"
    for failed in (("narrow", "dies"), ("broken", "none"), ("broken", "latent")):
        assert rows[failed]["mean"] == "", failed
    text = (result / "result.md").read_text()
    assert text.count("the worker process died") == 2
    assert text.count("strides must be even") == 6 - 2 + 2
    assert not list((tmp_path / ".earshot" / "tmp").glob("*"))
    assert not removable(Store(tmp_path / ".earshot")), "what a study stands on may not be collected"
    (result / "study.json").rename(result / "elsewhere.json")
    assert len(removable(Store(tmp_path / ".earshot"))) == made
    (result / "elsewhere.json").rename(result / "study.json")

    write_study(tmp_path, methods={"latent": {"method": "latent_cosine"}})
    again = earshot(tmp_path, *command)
    assert again.returncode == 0, again.stderr
    assert f"0 steps made, {made} used again" in again.stderr
    assert artifacts(tmp_path) == after
    assert again.stderr.splitlines()[-1] == "modules:", "nothing was made, yet torch was loaded"
