"""What a change in the recipe makes anew, and what it leaves: told by `plan`, which executes nothing."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from tiny_recipe import MIXES, PACK, earshot, write_recipe

from earshot.pipeline.data.open import open_data
from earshot.pipeline.plan import Plan, build_plan
from earshot.pipeline.recipe import load_recipe

ROWS = ("noisy", "teacher", "distill", "prune", "quantize", "convert:float32", "convert:int8")
TEACHER = {"teacher", "export teacher", "quality of teacher"}
DISTILL = {"distill", "export distill", "quality of distill"}
PRUNE = {"prune", "export prune", "quality of prune"}
QUANTIZE = {"quantize", "quality of quantize"}
FLOAT = {"convert:float32", "quality of convert:float32"}
INT8 = {"convert:int8", "quality of convert:int8"}
PROFILE = {"profile on host"}
SCORES = {f"quality of {row}" for row in ROWS}
EVERYTHING = TEACHER | DISTILL | PRUNE | QUANTIZE | FLOAT | INT8 | PROFILE | SCORES


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(tmp_path_factory.mktemp("plan"))


def planned(recipe: Path, *overrides: str) -> Plan:
    settled = load_recipe(str(recipe), overrides)
    return build_plan(settled, open_data(settled.data, settled.frontend.rate))


def ids(recipe: Path, *overrides: str) -> dict[str, str]:
    return {step.title: step.id for step in planned(recipe, *overrides).steps}


def test_steps_come_after_their_inputs_and_rows_in_order(recipe: Path) -> None:
    plan = planned(recipe)
    assert tuple(row.name for row in plan.rows) == ROWS
    seen: set[str] = set()
    for step in plan.steps:
        assert {source.id for source in step.inputs.values()} <= seen, step.title
        seen.add(step.id)
    assert {step.title for step in plan.steps} == EVERYTHING


@pytest.mark.parametrize(
    ("key", "file", "skipped"),
    [
        ("teacher.checkpoint", "mine.safetensors", set()),
        ("distill.enter", "mine.pt", set()),
        ("prune.enter", "mine.safetensors", DISTILL),
        ("quantize.enter", "mine.safetensors", TEACHER | DISTILL | PRUNE),
        ("quantize.enter", "mine.tflite", TEACHER | DISTILL | PRUNE),
    ],
)
def test_a_file_that_enters_is_a_step_of_its_own(
    recipe: Path, tmp_path: Path, key: str, file: str, skipped: set
) -> None:
    (tmp_path / file).write_bytes(b"not looked into yet")
    given = ["teacher={checkpoint: %s}"] if key == "teacher.checkpoint" else [f"{key}=%s"]
    plan = planned(recipe, *(one % (tmp_path / file) for one in given))
    titles = [step.title for step in plan.steps]
    entered = set(titles) - EVERYTHING
    assert entered == (set() if key == "teacher.checkpoint" else {f"enter {key.partition('.')[0]}"})
    assert set(titles) - entered == EVERYTHING - skipped
    seen: set[str] = set()
    for step in plan.steps:
        assert {source.id for source in step.inputs.values()} <= seen, step.title
        seen.add(step.id)
    before = {step.title: step.id for step in plan.steps}
    (tmp_path / file).write_bytes(b"another file of the same name")
    after = {step.title: step.id for step in planned(recipe, *(one % (tmp_path / file) for one in given)).steps}
    assert before["quantize"] != after["quantize"]
    assert before["quality of noisy"] == after["quality of noisy"]


@pytest.mark.parametrize(
    ("override", "anew"),
    [
        ("budgets=[{metric: rtf, max: 0.001}]", set()),
        ("name=another", set()),
        ("distill.log=tensorboard", set()),
        ("distill.launcher.threads=2", set()),
        ("metrics=[stoi]", SCORES),
        ("profile.repeats=3", PROFILE),
        ("convert.variants=[float32]", PROFILE),
        ("quantize.clips=3", QUANTIZE | FLOAT | INT8 | PROFILE),
        ("prune.ratio=0.25", PRUNE | QUANTIZE | FLOAT | INT8 | PROFILE),
        ("distill.epochs=3", EVERYTHING - TEACHER - {"quality of noisy"}),
        ("distill.method=none", EVERYTHING - TEACHER - {"quality of noisy"}),
        ("student.params.hidden=4", EVERYTHING - TEACHER - {"quality of noisy"}),
        ("teacher.train.epochs=2", EVERYTHING - {"quality of noisy"}),
        ("seed=1", EVERYTHING - {"quality of noisy"}),
        ("frontend.compression=0.5", EVERYTHING - {"quality of noisy"}),
    ],
)
def test_a_change_reaches_what_it_decides_and_nothing_else(recipe: Path, override: str, anew: set[str]) -> None:
    before, after = ids(recipe), ids(recipe, override)
    assert {title for title in after if before.get(title) != after[title]} == anew


def test_other_sound_reaches_what_hears_it(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path)
    before = ids(recipe)
    with (tmp_path / "mixes.csv").open("a", newline="") as file:
        csv.writer(file).writerow(["test", PACK / "speech/test/awb_005.flac", PACK / "noise/test/hum_0.flac", 0])
    assert {title for title, found in ids(recipe).items() if before[title] != found} == SCORES
    before = ids(recipe)
    text = (tmp_path / "mixes.csv").read_text()
    (tmp_path / "mixes.csv").write_text(text.replace(MIXES["train"][0], "slt_012"))
    assert {title for title, found in ids(recipe).items() if before[title] == found} == {"quality of noisy"}


def test_a_skipped_stage_hands_on_what_it_would_have_got(recipe: Path) -> None:
    steps = {step.title: step for step in planned(recipe, "prune.skip=true").steps}
    assert set(steps) == EVERYTHING - PRUNE
    assert steps["quantize"].inputs["model"] is steps["distill"]
    assert {title: steps[title].id for title in DISTILL} == {title: ids(recipe)[title] for title in DISTILL}


def test_a_student_without_a_teacher_trains_alone(recipe: Path) -> None:
    steps = {
        step.title: step for step in planned(recipe, "teacher=null", "distill.method=none", "prune.skip=true").steps
    }
    assert set(steps) == EVERYTHING - TEACHER - PRUNE
    assert not steps["distill"].inputs


def test_plan_executes_nothing_and_loads_nothing_heavy(tmp_path: Path) -> None:
    write_recipe(tmp_path)
    done = earshot(tmp_path, "plan", "tiny.yaml")
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "modules:"
    assert all(title in done.stdout for title in EVERYTHING)
    assert " cached " not in done.stdout
    assert not list((tmp_path / ".earshot").glob("artifacts/*"))
    assert not list((tmp_path / ".earshot").glob("runs/*"))
