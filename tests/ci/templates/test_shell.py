"""The shell recipe that all templates run, with real runs of a tiny recipe under the system's POSIX shell."""

import json
import os
import subprocess
import xml.etree.ElementTree as ElementTree

import pytest
from ci_job import GATE, HOSTILE, SAMPLE, run_gate, tool


def reports(folder):
    return {path.name for path in (folder / "earshot-reports").iterdir()}


ALL = {"gate.md", "gate.xml", "gate.json", "gate.html"}


def test_the_main_branch_publishes_its_run(team):
    assert {path.name for path in (team / "published").iterdir()} == ALL | {"baseline.json"}
    written = json.loads((team / "published" / "baseline.json").read_text())
    result = json.loads((team / "published" / "gate.json").read_text())
    assert written["schema"] == "earshot.baseline/1"
    assert written["run"] == result["run"]
    assert {verdict["metric"] for verdict in result["verdicts"]} == {"model_bytes"}  # the other one needs a baseline
    assert (team / "cache" / "tags").is_dir()


def test_a_change_is_held_against_the_baseline(folder):
    done = run_gate(folder, GATE_BUDGETS="kept.yaml", GATE_BASELINE="main.json")
    assert done.returncode == 0, done.stderr
    assert reports(folder) == ALL
    result = json.loads((folder / "earshot-reports" / "gate.json").read_text())
    assert [verdict["status"] for verdict in result["verdicts"]] == ["pass", "pass"]


def test_a_missed_budget_is_exit_code_1_with_its_reason(folder):
    done = run_gate(folder, GATE_BUDGETS="missed.yaml", GATE_PUBLISH="true", GATE_REPORTS="out/of the way")
    assert done.returncode == 1
    assert "tiny" in (folder / "out" / "of the way" / "gate.md").read_text().splitlines()[4]
    failures = ElementTree.parse(folder / "out" / "of the way" / "gate.xml").findall(".//failure")
    assert len(failures) == 1
    assert not (folder / "out" / "of the way" / "baseline.json").exists()  # what failed is no baseline


def test_a_wrong_request_leaves_no_verdict_behind(folder):
    assert run_gate(folder, GATE_BUDGETS="kept.yaml", GATE_BASELINE="main.json").returncode == 0
    done = run_gate(folder, GATE_BUDGETS="kept.yaml", GATE_BASELINE="absent.json")
    assert done.returncode == 2
    assert "absent.json" in done.stderr
    assert reports(folder) == {"gate.md"}
    assert "no verdict (exit code 2)" in (folder / "earshot-reports" / "gate.md").read_text()


def test_another_machine_makes_nothing_again(folder, team):
    (folder / ".earshot").unlink()
    done = run_gate(folder, GATE_BUDGETS="kept.yaml", GATE_CACHE=str(team / "cache"))
    assert done.returncode == 0, done.stderr  # the baseline, a tag, came from the cache too
    (path,) = [one for one in (folder / ".earshot" / "runs").glob("*.json") if one.name not in known_runs(team)]
    made = [row for row in json.loads(path.read_text())["rows"] if row.get("artifact") and not row["cached"]]
    assert made == []


def known_runs(team):
    return {path.name for path in (team / "cache" / "runs").iterdir()}


def test_an_empty_cache_is_no_failure_but_a_missing_baseline_is(folder):
    cache = folder / "nothing"
    cache.mkdir()
    empty = folder / "empty-store"
    done = run_gate(folder, GATE_BUDGETS="kept.yaml", GATE_CACHE=str(cache), EARSHOT_HOME=str(empty))
    assert done.returncode == 2
    assert "going on without" in done.stderr
    assert "no run is tagged 'baseline'" in done.stderr
    assert run_gate(folder, GATE_BUDGETS="missed.yaml", GATE_CACHE=str(cache)).returncode == 1


def test_a_baseline_of_an_earlier_job_never_stands_in_for_one_that_did_not_come(folder):
    """The store that jobs hand on has the tag; where the cache would have moved it is not known."""
    settings = {"GATE_BUDGETS": "kept.yaml", "GATE_CACHE": str(folder / "gone")}
    assert run_gate(folder, **settings | {"GATE_BASELINE": "main.json"}).returncode == 0
    done = run_gate(folder, **settings)
    assert done.returncode == 2
    assert "no run is tagged 'baseline'" in done.stderr


def test_the_run_that_was_judged_is_published_and_no_newer_one(folder):
    """Another job's run came in between, or was made where the clock is ahead."""
    (newer,) = [path for path in (folder / ".earshot" / "runs").glob("*.json") if path.stem in published(folder)]
    kept = newer.stat().st_mtime_ns
    os.utime(newer, ns=(kept, kept + 86_400 * 10**9))
    try:
        done = run_gate(folder, GATE_BUDGETS="kept.yaml", GATE_PUBLISH="true")
    finally:
        os.utime(newer, ns=(kept, kept))
    assert done.returncode == 0, done.stderr
    out = folder / "earshot-reports"
    written, result = (json.loads((out / name).read_text()) for name in ("baseline.json", "gate.json"))
    assert written["run"] == result["run"] != newer.stem
    assert published(folder) == {result["run"]}


def published(folder):
    return set(json.loads((folder / ".earshot" / "tags.json").read_text()).values())


def test_a_baseline_that_could_not_be_sent_is_no_success(folder):
    (folder / "file").touch()
    done = run_gate(folder, GATE_BUDGETS="kept.yaml", GATE_PUBLISH="true", GATE_CACHE=str(folder / "file" / "cache"))
    assert done.returncode == 3


def test_secrets_stay_unsaid(folder):
    secrets = {
        "AWS_ACCESS_KEY_ID": "AKIAEARSHOTTESTS0001",
        "AWS_SECRET_ACCESS_KEY": "never/to/be/seen/0123456789abcdef",
    }
    done = run_gate(
        folder, GATE_BUDGETS="missed.yaml", GATE_CACHE="s3://AKIAEARSHOTTESTS0001:hidden-word@host/x", **secrets
    )
    assert done.returncode == 1  # the location is refused, and nothing of it is needed
    written = "".join(path.read_text() for path in (folder / "earshot-reports").iterdir())
    for secret in (*secrets.values(), "hidden-word"):
        assert secret not in done.stdout + done.stderr + written


@pytest.mark.parametrize(
    ("variable", "code"),
    [
        ("GATE_RECIPE", 2),
        ("GATE_DATA", 2),
        ("GATE_TARGETS", 2),
        ("GATE_BUDGETS", 2),
        ("GATE_BASELINE", 2),
        ("GATE_REMEASURE", 2),
        ("GATE_SOUND", 2),
        ("GATE_PUBLISH", 2),
        ("GATE_REPORTS", 1),  # a folder may be called so
        ("GATE_CACHE", 1),
        ("GATE_TAG", 1),
    ],
)
def test_no_value_is_ever_a_command_or_an_option(folder, variable, code):
    settings = {"GATE_BUDGETS": "missed.yaml"}
    if variable == "GATE_BASELINE":
        settings["GATE_BUDGETS"] = "kept.yaml"
    if variable == "GATE_TAG":
        settings["GATE_CACHE"] = str(folder / "nothing")
    done = run_gate(folder, **settings | {variable: HOSTILE})
    assert done.returncode == code, done.stderr
    done = run_gate(folder, **settings | {variable: "--help"})
    assert done.returncode == code, done.stderr
    assert "Usage: earshot run [OPTIONS]" not in done.stdout
    assert not list(folder.rglob("pwned"))


def test_the_hostile_value_bites_where_it_is_not_quoted(tmp_path):
    """Negative control: the same text in scripts that quote badly."""
    for number, quote in enumerate(("", "'", '"')):
        subprocess.run(["sh", "-c", f"true {quote}{HOSTILE}{quote}"], cwd=tmp_path, check=False, capture_output=True)
        assert (tmp_path / "pwned").exists(), number
        (tmp_path / "pwned").unlink()


def test_without_earshot_the_machine_is_at_fault(folder):
    done = subprocess.run(
        ["sh", GATE], cwd=folder, env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 3
    assert "no earshot on the PATH" in done.stderr


@pytest.mark.slow
def test_times_are_taken_anew(folder):
    budgets = (folder / "missed.yaml").read_text().splitlines()[:-1]
    budget = "  - {metric: frame_p50_us, target: host, relative_to: baseline, max_loss_percent: 60}"
    (folder / "times.yaml").write_text("\n".join([*budgets, budget, ""]))
    done = run_gate(folder, GATE_BUDGETS="times.yaml", GATE_REMEASURE="true")
    assert done.returncode == 0, done.stderr
    (verdict,) = json.loads((folder / "earshot-reports" / "gate.json").read_text())["verdicts"]
    assert "rounds" in verdict["reason"]


@pytest.mark.parametrize("script", [GATE, SAMPLE / "flow.sh"], ids=lambda path: path.name)
def test_shellcheck_has_nothing_to_say(script):
    done = subprocess.run([tool("shellcheck"), "--shell=sh", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_shellcheck_says_something_of_a_value_without_quotes(tmp_path):
    """Negative control."""
    (tmp_path / "gate.sh").write_text(GATE.read_text().replace('-- "$reports" ||', "-- $reports ||"))
    done = subprocess.run([tool("shellcheck"), tmp_path / "gate.sh"], capture_output=True, text=True, check=False)
    assert "SC2086" in done.stdout
