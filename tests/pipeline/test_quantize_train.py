"""`quantize: {train: …}` in a recipe: a step and a row of their own, and nothing else when it is left out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tiny_recipe import SIZES, newest_run, rows, value, write_recipe

from earshot.core.errors import ConfigError
from earshot.models import checkpoint
from earshot.models.frontend import Frontend
from earshot.models.registry import build
from earshot.pipeline.data.open import open_data
from earshot.pipeline.plan import Plan, build_plan
from earshot.pipeline.progress import Silent
from earshot.pipeline.recipe import load_recipe
from earshot.pipeline.runner import plan, run
from earshot.pipeline.store import Store

TRAIN = "quantize.train={epochs: 1, steps_per_epoch: 2, batch: 2, segment_seconds: 0.5, launcher: {threads: 1}}"
OWN = {"quantize:train", "export quantize:train", "quality of quantize:train"}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(tmp_path_factory.mktemp("quantize_train"))


@pytest.fixture(scope="module")
def weights(recipe: Path) -> Path:
    """A student of random weights, and a wider one that teaches, in one folder."""
    frontend = Frontend(window=128, hop=64, fft=128)
    for name, sizes in (("student", SIZES), ("teacher", SIZES | {"hidden": 12})):
        torch.manual_seed(3)
        checkpoint.save(build("dae_unet", frontend, sizes), "dae_unet", recipe.parent / f"{name}.safetensors")
    return recipe.parent


def planned(recipe: Path, *overrides: str) -> Plan:
    settled = load_recipe(str(recipe), overrides)
    return build_plan(settled, open_data(settled.data, settled.frontend.rate))


def ids(recipe: Path, *overrides: str) -> dict[str, str]:
    return {step.title: step.id for step in planned(recipe, *overrides).steps}


def test_left_out_it_leaves_no_trace_in_identities(recipe: Path) -> None:
    (step,) = (step for step in planned(recipe).steps if step.title == "quantize")
    assert set(step.config) == {"settings", "frontend", "seed", "file"}
    assert set(step.config["settings"]) == {"keep_float", "parity_seconds", "clips", "seconds", "entry"}
    assert ids(recipe, "quantize.train=null") == ids(recipe)


def test_it_is_a_step_before_quantize(recipe: Path) -> None:
    before, after = ids(recipe), ids(recipe, TRAIN)
    assert set(after) - set(before) == OWN
    changed = {title for title in before if before[title] != after[title]}
    assert changed == {
        "quantize",
        "quality of quantize",
        *(f"{kind}{variant}" for kind in ("", "quality of ") for variant in ("convert:float32", "convert:int8")),
        "profile on host",
    }
    names = [row.name for row in planned(recipe, TRAIN).rows]
    assert names[names.index("prune") + 1 :][:2] == ["quantize:train", "quantize"]
    more = ids(recipe, TRAIN, "quantize.train.epochs=2")
    assert more["quantize:train"] != after["quantize:train"]
    assert more["prune"] == after["prune"]
    assert ids(recipe, TRAIN, "quantize.train.launcher.threads=2")["quantize:train"] == after["quantize:train"]


def test_skipped_with_its_stage(recipe: Path) -> None:
    skipped = ids(recipe, TRAIN, "quantize.skip=true", "convert.skip=true", "profile.skip=true")
    assert not OWN & set(skipped)


def test_the_teacher_is_handed_over_where_the_method_needs_one(recipe: Path, weights: Path) -> None:
    entered = f"quantize.enter={weights}/student.safetensors"
    assert "teacher" not in ids(recipe, entered)
    for method, roles in (("none", {"model"}), ("output", {"model", "teacher"})):
        steps = {step.title: step for step in planned(recipe, entered, TRAIN, f"quantize.train.method={method}").steps}
        assert set(steps["quantize:train"].inputs) == roles
        assert steps["quantize:train"].inputs["model"].title == "enter quantize"


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["quantize.train={epoch: 3}"], r"quantize\.train\.epoch: unknown key; did you mean 'epochs'"),
        (["quantize.train={epochs: 0}"], r"quantize\.train\.epochs"),
        (["quantize.train={two_step: 0.5}"], "name a method"),
        ([TRAIN, "quantize.enter=mine.tflite"], "holds no network to train"),
    ],
)
def test_mistakes_are_named(recipe: Path, overrides: list[str], expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        load_recipe(str(recipe), overrides)


@pytest.mark.slow
def test_a_run_trains_with_a_teacher_and_quantizes_what_it_learnt(
    recipe: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(weights)
    overrides = [
        f"quantize.enter={weights}/student.safetensors",
        f"teacher={{checkpoint: {weights}/teacher.safetensors}}",
        TRAIN,
        "quantize.train.method=output",
        "convert.variants=[int8]",
        "profile.skip=true",
    ]
    settled, store = load_recipe(str(recipe), overrides), Store(weights / ".earshot")
    assert {line.state for line in plan(settled, store)} == {"run"}
    run(settled, store, Silent())
    content = newest_run(weights)
    found = rows(content)
    assert list(found) == ["noisy", "teacher", "quantize:train", "quantize", "convert:int8"]
    assert content["status"] == "complete"
    trained = store.find(content["artifacts"]["quantize:train"])
    assert trained is not None
    assert len(json.loads(trained.file("curves.json").read_text())) == 1
    learnt = checkpoint.load(trained.file("model.safetensors")).state_dict()
    given = checkpoint.load(weights / "student.safetensors").state_dict()
    assert learnt.keys() == given.keys()
    assert any(not torch.equal(learnt[name], given[name]) for name in learnt)
    for metric in ("parameters", "si_sdr", "model_bytes"):
        assert value(found["quantize:train"], metric) is not None
    assert value(found["convert:int8"], "si_sdr") == pytest.approx(value(found["quantize"], "si_sdr"), abs=0.5)
    assert {line.state for line in plan(settled, store)} == {"cached"}
