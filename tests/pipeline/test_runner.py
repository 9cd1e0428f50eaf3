"""Whole runs, on real sound and through real conversions: what they leave behind, and what they make again."""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path

import pytest
from tiny_recipe import earshot, newest_run, rows, start, value, write_recipe

from earshot.core.errors import ModelError, ToolError
from earshot.pipeline.progress import Silent
from earshot.pipeline.recipe import load_recipe
from earshot.pipeline.runner import plan, run
from earshot.pipeline.store import Artifact, Store

pytestmark = pytest.mark.slow  # the run they share takes a minute

ROWS = ["noisy", "teacher", "distill", "prune", "quantize", "convert:float32", "convert:int8"]
TRAINS_ONLY = [f"{stage}.skip=true" for stage in ("prune", "quantize", "convert", "profile")]


@pytest.fixture
def folder(finished, tmp_path: Path) -> Path:
    """A copy of the finished run's folder: its recipe still names the original's sound."""
    shutil.copytree(finished.folder, tmp_path / "copy")
    return tmp_path / "copy"


def in_process(folder: Path, *overrides: str) -> dict:
    """A run in this process; the content of its run file."""
    recipe = load_recipe(str(folder / "tiny.yaml"), overrides)
    return json.loads(run(recipe, Store(folder / ".earshot"), Silent()).read_text())


def artifact_of(folder: Path, title: str, content: dict | None = None) -> Artifact:
    """The artifact that a run's step `title` made or used."""
    store = Store(folder / ".earshot")
    found = store.find((content or newest_run(folder))["artifacts"][title])
    assert found is not None, f"{title} is absent or damaged"
    return found


def made(content: dict) -> set[str]:
    return {row["row"] for row in content["rows"] if not row["cached"]}


def test_a_run_ends_with_every_row_measured_and_a_verdict(finished) -> None:
    assert finished.code == 0, finished.err
    content = newest_run(finished.folder)
    found = rows(content)
    assert (content["status"], content["error"]) == ("complete", None)
    assert [row["row"] for row in content["rows"]] == ROWS
    assert [row["stage"] for row in content["rows"]] == [name.partition(":")[0] for name in ROWS]
    assert [(one["budget"], one["status"]) for one in content["verdicts"]] == [("fits", "pass")]
    assert "torch" in finished.err.splitlines()[-1], "the check for heavy modules sees none"
    for name, row in found.items():
        assert -30 < value(row, "si_sdr") < 30
        assert (row["cached"], row["seconds"] > 0) == (False, True), name
    for name in ROWS[1:]:
        assert value(found[name], "parameters") > 0
        assert value(found[name], "algorithmic_latency_ms") == 8.0
        if name != "quantize":
            assert value(found[name], "model_bytes") > 0
            assert 0 < value(found[name], "frame_p50_us") <= value(found[name], "frame_p99_us")
    assert value(found["prune"], "parameters") < 0.6 * value(found["distill"], "parameters")
    assert value(found["convert:int8"], "parameters") == value(found["prune"], "parameters")
    assert value(found["convert:float32"], "parity_float_max_abs") <= 1e-5
    # Float files compute what their networks compute, so the same sound scores the same.
    assert value(found["convert:float32"], "si_sdr") == pytest.approx(value(found["prune"], "si_sdr"), abs=1e-3)
    assert value(found["convert:int8"], "si_sdr") == pytest.approx(value(found["quantize"], "si_sdr"), abs=0.5)


def test_a_run_names_every_artifact_it_stands_on_and_all_are_whole(finished) -> None:
    content = newest_run(finished.folder)
    recipe, store = load_recipe(str(finished.folder / "tiny.yaml")), Store(finished.folder / ".earshot")
    titles = [line.stage for line in plan(recipe, store)]
    assert list(content["artifacts"]) == titles
    found = {title: artifact_of(finished.folder, title) for title in titles}
    assert len(store.folders()) == len(found)
    assert found["distill"].manifest.inputs["teacher"] == found["teacher"].id
    assert found["convert:int8"].manifest.inputs["plan"] == found["quantize"].id
    assert not [*store.root.glob("tmp/*"), *store.root.glob("work/*")]


def test_a_second_run_uses_everything_again_and_never_loads_torch(finished, folder: Path) -> None:
    times = {path: path.stat().st_mtime_ns for path in (folder / ".earshot" / "artifacts").rglob("*")}
    again = earshot(folder, "run", "tiny.yaml", "--quiet")
    assert again.returncode == 0, again.stderr
    assert again.stderr.splitlines()[-1] == "modules:"
    assert len(list((folder / ".earshot" / "runs").glob("*.json"))) == 2
    content = newest_run(folder)
    assert made(content) == set()
    assert [row["measurements"] for row in content["rows"]] == [
        row["measurements"] for row in newest_run(finished.folder)["rows"]
    ]
    assert times == {path: path.stat().st_mtime_ns for path in (folder / ".earshot" / "artifacts").rglob("*")}
    planned = earshot(folder, "plan", "tiny.yaml")
    assert planned.returncode == 0, planned.stderr
    assert planned.stdout.count(" cached ") == len(content["artifacts"])


def test_an_impossible_budget_ends_with_1_and_the_reason_and_makes_nothing(folder: Path) -> None:
    done = earshot(folder, "run", "tiny.yaml", "--quiet", "--set", "budgets=[{metric: model_bytes, max: 10}]")
    assert done.returncode == 1, done.stderr
    assert "model_bytes" in done.stdout + done.stderr
    content = newest_run(folder)
    assert made(content) == set()
    verdicts = {one["budget"]: one["status"] for one in content["verdicts"]}
    assert [status for name, status in verdicts.items() if "model_bytes" in name] == ["fail"]
    assert verdicts["pesq_wb-not-worse-than-noisy"] == "fail", "a metric that was not measured passed"
    assert done.stderr.splitlines()[-1] == "modules:"


def test_a_wrong_recipe_ends_with_2_and_leaves_no_store(tmp_path: Path) -> None:
    write_recipe(tmp_path)
    done = earshot(tmp_path, "run", "tiny.yaml", "--set", "distill.epoch=3")
    assert done.returncode == 2
    assert "did you mean: distill.epochs" in done.stderr
    assert not (tmp_path / ".earshot").exists()


def test_a_flipped_byte_is_made_anew_and_comes_out_the_same(folder: Path) -> None:
    artifact = artifact_of(folder, "convert:int8")
    (name,) = [name for name in artifact.manifest.files if name.endswith(".tflite")]
    whole = (artifact.path / name).read_bytes()
    middle = len(whole) // 2
    (artifact.path / name).write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
    recipe = load_recipe(str(folder / "tiny.yaml"))
    assert [line.stage for line in plan(recipe, Store(folder / ".earshot")) if line.state == "run"] == ["convert:int8"]
    content = in_process(folder)
    assert made(content) == {"convert:int8"}
    assert artifact_of(folder, "convert:int8").file(name).read_bytes() == whole
    assert content["status"] == "complete"


def test_another_number_of_epochs_trains_the_student_again_and_not_the_teacher(folder: Path) -> None:
    content = in_process(folder, "distill.epochs=1", *TRAINS_ONLY)
    assert [row["row"] for row in content["rows"]] == ["noisy", "teacher", "distill"]
    assert made(content) == {"distill"}
    assert len(json.loads(artifact_of(folder, "distill", content).file("curves.json").read_text())) == 1


def test_a_checkpoint_enters_at_quantize_and_gives_the_same_file(folder: Path, tmp_path: Path) -> None:
    """The pruned student, taken in as if it were the user's own, becomes the int8 file it became on the whole way."""
    whole = artifact_of(folder, "convert:int8").file("model.int8.tflite").read_bytes()
    shutil.copy(artifact_of(folder, "prune").file("model.safetensors"), tmp_path / "mine.safetensors")
    settings = [f"quantize.enter={tmp_path}/mine.safetensors", "convert.variants=[int8]", "profile.skip=true"]
    content = in_process(folder, *settings)
    assert [row["row"] for row in content["rows"]] == ["noisy", "quantize", "convert:int8"]
    assert made(content) == {"quantize", "convert:int8"}
    entered = artifact_of(folder, "convert:int8", content)
    assert entered.file("model.int8.tflite").read_bytes() == whole
    # The lineage leads to the user's file.
    origin = artifact_of(folder, "quantize", content).manifest.inputs["model"]
    assert Store(folder / ".earshot").find(origin).stage == "enter"


def test_a_finished_file_enters_at_profile(folder: Path, tmp_path: Path) -> None:
    before = rows(newest_run(folder))["convert:int8"]
    shutil.copy(artifact_of(folder, "convert:int8").file("model.int8.tflite"), tmp_path / "mine.tflite")
    content = in_process(folder, f"profile.enter={tmp_path}/mine.tflite")
    assert [row["row"] for row in content["rows"]] == ["noisy", "entered"]
    row = rows(content)["entered"]
    assert value(row, "si_sdr") == pytest.approx(value(before, "si_sdr"), abs=1e-6)
    assert value(row, "frame_p50_us") > 0


def test_a_step_that_fails_leaves_a_run_file_with_the_rows_so_far(folder: Path) -> None:
    with pytest.raises(ToolError, match="training loss became"):
        in_process(folder, "distill.learning_rate=1.0e+30", "distill.warmup_steps=0")
    content = newest_run(folder)
    assert content["status"] == "failed"
    assert "training loss became" in content["error"]
    assert [row["row"] for row in content["rows"]] == ["noisy", "teacher"]
    assert (content["verdicts"][0]["budget"], content["verdicts"][0]["status"]) == ("the run completed", "fail")
    assert not list((folder / ".earshot" / "tmp").glob("*"))


LOOKS_AHEAD = """
import torch
from earshot.models.dae_unet import DaeUnet

class LooksAhead(DaeUnet):
    causal = False

    def trace(self, sequence):
        return super().trace(torch.roll(sequence, -1, dims=2))
"""


def test_a_network_that_is_not_causal_can_teach_and_never_ships(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "users_ahead.py").write_text(LOOKS_AHEAD)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    content = in_process(folder, "teacher.network=users_ahead:LooksAhead", *TRAINS_ONLY)
    teacher = rows(content)["teacher"]
    assert -30 < value(teacher, "si_sdr") < 30
    assert "macs_per_second" not in {one["metric"] for one in teacher["measurements"]}
    with pytest.raises(ModelError, match="not causal"):
        in_process(folder, "student.network=users_ahead:LooksAhead")
    assert [row["row"] for row in newest_run(folder)["rows"]] == ["noisy", "teacher"], "it was trained for nothing"
    shutil.copy(artifact_of(folder, "teacher", content).file("model.safetensors"), tmp_path / "ahead.safetensors")
    with pytest.raises(ModelError, match=r"not causal"):
        in_process(folder, f"quantize.enter={tmp_path}/ahead.safetensors")


def test_two_runs_at_once_are_told_apart(folder: Path) -> None:
    """The second one is refused and names the first, which goes on."""
    first = start(folder, "run", "tiny.yaml", "--quiet", "--set", "distill.steps_per_epoch=100000", *skip_rest())
    try:
        owner = folder / ".earshot" / "lock.owner"
        while not (owner.exists() and owner.read_text().strip() == str(first.pid)) and first.poll() is None:
            time.sleep(0.1)
        second = earshot(folder, "run", "tiny.yaml", "--quiet")
        assert second.returncode == 3
        assert f"pid {first.pid}" in second.stderr
        assert first.poll() is None
    finally:
        first.kill()
        first.communicate(timeout=60)


def skip_rest() -> list[str]:
    return [part for setting in TRAINS_ONLY for part in ("--set", setting)]
