"""`earshot profile` and the profile stage on several targets: what one cannot do never costs the others' results."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import pytest
from tiny_recipe import tiny_models

from earshot import ci
from earshot.ci.budget import Budget
from earshot.core.errors import ConfigError
from earshot.pipeline.recipe import load_recipe

HERE = Path(__file__).parent
SCHEMA = Path(ci.__file__).parent / "schema" / "run.schema.json"
COUNTING, INT8_ONLY, ABSENT, VANISHING, BUGGY = (
    f"users_targets:{name}" for name in ("Counting", "Int8Only", "Absent", "Vanishing", "Buggy")
)


def earshot(cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from earshot.pipeline.cli.main import main; main()", *arguments]
    clean = {key: value for key, value in os.environ.items() if not key.startswith("EARSHOT")}
    clean |= {"EARSHOT_DEVICES": str(cwd / "devices.yaml")}
    return subprocess.run(command, cwd=cwd, env=clean, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two tiny stream models and the targets' module."""
    tiny = tiny_models()
    folder = tmp_path_factory.mktemp("models")
    tiny.write_tiny(folder / "f.tflite", "smoother")
    tiny.write_tiny(folder / "i.tflite", "smoother", integer=True)
    shutil.copy(HERE / "users_targets.py", folder)
    return folder


def on(*targets: str) -> list[str]:
    return [part for target in targets for part in ("--target", target)]


QUICK = ("--frames", "20", "--repeats", "2", "--quiet")


def test_targets_beside_each_other_give_one_comparison(models: Path) -> None:
    files = ("--csv", "out.csv", "--html", "out.html", "--json")
    done = earshot(models, "profile", "f.tflite", "i.tflite", *on("host", COUNTING, INT8_ONLY), *QUICK, *files)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["schema"] == "earshot.profile/1"
    host, counting, int8 = found["devices"]
    assert [device["target"] for device in found["devices"]] == ["host", COUNTING, INT8_ONLY]
    assert [result["model"] for result in host["results"]] == ["f.tflite", "i.tflite"]
    assert host["results"][0]["histogram"]["counts"]
    size = (models / "i.tflite").stat().st_size
    for device in (counting, int8):
        (result,) = (one for one in device["results"] if one["model"] == "i.tflite")
        assert result["measurements"][0]["value"] == size
        assert result["operators"][0]["name"] == "CONV_2D"
    assert int8["left_out"] == {"f.tflite": f"{INT8_ONLY} runs int8; this model is float32"}
    rows = list(csv.DictReader((models / "out.csv").open()))
    assert {(row["target"], row["model"]) for row in rows} >= {("host", "f.tflite"), (INT8_ONLY, "f.tflite")}
    page = (models / "out.html").read_text()
    assert page.startswith("<!doctype html>") and INT8_ONLY in page


def cells(table: str) -> dict[str, list[str]]:
    """First cell -> the others, of every line of a table on the terminal."""
    lines = [[cell.strip() for cell in line.strip("│┃ ").replace("┃", "│").split("│")] for line in table.splitlines()]
    return {line[0]: line[1:] for line in lines if len(line) > 1}


def test_one_targets_table_says_how_many_samples_were_taken_not_how_many_were_asked_for(models: Path) -> None:
    done = earshot(models, "profile", "f.tflite", "i.tflite", *on(COUNTING), *QUICK)
    assert done.returncode == 0, done.stderr
    table = cells(done.stdout)
    sizes = [f"≈{(models / name).stat().st_size:,}" for name in ("f.tflite", "i.tflite")]
    assert table["metric"] == ["unit", "n", "f.tflite", "i.tflite"]
    assert table["instructions_per_frame"] == ["instructions", "1", *sizes]
    assert "20 frames" not in done.stdout and "repeats" not in done.stdout
    assert f"on {COUNTING}, one stream" in done.stdout
    timed = cells(earshot(models, "profile", "i.tflite", *on("host"), *QUICK).stdout)
    assert (timed["rtf"][1], timed["frame_p50_us"][1]) == ("2", "40")


def test_failing_targets_are_shown_and_the_others_results_kept(models: Path) -> None:
    done = earshot(models, "profile", "i.tflite", *on(ABSENT, COUNTING, VANISHING, BUGGY), *QUICK, "--csv", "kept.csv")
    assert done.returncode == 3
    assert "≈" in done.stdout and "no mark: measured" not in done.stdout
    for reason in (
        "it is not plugged in",
        "fix: plug it in",
        "it went away",
        "fix: look for it",
        "unexpected KeyError",
    ):
        assert reason in " ".join(done.stdout.split())
    assert done.stderr.splitlines()[-1] == f"error: 3 of 4 targets failed: {ABSENT}, {VANISHING}, {BUGGY}"
    ends = {row["target"]: row["provenance"] for row in csv.DictReader((models / "kept.csv").open())}
    assert ends == {ABSENT: "failed", COUNTING: "estimated", VANISHING: "failed", BUGGY: "failed"}


def test_one_target_that_fails_ends_as_any_failure_does(models: Path) -> None:
    done = earshot(models, "profile", "i.tflite", *on(ABSENT), *QUICK)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.splitlines() == [f"error: target {ABSENT}: it is not plugged in", "fix: plug it in"]
    refused = earshot(models, "profile", "f.tflite", *on(INT8_ONLY), *QUICK)
    assert refused.returncode == 2
    assert "it runs int8, and no model given is of such a precision" in refused.stderr


def test_an_interrupt_ends_every_target_in_order(models: Path, tmp_path: Path) -> None:
    for name in ("i.tflite", "users_targets.py"):
        shutil.copy(models / name, tmp_path)
    command = [sys.executable, "-c", "from earshot.pipeline.cli.main import main; main()", "profile", "i.tflite"]
    targets = on("users_targets:Endless", COUNTING)
    with subprocess.Popen([*command, *targets, "--quiet"], cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        while not (tmp_path / "started").exists() and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert (tmp_path / "tidied").exists()
    assert "interrupted" in said and "Traceback" not in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("i.tflite", "--target", "host", "--target", "hots"), "did you mean 'host'?"),
        (("absent.tflite", "--target", COUNTING), "absent.tflite: no such file"),
        (("i.tflite", "--target", "users_targets:Nothing"), "has no attribute 'Nothing'"),
    ],
)
def test_a_wrong_request_ends_before_any_target_starts(models: Path, arguments: tuple[str, ...], message: str) -> None:
    done = earshot(models, "profile", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr


def test_devices_of_the_inventory_are_targets_from_add_to_remove(models: Path, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("")
    shutil.copy(models / "i.tflite", tmp_path)
    added = earshot(tmp_path, "targets", "add", "desk-pi", "--ssh", "pi@[::1]:2222", "--key", "key", "--set", "core=3")
    assert (added.returncode, added.stdout) == (0, f"desk-pi: added to {tmp_path}/devices.yaml\n"), added.stderr
    assert earshot(tmp_path, "targets", "add", "mine", "--profile", "host").returncode == 0
    shown = earshot(tmp_path, "targets", "show", "desk-pi").stdout
    assert all(part in shown for part in ("host: ::1", "port: 2222", "user: pi", f"key: {tmp_path}/key", "core: 3"))
    listed = earshot(tmp_path, "targets").stdout
    assert all(name in listed for name in ("desk-pi", "mine", "host", "raspberry-pi-5"))
    profiled = earshot(tmp_path, "profile", "i.tflite", "--target", "mine", *QUICK, "--json")
    assert profiled.returncode == 0, profiled.stderr
    (device,) = json.loads(profiled.stdout)["devices"]
    assert device["target"] == "mine" and device["results"][0]["measurements"][0]["target"] == "mine"
    doctor = json.loads(earshot(tmp_path, "doctor", "--json").stdout)
    assert {"target desk-pi", "target mine", "target raspberry-pi-4"} <= {finding["name"] for finding in doctor}
    assert earshot(tmp_path, "targets", "remove", "mine").returncode == 0
    gone = earshot(tmp_path, "profile", "i.tflite", "--target", "mine")
    assert (gone.returncode, "unknown target 'mine'" in gone.stderr) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--ssh", "pi:secret@host"), "passwords are not kept"),
        (("--ssh", "h", "--adb", "X"), "not both"),
        (("--ssh", "h", "--key", "absent"), "--key absent: no such file"),
        (("--key", "k"), "--key belongs to --ssh"),
        ((), "which device is it?"),
        (("--ssh", "h", "--profile", "raspberry-pi-9"), "did you mean 'raspberry-pi-"),
        (("--ssh", "h", "--set", "prot=2"), "did you mean 'port'?"),
        (("--ssh", "h", "--set", "password=x"), "holds a secret"),
    ],
)
def test_what_cannot_be_added_is_refused_and_nothing_is_written(
    tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    done = earshot(tmp_path, "targets", "add", "mine", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_setup_makes_each_target_ready_and_one_that_fails_stops_no_other(tmp_path: Path) -> None:
    shutil.copy(HERE / "users_targets.py", tmp_path)
    names = [f"users_targets:{name}" for name in ("CannotBeBuilt", "NeedsBuilding", "Counting")]
    done = earshot(tmp_path, "targets", "setup", *names)
    assert done.returncode == 3
    assert done.stdout.splitlines() == [f"{name}: ready" for name in names[1:]]
    assert "error: make: not found\nfix: apt-get install make" in done.stderr
    assert (tmp_path / "built").exists()
    assert earshot(tmp_path, "targets", "setup", "--quiet", *names[1:]).returncode == 0
    absent = earshot(tmp_path, "targets", "setup", ABSENT)
    assert (absent.returncode, "fix: plug it in" in absent.stderr) == (3, True)


def test_a_wrong_inventory_is_a_finding_of_the_doctor(tmp_path: Path) -> None:
    (tmp_path / "devices.yaml").write_text("nonsense: 1\n")
    done = earshot(tmp_path, "doctor", "--json")
    assert done.returncode == 0
    (finding,) = [one for one in json.loads(done.stdout) if one["name"] == "your own devices"]
    assert "schema is None" in finding["detail"]


RECIPE = """
name: several
profile: {enter: i.tflite, targets: [host], frames: 20, repeats: 2}
metrics: [si_sdr]
budgets:
  without: [pesq_wb-not-worse-than-noisy, stoi-not-worse-than-noisy, si_sdr-not-worse-than-noisy]
  budgets:
    - {metric: instructions_per_frame, target: "users_targets:Counting", max: 1000000}
    - {metric: rtf, target: "users_targets:Vanishing", max: 1, allow: estimated}
"""


@pytest.fixture
def folder(models: Path, tmp_path: Path) -> Path:
    for name in ("i.tflite", "users_targets.py"):
        shutil.copy(models / name, tmp_path)
    (tmp_path / "several.yaml").write_text(RECIPE)
    return tmp_path


def run(folder: Path, targets: str, *more: str) -> tuple[int, dict, subprocess.CompletedProcess[str]]:
    done = earshot(folder, "run", "several.yaml", "--quiet", "--targets", targets, *more)
    path = max((folder / ".earshot" / "runs").glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
    return done.returncode, json.loads(path.read_text()), done


@pytest.mark.slow  # three runs, which score the test set once
def test_a_run_keeps_what_the_other_targets_gave_and_says_which_failed(folder: Path) -> None:
    code, content, done = run(folder, f"host,{VANISHING},{COUNTING}", "--report", "r.html", "--report", "r.csv")
    assert code == 3, done.stderr
    jsonschema.validate(content, json.loads(SCHEMA.read_text()))
    assert (content["status"], content["error"]) == ("complete", None)
    assert content["failures"] == [
        {"target": VANISHING, "error": f"target {VANISHING}: it went away", "fix": "look for it"}
    ]
    (row,) = [row for row in content["rows"] if row["row"] == "entered"]
    assert {one["target"] for one in row["measurements"] if "target" in one} == {"host", COUNTING}
    verdicts = {one["budget"]: one for one in content["verdicts"]}
    assert verdicts[f"{VANISHING} was profiled"]["status"] == "fail"
    assert verdicts[f"rtf ≤ 1 ({VANISHING})"]["status"] == "fail"
    assert "it went away" in verdicts[f"rtf ≤ 1 ({VANISHING})"]["reason"]
    assert verdicts[f"instructions_per_frame ≤ 1,000,000 instructions ({COUNTING})"]["status"] == "pass"
    assert {"profile on host", f"profile on {COUNTING}"} <= set(content["artifacts"])
    assert f"profile on {VANISHING}" not in content["artifacts"]
    for file in ("r.html", "r.csv"):
        text = (folder / file).read_text()
        assert "it went away" in text and COUNTING in text
    assert "CONV_2D" in (folder / "r.html").read_text(), "the operators are in the artifact, not in the run file"

    # What worked is used again; what failed is tried again.
    again, content, done = run(folder, f"host,{COUNTING}")
    assert content["failures"] == []
    assert [row["cached"] for row in content["rows"]] == [True, True]
    assert again == 1, "the budget on a target that was not asked for is not measured, which fails"

    code, content, _ = run(folder, f"{ABSENT},{BUGGY}")
    assert code == 3
    assert [failure["target"] for failure in content["failures"]] == [ABSENT, BUGGY]


def test_a_result_follows_its_targets_tools_and_a_machines_clock_its_machine(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Identities alone: nothing is run."""
    from earshot.pipeline.stages import profile as stage
    from earshot.targets.base import ProfileConfig

    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))

    def identity(name: str, config: ProfileConfig = ProfileConfig()) -> str:  # noqa: B008 - frozen
        return stage.profile(name, config, models={}).step.id

    versioned, counting, host = (identity(name) for name in ("users_targets:Versioned", COUNTING, "host"))
    assert versioned == identity("users_targets:Versioned")
    assert identity(COUNTING, ProfileConfig(frames=3)) != counting
    Path("tool-version").write_text("2")
    assert identity("users_targets:Versioned") != versioned
    assert identity(COUNTING) == counting
    monkeypatch.setattr(stage, "_machine", lambda: "another")
    assert (identity(COUNTING), identity("host") == host) == (counting, False)
    (folder / "users_targets.py").write_text((folder / "users_targets.py").read_text() + "\n# changed\n")
    assert identity(COUNTING) != counting


def test_targets_bring_the_budgets_of_their_profiles_along(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EARSHOT_DEVICES", str(folder / "devices.yaml"))
    (folder / "devices.yaml").write_text(
        "schema: earshot.devices/1\ndevices: {desk: {profile: raspberry-pi-4, options: {host: h}}}"
    )
    monkeypatch.chdir(folder)

    def brought(*settings: str) -> dict[str, Budget]:
        return {budget.title: budget for budget in load_recipe("several.yaml", settings).budgets.resolved()}

    assert "desk-real-time" not in brought()
    found = brought("profile.targets=[host, desk]")
    assert (found["desk-real-time"].target, found["desk-real-time"].metric) == ("desk", "hop_rtf")
    assert {"desk-real-time", "desk-deadlines"} <= set(found)
    off = brought("profile.targets=[desk]", "budgets.without=[desk-real-time]", "budgets.budgets=[]")
    assert "desk-real-time" not in off and "desk-deadlines" in off
    own = "budgets.budgets=[{name: desk-real-time, metric: hop_rtf, target: desk, max: 0.5}]"
    assert brought("profile.targets=[desk]", own)["desk-real-time"].max == 0.5
    with pytest.raises(ConfigError, match=r"several.yaml: profile.targets: unknown target 'desc'"):
        brought("profile.targets=[desc]")
    with pytest.raises(ConfigError, match="target 'desk' is named twice"):
        brought("profile.targets=[desk, desk]")
    kept = load_recipe("several.yaml", ("profile.targets=[desk]",)).model_dump(mode="json")["budgets"]
    assert [budget["name"] for budget in kept["devices"]] == ["desk-real-time", "desk-deadlines"]
