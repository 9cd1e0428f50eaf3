"""One run over targets of every class that needs no device: one table, and a verdict for each budget of each."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tiny_recipe import tiny_models

from earshot.core.errors import EarshotError
from earshot.pipeline.recipe import load_recipe
from earshot.targets.base import load_profile
from earshot.targets.registry import device_budgets, open_target

pytestmark = pytest.mark.slow  # an emulated board starts in half a minute

FIVE = ("host", "pi4-emulated", "cortex-m4", "cortex-m55", "ethos-u55")
HOW = {
    "host": {"measured"},
    "pi4-emulated": {"emulated"},
    "cortex-m4": {"measured", "emulated", "estimated"},
    "cortex-m55": {"measured", "emulated", "estimated"},
    "ethos-u55": {"estimated"},
}
RECIPE = """
name: five
frontend: {window: 64, hop: 32, fft: 64}
profile: {enter: i.tflite, frames: 20, repeats: 2}
metrics: [si_sdr]
budgets: {without: [pesq_wb-not-worse-than-noisy, stoi-not-worse-than-noisy, si_sdr-not-worse-than-noisy]}
"""


def why_not(name: str) -> str:
    """The command that enables a target, empty when it is ready."""
    try:
        state = open_target(name).availability()
    except EarshotError as error:
        return error.message
    return "" if state.ok else f"{name}: {state.reason}; {state.enable}"


def earshot(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from earshot.pipeline.cli.main import main; main()", *arguments]
    # The cache folder is the user's: what targets were set up with is there.
    clean = {key: value for key, value in os.environ.items() if not key.startswith("EARSHOT") or key == "EARSHOT_CACHE"}
    return subprocess.run(command, cwd=folder, env=clean, capture_output=True, text=True, timeout=550, check=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("five")
    tiny_models().write_tiny(folder / "i.tflite", "smoother", integer=True)
    (folder / "five.yaml").write_text(RECIPE)
    return folder


@pytest.fixture(scope="module")
def finished(folder: Path) -> tuple[dict[str, Any], subprocess.CompletedProcess[str]]:
    """The run over all targets that are ready, and how it ended."""
    ready = ",".join(name for name in FIVE if not why_not(name))
    done = earshot(folder, "run", "five.yaml", "--quiet", "--targets", ready, "--report", "five.html")
    (path,) = (folder / ".earshot" / "runs").glob("*.json")
    return json.loads(path.read_text()), done


@pytest.mark.parametrize("name", FIVE)
def test_a_target_has_its_line_its_numbers_and_a_verdict_for_each_budget(
    name: str,
    finished: tuple[dict[str, Any], subprocess.CompletedProcess[str]],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if reason := why_not(name):
        pytest.skip(reason)
    content, done = finished
    assert done.returncode in (0, 1), done.stderr
    assert content["failures"] == []
    (row,) = [row for row in content["rows"] if row["row"] == "entered"]
    found = {one["metric"]: one for one in row["measurements"] if one.get("target") == name}
    assert found, "nothing was measured"
    assert {one["provenance"] for one in found.values()} <= HOW[name]
    budgeted = {budget["metric"] for budget in device_budgets(name)}
    assert budgeted <= set(found) and budgeted <= set(load_profile(name).metrics)
    titles = {verdict["budget"]: verdict for verdict in content["verdicts"]}
    monkeypatch.chdir(folder)
    for budget in load_recipe("five.yaml", [f"profile.targets=[{name}]"]).budgets.devices:
        verdict = titles[budget.title]
        assert verdict["target"] == name and verdict["value"] == found[budget.metric]["value"]
    assert any(line.startswith(name) for line in done.stdout.splitlines())
    assert name in (folder / "five.html").read_text()


def test_the_same_run_again_measures_nothing_anew_and_reads_the_same(
    finished: tuple[dict[str, Any], subprocess.CompletedProcess[str]], folder: Path
) -> None:
    before, _ = finished
    shutil.copytree(folder, folder.with_name("again"))
    ready = ",".join(name for name in FIVE if not why_not(name))
    planned = earshot(folder.with_name("again"), "plan", "five.yaml", "--targets", ready)
    assert planned.returncode == 0, planned.stderr
    assert planned.stdout.count(" cached ") == len(before["artifacts"])
