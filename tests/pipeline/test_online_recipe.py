"""Online students from the recipe to a file that streams: real PESQ and CSIG, SIGKILL on the way, a loss of NaN."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import yaml
from tiny_recipe import RECIPE, STEPS, newest_run, rows, start, value, write_recipe

from earshot.core.errors import ToolError
from earshot.pipeline.data.config import DataConfig
from earshot.pipeline.data.open import open_data
from earshot.pipeline.enhancers import CheckpointEnhancer, TfliteEnhancer
from earshot.pipeline.progress import Silent
from earshot.pipeline.recipe import load_recipe
from earshot.pipeline.runner import run
from earshot.pipeline.store import Artifact, Store

pytestmark = pytest.mark.slow

METRICS = ("pesq_wb", "csig")
CHANGES: dict[str, Any] = {
    "teacher": None,
    "frontend": {**RECIPE["frontend"], "features": "log1p"},
    "student": {"network": "metricgan", "params": {"hidden": 8, "wide": 8}},
    "distill": STEPS
    | {
        "epochs": 4,
        "steps_per_epoch": 2,
        "segment_seconds": 1.0,
        "online": {"metrics": list(METRICS), "task": 1.0, "widths": [4, 4], "history": 0.5},
    },
    "prune": {"skip": True},
}
TRAINS_ONLY = [f"{stage}.skip=true" for stage in ("quantize", "convert", "profile")]


class Notes(Silent):
    """Remembers what is shown beside the bars."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def advance(self, steps: int = 1, note: str = "") -> None:
        self.seen.append(note)


def write(folder: Path) -> Path:
    path = write_recipe(folder)
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | CHANGES))
    return path


def run_here(folder: Path, *overrides: str, progress: Silent | None = None) -> None:
    run(load_recipe(str(folder / "tiny.yaml"), overrides), Store(folder / ".earshot"), progress or Silent())


def artifact(folder: Path, title: str) -> Artifact:
    return Store(folder / ".earshot").resolve(newest_run(folder)["artifacts"][title])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the recipe and the store that an undisturbed run filled."""
    folder = tmp_path_factory.mktemp("whole")
    write(folder)
    run_here(folder)
    return folder


def test_a_recipe_walks_all_stages_and_tells_the_students_metrics(whole: Path) -> None:
    found = rows(newest_run(whole))
    assert list(found) == ["noisy", "distill", "quantize", "convert:float32", "convert:int8"]
    assert value(found["convert:float32"], "parity_float_max_abs") < 1e-5
    assert value(found["convert:int8"], "float_operators") == 0
    assert value(found["convert:int8"], "rtf") > 0
    curves = json.loads(artifact(whole, "distill").file("curves.json").read_text())
    assert [curve["epoch"] for curve in curves] == [0, 1, 2, 3]
    for curve in curves:
        assert set(curve["metrics"]) == set(METRICS)
        # One validation clip, so that the loss is a function of its PESQ (see `metric_targets.scaled`).
        pesq = curve["metrics"]["pesq_wb"]
        assert curve["validation_loss"] == pytest.approx(1 - 1 / (1 + np.exp(-1.5 * (pesq - 2.5))), abs=1e-6)
        assert 1 <= curve["metrics"]["csig"] <= 5
    assert len({curve["metrics"]["pesq_wb"] for curve in curves}) > 1, "training changes nothing"


def test_the_file_streams_what_the_checkpoint_says(whole: Path) -> None:
    _, noisy = open_data(DataConfig(), 16000).validation[0].load()
    noisy = noisy[:16000]
    wanted = CheckpointEnhancer(artifact(whole, "distill").file("model.safetensors")).open(16000)(noisy)
    streamed = TfliteEnhancer(artifact(whole, "convert:float32").file("model.float32.tflite")).open(16000)(noisy)
    np.testing.assert_allclose(streamed, wanted, atol=1e-5)
    assert np.abs(noisy - wanted).max() > 1e-3  # negative control: it is no copy


def test_a_run_killed_in_training_goes_on_to_the_same_student(whole: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text((whole / "tiny.yaml").read_text())
    work = tmp_path / ".earshot" / "work"
    process = start(tmp_path, "run", "tiny.yaml", "--quiet")
    while not list(work.glob("*/last.pt")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.002)
    workers = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.communicate()
    _, orphans = psutil.wait_procs(workers, timeout=30)
    assert not orphans, f"processes of a killed training go on: {orphans}"
    assert not list((tmp_path / ".earshot").glob("artifacts/distill-*")), "it was killed too late to tell anything"
    notes = Notes()
    run_here(tmp_path, *TRAINS_ONLY, progress=notes)
    assert "resumed" in notes.seen
    resumed, undisturbed = artifact(tmp_path, "distill"), artifact(whole, "distill")
    assert resumed.id == undisturbed.id
    assert resumed.manifest.files == undisturbed.manifest.files


def test_a_loss_that_is_not_a_number_ends_the_run_with_what_to_do(tmp_path: Path) -> None:
    write(tmp_path)
    notes = Notes()
    with pytest.raises(ToolError, match="the training loss became nan") as caught:
        run_here(tmp_path, "distill.learning_rate=1e30", "distill.warmup_steps=0", *TRAINS_ONLY, progress=notes)
    assert "resumed" not in notes.seen
    assert caught.value.hint is not None and "lower distill.learning_rate" in caught.value.hint
    assert newest_run(tmp_path)["status"] == "failed"
    assert not list((tmp_path / ".earshot").glob("artifacts/distill-*"))
