"""Recipes: what they compose, and one clear line for everything that can be wrong with them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from earshot.core.errors import ConfigError, UsageError
from earshot.models.registry import build
from earshot.pipeline.overrides import apply_overrides, dotted_keys, expand_variables
from earshot.pipeline.recipe import STAGES, USUAL_RATIO, Recipe, builtin_recipes, load_recipe


def write(folder: Path, **changes: object) -> str:
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump({"name": "mine", **changes}))
    return str(path)


@pytest.mark.parametrize("name", builtin_recipes())
def test_every_built_in_recipe_loads_under_its_name_and_names_networks_that_build(name: str, tmp_path: Path) -> None:
    needs_data = "${EARSHOT_DATA}" in builtin_recipes()[name].read_text()
    recipe = load_recipe(name, data=tmp_path if needs_data else None)
    assert recipe.name == name
    for section in (recipe.student, recipe.teacher):
        if section is not None and section.network is not None:
            built = build(section.network, recipe.frontend, section.params)
            assert built.causal or section is recipe.teacher


def test_the_recipes_for_a_start_load(tmp_path: Path) -> None:
    assert load_recipe("quickstart").stages == STAGES
    real = load_recipe("real16k", data=tmp_path)
    assert real.data.train.speech == tmp_path / "train" / "speech"
    assert real.data.test.path == tmp_path / "test_pairs"


def test_a_recipe_needs_no_more_than_a_name_and_survives_a_round_trip(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path))
    assert recipe.stages == STAGES
    resolved = recipe.model_dump(mode="json")
    assert Recipe.model_validate(resolved) == recipe


def test_loading_a_recipe_imports_nothing_heavy() -> None:
    code = (
        "import sys; from earshot.pipeline.recipe import load_recipe; load_recipe('quickstart');"
        "sys.exit(', '.join({'torch', 'litert_torch', 'scipy', 'ai_edge_litert', 'rich'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"studnt": {}}, r"mine\.yaml: studnt: unknown key; did you mean 'student'\?"),
        ({"student": {"newtork": "dae_unet"}}, r"student\.newtork: unknown key; did you mean 'network'\?"),
        (
            {"data": {"train": {"kind": "mix", "speach": "a", "noise": "b"}}},
            r"speach: unknown key; did you mean 'speech'",
        ),
        ({"seed": -1}, r"seed: .*greater than or equal to 0 \(found -1\)"),
        ({"seed": "one"}, r"seed: .*integer"),
        ({"name": "../escape"}, "name"),
        ({"metrics": []}, "metrics"),
        ({"frontend": {"rate": 0}}, "frontend: rate and hop must be positive"),
        ({"budgets": [{"metric": "pesq_wb", "min": 3, "max": 2}]}, "contradictory"),
        ({"budgets": [{"metric": "pesq_wb", "min": float("nan")}]}, "budgets.*finite"),
        ({"budgets": [{"metric": "pesq", "min": 2}]}, "unknown metric 'pesq'"),
        ({"teacher": {"network": "dae_unet"}}, "teacher: say how to get it"),
        ({"teacher": {"checkpoint": "t.safetensors", "train": {}}}, "a checkpoint comes trained"),
        ({"distill": {"skip": True}}, r"distill is skipped, so give the model to begin with: prune: {enter: FILE}"),
        ({"quantize": {"skip": True}}, "convert needs what quantize makes"),
        ({"quantize": {"skip": True}, "convert": {"skip": True}}, "profile needs what convert makes"),
        ({"prune": {"ratio": 0.5, "until": {"parameters": 9}}}, "prune: name exactly one of ratio and until"),
        ({"prune": {"skip": True, "enter": "a.safetensors"}}, "prune: a stage is either skipped or entered"),
        ({"prune": {"enter": "a.safetensors"}, "quantize": {"enter": "b.tflite"}}, "only one stage can be entered"),
        ({"prune": {"enter": "model.onnx"}}, r"prune: 'model.onnx' cannot enter here; this stage takes \.safetensors"),
        ({"quantize": {"entry": {"frontend": {"rate": 48000}}}}, "the recipe's own frontend section"),
        ({"convert": {"enter": "a.tflite"}}, "convert: .* takes no file"),
        ({"prune": {"enter": "absent.safetensors"}}, r"prune\.enter: no such file: absent\.safetensors"),
        ({stage: {"skip": True} for stage in STAGES}, "every stage is skipped"),
    ],
)
def test_a_wrong_recipe_gets_one_clear_error(tmp_path: Path, changes: dict, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected) as caught:
        load_recipe(write(tmp_path, **changes))
    assert "mine.yaml" in caught.value.message
    assert len(caught.value.message) < 400


@pytest.mark.parametrize(
    ("changes", "stages"),
    [
        ({"prune": {"skip": True}}, ("distill", "quantize", "convert", "profile")),
        ({"profile": {"skip": True}}, ("distill", "prune", "quantize", "convert")),
        ({"prune": {"enter": "{file}.safetensors"}}, ("prune", "quantize", "convert", "profile")),
        ({"quantize": {"enter": "{file}.tflite"}, "prune": {"skip": True}}, ("quantize", "convert", "profile")),
        ({"quantize": {"enter": "{file}"}}, ("quantize", "convert", "profile")),  # a SavedModel folder
        ({"profile": {"enter": "{file}.tflite"}}, ("profile",)),
        ({stage: {"skip": True} for stage in STAGES[2:]}, ("distill", "prune")),
        ({"distill": {"enter": "{file}.safetensors"}}, STAGES),
    ],
)
def test_stages_are_skipped_and_entered(tmp_path: Path, changes: dict, stages: tuple[str, ...]) -> None:
    for suffix in (".safetensors", ".tflite", ""):
        (tmp_path / f"own{suffix}").touch()
    sections = {
        stage: {key: value.format(file=tmp_path / "own") if key == "enter" else value for key, value in section.items()}
        for stage, section in changes.items()
    }
    recipe = load_recipe(write(tmp_path, **sections))
    assert recipe.stages == stages


def test_prune_without_a_goal_takes_the_usual_ratio(tmp_path: Path) -> None:
    assert load_recipe(write(tmp_path)).prune.ratio == USUAL_RATIO
    assert load_recipe(write(tmp_path, prune={"ratio": 0.5})).prune.ratio == 0.5
    assert load_recipe(write(tmp_path, prune={"until": {"parameters": 9}})).prune.ratio is None


def test_skip_and_enter_are_no_part_of_a_stages_settings(tmp_path: Path) -> None:
    """Skipping prune must not give another identity to what is made all the same."""
    plain = load_recipe(write(tmp_path)).prune
    skipped = load_recipe(write(tmp_path, prune={"skip": True})).prune
    assert skipped.skip
    assert plain.settings() == skipped.settings()
    assert not {"skip", "enter"} & set(plain.settings())


def test_set_changes_one_key_and_nothing_else() -> None:
    plain = load_recipe("quickstart").model_dump()
    changed = load_recipe("quickstart", ["seed=7", "profile.repeats=2", "student.params.latent=8"]).model_dump()
    assert (changed["seed"], changed["profile"]["repeats"], changed["student"]["params"]["latent"]) == (7, 2, 8)
    changed["seed"] = plain["seed"]
    changed["profile"]["repeats"] = plain["profile"]["repeats"]
    changed["student"]["params"]["latent"] = plain["student"]["params"]["latent"]
    assert changed == plain


@pytest.mark.parametrize(
    ("text", "value"), [("3", 3), ("0.5", 0.5), ("null", None), ("[1, 2]", [1, 2]), ("true", True), ("a=b", "a=b")]
)
def test_set_values_are_yaml(text: str, value: object) -> None:
    assert apply_overrides({}, [f"student.params.key={text}"], Recipe) == {"student": {"params": {"key": value}}}


def test_set_reaches_into_lists_and_leaves_the_original_alone() -> None:
    original = {"budgets": [{"metric": "pesq_wb", "min": 2}]}
    assert apply_overrides(original, ["budgets.0.min=9"], Recipe)["budgets"][0]["min"] == 9
    assert original["budgets"][0]["min"] == 2


@pytest.mark.parametrize(
    ("override", "message", "hint"),
    [
        ("seed", "not a setting", "KEY=VALUE|key.subkey=value"),
        ("=3", "not a setting", ""),
        ("sed=3", "unknown key", "seed"),
        ("profile.repeat=3", "unknown key", r"profile\.repeats"),
        ("distil.method=none", "unknown key", r"distill\.method"),
        ("student.params.key=[", "not YAML", "quote"),
        ("name.sub=3", "nothing can be set at 'sub'", ""),
        ("budgets.99.min=3", "nothing can be set at '99'", ""),
    ],
)
def test_a_wrong_setting_is_refused(override: str, message: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load_recipe("quickstart", [override])
    import re

    assert re.search(hint, caught.value.hint or "")


def test_a_set_value_of_the_wrong_type_names_its_path() -> None:
    with pytest.raises(ConfigError, match=r"profile\.repeats: .*\(found 'many'\)"):
        load_recipe("quickstart", ["profile.repeats=many"])


def test_dotted_keys_know_nested_sections_and_unions() -> None:
    known = set(dotted_keys(Recipe))
    assert {"seed", "data.train.speech", "data.validation.fraction", "teacher.checkpoint", "budgets.use"} <= known
    assert "speech" not in known


def test_variables_are_expanded_everywhere_in_texts() -> None:
    raw = {"a": ["${ONE}/x", 3], "b": {"c": "${TWO:-two}${EMPTY:-}"}, "d": "$ONE {ONE}"}
    assert expand_variables(raw, {"ONE": "1"}) == {"a": ["1/x", 3], "b": {"c": "two"}, "d": "$ONE {ONE}"}
    with pytest.raises(ConfigError, match=r"b\.c: variable TWO is not set"):
        expand_variables({"b": {"c": "${TWO}"}}, {"ONE": "1", "TWO": ""})


def test_real16k_without_data_names_the_variable_and_both_ways_to_set_it() -> None:
    with pytest.raises(ConfigError, match=r"data\.train\.speech: variable EARSHOT_DATA is not set") as caught:
        load_recipe("real16k", environment={})
    assert "--data DIR" in (caught.value.hint or "")
    assert load_recipe("real16k", environment={"EARSHOT_DATA": "/d"}).data.test.path == Path("/d/test_pairs")
    assert load_recipe("real16k", data=Path("/e"), environment={"EARSHOT_DATA": "/d"}).data.test.path == Path(
        "/e/test_pairs"
    )


def test_data_for_a_recipe_that_does_not_use_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--data has no effect"):
        load_recipe("quickstart", data=tmp_path)


@pytest.mark.parametrize(
    ("source", "message"),
    [("quikstart", "no recipe 'quikstart'"), ("absent.yaml", r"absent\.yaml: no such file"), (".", "cannot be read")],
)
def test_a_recipe_that_is_not_there(source: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_recipe(source)


@pytest.mark.parametrize("text", ["a: [", "- a", "", "\x00", "a: !!python/object/apply:os.system [true]"])
def test_a_file_that_is_no_recipe(tmp_path: Path, text: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"mine\.yaml"):
        load_recipe(str(path))
