"""What a study file may say, and which artifacts it stands for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_recipe import PACK, RECIPE, STEPS
from tiny_study import STUDY, step_count, write_study

from earshot.core.errors import ConfigError, UsageError
from earshot.pipeline.plan import build_plan
from earshot.pipeline.recipe import Recipe, load_recipe
from earshot.pipeline.study.cells import Arm, Matrix, matrix, open_study_data
from earshot.pipeline.study.config import ALONE, Study, builtin_studies, load_study

PAIR = ("clean", "noisy")
TWO_EPOCHS = STEPS | {"epochs": 2}


def planned(path: Path, threads: int = 1) -> Matrix:
    study = load_study(str(path))
    return matrix(study, open_study_data(study, path.parent / "cache"), threads)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"method": {}}, "did you mean 'methods'"),
        ({"methods": {"x": {"method": "none"}}}, "methods.x: every student is trained without a teacher anyhow"),
        ({"methods": {"x": {"method": "output", "wait": 1}}}, "did you mean 'weight'"),
        ({"methods": {"none": {"method": "output"}}}, "'none' names training without a teacher"),
        ({"methods": {"x": {"method": "output", "online": {}}}}, "methods.x: .*leave out method and its options, or"),
        ({"methods": {"x": {"online": {"metrics": ["stoi", "stoi"]}}}}, "methods.x.online: a metric is named twice"),
        ({"methods": {"x": {"online": {}}}}, "the first epoch with online is the discriminator's"),  # STEPS: one epoch
        ({"teachers": {}}, "teachers: method 'latent' needs one"),
        ({"seeds": [1, 1]}, "seeds: each is named once"),
        ({"students": {}}, "students"),
        ({"teachers": {"t": {"checkpoint": "nowhere.safetensors"}}}, "teachers.t.checkpoint: no such file"),
    ],
)
def test_mistakes_are_named_with_their_place(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        load_study(str(write_study(tmp_path, **changes)))


def test_keys_change_and_the_data_folder_is_named_at_the_call(tmp_path: Path) -> None:
    path = write_study(tmp_path)
    changed = load_study(str(path), ["seeds=[7]", "methods.output.weight=0.25"])
    assert changed.seeds == (7,) and changed.methods["output"].weight == 0.25
    with pytest.raises(ConfigError, match=r"methods\.output\.wait: unknown key"):
        load_study(str(path), ["methods.output.wait=1"])
    with pytest.raises(UsageError, match="--data has no effect"):
        load_study(str(path), data=tmp_path)
    test = {"kind": "pairs", "path": "${EARSHOT_DATA}/pairs"}
    elsewhere = write_study(tmp_path, data=yaml.safe_load(path.read_text())["data"] | {"test": test})
    assert load_study(str(elsewhere), data=tmp_path).data.test.path == tmp_path / "pairs"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"methods": {"x": {"method": "outptu"}}}, "unknown distillation method 'outptu'"),
        ({"students": {"x": {"network": "dae_unit"}}}, "unknown network 'dae_unit'"),
        ({"metrics": ["si_sdr", "stio"]}, "stio"),
        ({"train": TWO_EPOCHS, "methods": {"x": {"online": {"metrics": ["si_sdr"]}}}}, "has no scale"),
    ],
)
def test_a_name_that_nothing_has_is_refused_before_anything_is_trained(
    tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        planned(write_study(tmp_path, **changes))


def test_the_teacher_is_one_and_every_other_step_its_own(tmp_path: Path) -> None:
    steps = planned(write_study(tmp_path)).steps
    assert len(steps) == step_count()
    trained = [step for step in steps.values() if step.stage == "distill"]
    assert len({step.inputs["teacher"].id for step in trained if "teacher" in step.inputs}) == 1
    assert len(trained) == 1 + 3 * 2
    order = list(steps)
    for step in steps.values():
        assert all(order.index(source.id) < order.index(step.id) for source in step.inputs.values())


def test_a_cell_is_the_artifact_that_a_recipe_makes_and_threads_do_not_change_it(tmp_path: Path) -> None:
    """What a run has made, a study need not make again."""
    path = write_study(tmp_path)
    recipe = {**yaml.safe_load((tmp_path / "tiny.yaml").read_text()), "distill": STUDY["train"] | {"method": "output"}}
    recipe |= {stage: RECIPE[stage] | {"skip": True} for stage in ("prune", "quantize", "convert", "profile")}
    (tmp_path / "one.yaml").write_text(yaml.safe_dump(recipe))
    one = load_recipe(str(tmp_path / "one.yaml"))
    study = load_study(str(path))
    by_recipe = {step.id for step in build_plan(one, open_study_data(study, tmp_path / "cache")).steps}
    by_study = planned(path).steps
    assert len(by_recipe) == 1 + 3 + 3  # noisy, teacher, student
    assert by_recipe <= set(by_study)
    assert set(planned(path, threads=3).steps) == set(by_study)
    other = planned(write_study(tmp_path, seeds=[5])).steps
    assert {step.title for step in other.values() if step.id in by_recipe and step.stage == "distill"} == {
        "teacher wide"
    }


def test_online_students_have_no_teacher_and_are_the_recipes_artifacts(tmp_path: Path) -> None:
    online = {"metrics": ["stoi"], "task": 1.0}
    methods = {"output": {"method": "output"}, "chasing": {"online": online}}
    path = write_study(tmp_path, train=TWO_EPOCHS, methods=methods)
    found = planned(path)
    arms = {cell.arm: cell for cell in found.cells if cell.arm.method == "chasing"}
    assert set(arms) == {Arm(ALONE, "narrow", "chasing")}
    (arm,) = arms
    assert (arm.title, arm.alone.title) == ("narrow, chasing", "narrow alone")
    assert len(found.steps) == step_count() == len(planned(write_study(tmp_path, train=TWO_EPOCHS)).steps)
    assert not any("teacher" in step.inputs for step in found.steps.values() if "chasing" in step.title)

    recipe = {**yaml.safe_load((tmp_path / "tiny.yaml").read_text()), "distill": TWO_EPOCHS | {"online": online}}
    recipe |= {stage: RECIPE[stage] | {"skip": True} for stage in ("prune", "quantize", "convert", "profile")}
    (tmp_path / "one.yaml").write_text(yaml.safe_dump(recipe | {"teacher": None}))
    study = load_study(str(path))
    by_recipe = build_plan(load_recipe(str(tmp_path / "one.yaml")), open_study_data(study, tmp_path / "cache")).steps
    assert {step.id for step in by_recipe} <= set(found.steps)

    alone = planned(write_study(tmp_path, train=TWO_EPOCHS, methods={"chasing": {"online": online}}, teachers={}))
    assert len(alone.steps) == 1 + 3 * (1 + 1) * 2 and set(alone.steps) < set(found.steps)


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """A DIR for `--data` with a little of all that the studies name, called as in the corpora they were made for."""
    named = {
        "train": [("train/speech", "pack_{}-{}"), ("fullband48k/clean", "{}_{}")],
        "test": [(f"{part}/{side}", "{}_{}") for part in ("test_pairs", "fullband48k/pairs") for side in PAIR],
    }
    for split, places in named.items():
        for number, path in enumerate(sorted((PACK / "speech" / split).glob("*.flac"))[:30]):
            for folder, name in places:
                _link(path, tmp_path / "real" / folder / name.format(number, path.name))
    for number, path in enumerate(sorted((PACK / "noise" / "train").glob("*.flac"))):
        for folder in ("train/noise", "fullband48k/noise"):
            _link(path, tmp_path / "real" / folder / f"noise__1-{number:04d}-{path.name}")
    return tmp_path / "real"


def _link(path: Path, link: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(path)


@pytest.mark.parametrize("name", builtin_studies())
def test_studies_that_come_with_earshot_can_be_planned(name: str, folders: Path, tmp_path: Path) -> None:
    study = load_study(name, data=folders)
    found = matrix(study, open_study_data(study, tmp_path), 1)
    online = sum(method.online is not None for method in study.methods.values())
    arms = len(study.students) * (1 + online + len(study.teachers) * (len(study.methods) - online))
    assert len(found.cells) == 1 + len(study.teachers) + arms * len(study.seeds)


def taught_alike(study: Study, recipe: Recipe) -> list[bool]:
    """Whether cells of a study are artifacts of a recipe: sound, teacher, student, training, one of the methods."""
    (teacher,) = study.teachers.values()
    keys = ("method", "weight", "two_step", "only_where_better")
    taught = {key: getattr(recipe.distill, key) for key in keys}
    return [
        (study.frontend, study.data.train, study.data.validation)
        == (recipe.frontend, recipe.data.train, recipe.data.validation),
        recipe.teacher is not None
        and teacher.model_dump(exclude={"seed"}) == recipe.teacher.model_dump()
        and teacher.seed == recipe.seed,
        recipe.student in study.students.values(),
        study.train.model_dump().items() <= recipe.distill.model_dump().items(),
        taught in [method.model_dump(include=set(taught)) for method in study.methods.values()],
    ]


@pytest.mark.parametrize("name", sorted(set(builtin_studies()) - {"metricgan"}))
def test_a_study_shares_teacher_and_student_with_the_recipe_of_its_name(name: str, folders: Path) -> None:
    recipe = {"mismatch": "latent16k", "methods": "latent16k"}.get(name, name)
    assert all(taught_alike(load_study(name, data=folders), load_recipe(recipe, data=folders)))


def test_the_study_of_online_students_shares_their_network_alone(folders: Path) -> None:
    study, recipe = load_study("metricgan", data=folders), load_recipe("metricgan", data=folders)
    _, teacher, student, trained, _ = taught_alike(study, recipe)
    assert (teacher, student, trained) == (False, True, False)
