"""A study of online students alone: trained in a worker process with scoring processes of its own, by no teacher."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from tiny_recipe import STEPS, earshot
from tiny_study import write_study

pytestmark = pytest.mark.slow

LEVEL = """
from earshot.pipeline.metrics.base import Metric

def _level(signals):
    ratio = (signals.enhanced @ signals.enhanced / (signals.clean @ signals.clean)) ** 0.5
    return float(min(ratio, 1 / ratio))

LEVEL = Metric("level", "1", True, "users", _level)
"""


def test_online_students_are_compared_with_the_same_student_alone(tmp_path: Path) -> None:
    (tmp_path / "users_level.py").write_text(LEVEL)
    chasing = {"online": {"metrics": ["users_level:LEVEL", "stoi"], "task": 1.0, "widths": [4, 4]}}
    train = STEPS | {"epochs": 2, "steps_per_epoch": 2, "segment_seconds": 1.0}
    write_study(tmp_path, teachers={}, methods={"chasing": chasing}, seeds=[0], train=train)
    done = earshot(tmp_path, "study", "study.yaml", "--quiet", "--workers", "1")
    assert done.returncode == 0, done.stderr
    assert "7 steps made, 0 used again" in done.stderr  # the noisy input scored; two students trained, exported, scored
    table = csv.DictReader((tmp_path / ".earshot" / "studies" / "tiny" / "result.csv").open())
    rows = {(row["student"], row["teacher"], row["method"]): row for row in table}
    assert set(rows) == {("-", "noisy", "-"), ("narrow", "none", "none"), ("narrow", "none", "chasing")}
    online, alone = rows["narrow", "none", "chasing"], rows["narrow", "none", "none"]
    assert (alone["difference"], online["paired_seeds"], online["paired_clips"]) == ("", "1", "2")
    gain = float(online["mean"]) - float(alone["mean"])
    assert float(online["difference"]) == pytest.approx(gain, abs=1e-9)
    assert gain != 0, "both are the same training"
