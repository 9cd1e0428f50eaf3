"""Budgets as data: what is accepted, what is refused and with which words."""

import math
from pathlib import Path

import pytest
import yaml

from earshot.ci.budget import Budget
from earshot.ci.budget_set import ALWAYS, BudgetSet, load_budgets, shipped, shipped_sets
from earshot.core.config import parse
from earshot.core.errors import ConfigError

ALWAYS_NAMES = {f"{metric}-not-worse-than-noisy" for metric in ("pesq_wb", "stoi", "si_sdr")}


@pytest.mark.parametrize(
    "value",
    [
        {"metric": "pesq_wb", "min": 2.25},
        {"metric": "pesq_wb", "min": 2, "max": 2},
        {"metric": "pesq_wb[lsmix]", "min": 1.75, "stage": "distill"},
        {"metric": "pesq_wb", "max": 4.0},
        {"metric": "pesq_wb", "relative_to": "float", "max_loss": 0.02},
        {"metric": "si_sdr", "relative_to": "noisy", "min_gain": 3, "unit": "dB", "better": "higher"},
        {"metric": "frame_p99_us", "target": "host", "max": 4000, "allow": "estimated", "severity": "warn"},
        {"metric": "model_bytes", "max": "1e6", "stage": "convert:mixed"},
        {"metric": "dnsmos", "min": 3, "unit": "MOS", "better": "higher"},
    ],
)
def test_accepts(value):
    assert parse(Budget, value, "budgets.yaml").title


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"metric": "pesq_wv", "min": 1}, "did you mean 'pesq_wb'"),
        ({"metric": "nonsense", "min": 1}, "known here: parameters"),
        ({"metric": "dnsmos", "min": 3, "unit": "MOS"}, "needs both unit and better"),
        ({"metric": "pesq_wb"}, "no limit"),
        ({"metric": "pesq_wb", "mim": 2}, "mim: unknown key; did you mean 'min'"),
        ({"metric": "pesq_wb", "min": math.nan}, "finite"),
        ({"metric": "pesq_wb", "max": math.inf}, "finite"),
        ({"metric": "pesq_wb", "min": "-inf"}, "finite"),
        ({"metric": "pesq_wb", "relative_to": "noisy", "max_loss": math.nan}, "finite"),
        ({"metric": "pesq_wb", "min": True}, "a number is needed"),
        ({"metric": "pesq_wb", "min": "high"}, "valid number"),
        ({"metric": "pesq_wb", "min": 3, "max": 2}, "contradictory"),
        ({"metric": "pesq_wb", "max_loss": 0.1}, "need relative_to"),
        ({"metric": "pesq_wb", "relative_to": "noisy"}, "exactly one of"),
        ({"metric": "pesq_wb", "relative_to": "noisy", "max_loss": 0, "min_gain": 0}, "exactly one of"),
        ({"metric": "pesq_wb", "relative_to": "noisy", "max_loss": 0, "min": 2}, "two budgets"),
        ({"metric": "pesq_wb", "relative_to": "noisy", "max_loss": -0.1}, "greater than or equal to 0"),
        ({"metric": "pesq_wb", "relative_to": "float", "stage": "convert:float32", "max_loss": 0}, "with itself"),
        ({"metric": "pesq_wb", "min": 2, "stage": "distil"}, "did you mean 'distill'"),
        ({"metric": "pesq_wb", "min": 2, "unit": "dB"}, "measured in MOS, not in dB"),
        ({"metric": "rtf", "max": 1, "better": "higher"}, "lower is better for rtf"),
        ({"metric": "rtf", "max": 1, "allow": "test_double"}, "allow"),
        ({"metric": "rtf", "max": 1, "min_n": -1}, "min_n"),
        ({"metric": "rtf", "max": 1, "severity": "ignore"}, "severity"),
    ],
)
def test_refuses(value, words):
    with pytest.raises(ConfigError) as caught:
        parse(BudgetSet, {"budgets": [value]}, "mine.yaml")
    assert "mine.yaml" in caught.value.message
    assert "budgets.0" in caught.value.message
    assert words in caught.value.message


def test_a_set_is_its_own_budgets_and_the_always_set():
    own = BudgetSet.model_validate([{"metric": "pesq_wb", "min": 2}])
    titles = [budget.title for budget in own.resolved()]
    assert set(titles) == ALWAYS_NAMES | {"pesq_wb ≥ 2 MOS"}


def test_without_switches_off_by_name_and_refuses_unknown_names():
    kept = BudgetSet(without=("stoi-not-worse-than-noisy",)).resolved()
    assert {budget.title for budget in kept} == ALWAYS_NAMES - {"stoi-not-worse-than-noisy"}
    with pytest.raises(ConfigError, match="did you mean 'stoi-not-worse-than-noisy'"):
        parse(BudgetSet, {"without": ["stoi-not-worse-then-noisy"]}, "mine.yaml")


def test_an_own_budget_replaces_a_shipped_one_of_its_name():
    own = {"name": "phone-rtf", "metric": "rtf", "max": 0.5}
    found = {b.title: b for b in BudgetSet.model_validate({"use": ["phone"], "budgets": [own]}).resolved()}
    assert found["phone-rtf"].max == 0.5
    assert {b.title: b for b in BudgetSet(use=("phone",)).resolved()}["phone-rtf"].max == 0.02


def test_budgets_that_cannot_both_pass_are_refused():
    low, high = {"metric": "pesq_wb", "min": 3}, {"metric": "pesq_wb", "max": 2}
    with pytest.raises(ConfigError, match="contradictory"):
        parse(BudgetSet, {"budgets": [low, high]}, "mine.yaml")
    parse(BudgetSet, {"budgets": [low, {**high, "stage": "distill"}]}, "mine.yaml")  # another row: no contradiction


def test_two_budgets_of_one_title_are_refused():
    with pytest.raises(ConfigError, match="name them apart"):
        parse(
            BudgetSet, {"budgets": [{"metric": "rtf", "max": 1}, {"metric": "rtf", "max": 1, "min_n": 3}]}, "mine.yaml"
        )


@pytest.mark.parametrize("name", [*shipped_sets(), ALWAYS])
def test_shipped_sets_load_are_named_and_cite_their_sources(name):
    budgets = shipped(name)
    assert budgets
    assert all(budget.name for budget in budgets)
    text = (Path(__file__).parents[2] / "ci" / "budgets" / f"{name}.yaml").read_text()
    assert text.count("#") >= 2


def test_the_device_classes_are_there():
    assert shipped_sets() == ("hearing-aid", "phone", "raspberry-pi")
    assert {budget.title for budget in load_budgets("hearing-aid").resolved()} > ALWAYS_NAMES


def test_a_32_ms_window_cannot_pass_a_hearing_aid_budget():
    (latency,) = [budget for budget in shipped("hearing-aid") if budget.metric == "algorithmic_latency_ms"]
    assert latency.max is not None and latency.max < 32


def test_a_file_and_a_recipe_section_hold_the_same(tmp_path):
    path = tmp_path / "mine.yaml"
    section = {"budgets": [{"metric": "pesq_wb", "min": 2}], "use": ["phone"]}
    path.write_text(yaml.safe_dump({"schema": "earshot.budgets/1", **section}))
    assert load_budgets(path) == parse(BudgetSet, section, "recipe.yaml")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("budgets: []\n", "begin the file with"),
        ("schema: earshot.budgets/2\n", "earshot.budgets/2"),
        ("schema: earshot.budgets/1\nbudget: []\n", "did you mean 'budgets'"),
        ("schema: earshot.budgets/1\nuse: [hearing-ait]\n", "did you mean 'hearing-aid'"),
        ("schema: [\n", "not valid YAML"),
        ("- a\n", "expected a mapping"),
    ],
)
def test_a_wrong_file_is_named(tmp_path, text, words):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_budgets(path)
    assert "mine.yaml" in caught.value.message
    assert words in f"{caught.value.message} {caught.value.hint}"


def test_an_unknown_name_and_a_missing_file():
    with pytest.raises(ConfigError, match="did you mean 'phone'"):
        load_budgets("phonr")
    with pytest.raises(ConfigError, match="no such file"):
        load_budgets("absent.yaml")
