"""A cell whose loss becomes NaN is told with its error, the others are finished, and it alone is tried again."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from test_study_engine import artifacts
from tiny_recipe import SIZES, earshot
from tiny_study import write_study

pytestmark = pytest.mark.slow

DIVERGES = """
import math
from pathlib import Path
from earshot.pipeline.distillation.output import OutputMatching

class Diverges(OutputMatching):
    def forward(self, *arguments):
        return super().forward(*arguments) * (math.nan if Path("diverges").exists() else 1)
"""


def test_a_diverging_cell_stops_no_other_and_is_tried_again(tmp_path: Path) -> None:
    (tmp_path / "users_diverges.py").write_text(DIVERGES)
    (tmp_path / "diverges").touch()
    write_study(
        tmp_path,
        students={"narrow": {"params": SIZES}},
        methods={"output": {"method": "output"}, "diverges": {"method": "users_diverges:Diverges"}},
        seeds=[0],
    )
    command = ("study", "study.yaml", "--quiet")
    done = earshot(tmp_path, *command)
    assert done.returncode == 3, done.stderr
    made = 1 + 3 * 3  # noisy; teacher, student alone and taught by the method that works
    assert f"{made} steps made, 0 used again" in done.stderr
    (failed,) = json.loads((tmp_path / ".earshot" / "studies" / "tiny" / "study.json").read_text())["failed"]
    assert failed == {
        "cell": "narrow, diverges from wide",
        "seed": 0,
        "error": "the training loss became nan at step 0",
        "fix": "lower learning_rate, or check the data",
    }
    assert failed["error"] in " ".join(done.stdout.split())
    before = artifacts(tmp_path)
    assert len(before) == made
    assert scored(tmp_path) == {("none", "none"): True, ("wide", "output"): True, ("wide", "diverges"): False}

    (tmp_path / "diverges").unlink()
    again = earshot(tmp_path, *command)
    assert again.returncode == 0, again.stderr
    assert f"3 steps made, {made} used again" in again.stderr
    assert before.items() < artifacts(tmp_path).items()
    assert all(scored(tmp_path).values())


def scored(folder: Path) -> dict[tuple[str, str], bool]:
    """Teacher and method of every trained student -> whether it has a result."""
    path = folder / ".earshot" / "studies" / "tiny" / "result.csv"
    rows = [row for row in csv.DictReader(path.open()) if row["student"] == "narrow"]
    return {(row["teacher"], row["method"]): bool(row["mean"]) for row in rows}
