"""`earshot check` reads what its files' own commands read, refuses what they refuse, and imports nothing heavy."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from earshot.ci.evidence import Evidence, baseline_text
from earshot.ci.run_file import Row
from earshot.core.errors import ArtifactError, ConfigError
from earshot.core.measurement import Measurement
from earshot.pipeline.checking import check_file
from earshot.pipeline.cli.main import application
from earshot.pipeline.recipe import builtin_recipes

BUDGETS = "schema: earshot.budgets/1\nbudgets:\n  - {metric: pesq_wb, min: 2.2}\n"


def write(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_text(text)
    return folder / name


@pytest.fixture
def baseline(tmp_path):
    row = Row(row="convert:int8", measurements=(Measurement("si_sdr", 9.25, "dB", 2),))
    evidence = Evidence(name="r1", run="r1", rows=(row,))
    return write(tmp_path, "main.json", baseline_text(evidence))


def test_recipes_studies_and_budgets_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.delenv("EARSHOT_DATA", raising=False)  # real16k names it, and its data are not here
    assert check_file(builtin_recipes()["real16k"]) == "recipe real16k"
    assert check_file(builtin_recipes()["cnnc"].parents[1] / "studies" / "cnnc.yaml") == "study cnnc"
    assert check_file(write(tmp_path, "b.yml", BUDGETS)) == "4 budgets"  # with the three that belong to every gate


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("r.yaml", "name: r\ndistil: {epochs: 3}\n", "distil"),
        ("r.yaml", "name: r\ndistill: {epochs: many}\n", "epochs"),
        ("r.yaml", "name: r\nprune: {ratio: 0.2\n", "r.yaml"),
        ("r.yaml", "name: r\nseed: ${NOT_SET_ANYWHERE}\n", "NOT_SET_ANYWHERE"),
        ("b.yaml", BUDGETS.replace("min", "least"), "least"),
        ("b.yaml", BUDGETS.replace("/1", "/9"), "earshot.budgets/9"),
        # Two changes that a merge put one below the other: the first list of budgets would be gone without a word.
        ("b.yaml", BUDGETS + BUDGETS.partition("\n")[2], r"b\.yaml line 4: .*'budgets' stands there twice"),
        ("b.yaml", BUDGETS.replace("min: 2.2", "min: 2.2, min: 1.1"), "'min' stands there twice"),
        ("r.yaml", "a: " + "[" * 20_000, "nested too deeply"),
        ("r.yaml", "a: &a [*a]\n", r"r\.yaml line 1: .*recursive"),
        ("s.yaml", "name: s\nstudents: {}\nmethods: {}\n", "students"),
        ("notes.txt", "", "neither YAML nor JSON"),
    ],
)
def test_mistakes_are_named(tmp_path, name, text, said):
    with pytest.raises(ConfigError, match=said):
        check_file(write(tmp_path, name, text))


def test_a_baseline_reads_until_it_is_harmed(baseline):
    whole = baseline.read_text()
    assert check_file(baseline) == "baseline, r1"
    assert "9.25" in whole
    harmed = (
        whole.replace("9.25", "9.35"),
        whole[:-20],
        f"<<<<<<< HEAD\n{whole}=======\n{whole}>>>>>>> change\n",  # left in conflict by a merge
        whole.replace("earshot.baseline/1", "earshot.baseline/7"),
        "[]",
    )
    for text in harmed:
        baseline.write_text(text)
        with pytest.raises(ArtifactError, match=r"main\.json"):
            check_file(baseline)


def test_a_run_file_reads(tmp_path):
    run = {"schema": "earshot.run/1", "name": "r1"}
    with pytest.raises(ArtifactError, match="r1"):
        check_file(write(tmp_path, "r1.json", json.dumps(run)))  # lacks all but its name


def test_every_file_is_looked_at_and_one_mistake_decides(tmp_path, baseline):
    wrong = write(tmp_path, "wrong.yaml", "nam: x\n")
    found = CliRunner().invoke(application, ["check", "--", str(wrong), str(baseline)])
    assert found.exit_code == 2
    assert f"{baseline}: baseline, r1" in found.output
    assert f"error: {wrong}" in found.output
    assert CliRunner().invoke(application, ["check", str(baseline)]).exit_code == 0


def test_words_of_a_file_steer_neither_a_terminal_nor_a_ci_system(tmp_path):
    key = '"\\e[2J\\n::error::x"'
    named = write(tmp_path, "a\n::error::b.yaml", BUDGETS)
    files = [str(write(tmp_path, "r.yaml", f"name: r\n{key}: 1\n")), str(named)]
    found = CliRunner().invoke(application, ["check", "--", *files])
    assert found.exit_code == 2
    assert "::error::x: unknown key" in found.output and "::error::b.yaml: 4 budgets" in found.output
    assert "\x1b" not in found.output and "\n::error::" not in found.output


def test_nothing_heavy_is_imported():
    code = (
        "import sys, earshot.pipeline.checking; print(*sorted({'torch', 'scipy', 'ai_edge_litert'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
