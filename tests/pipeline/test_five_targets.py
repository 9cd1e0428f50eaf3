"""One run over targets of every class that needs no device: one table, and a verdict for each budget of each."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from earshot.core.errors import EarshotError
from earshot.pipeline.data.config import EmbeddedConfig
from earshot.pipeline.data.sources import material
from earshot.pipeline.recipe import load_recipe
from earshot.pipeline.stages.profile import read_profile
from earshot.pipeline.store import Store
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
# The quickstart's student, as pruning leaves it.
STUDENT = {"channels": (16, 32), "strides": (8, 4), "latent": 48, "hidden": 48, "widths": (32, 64, 32)}
CONVOLUTIONS = {"CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV"}
CACHE = os.environ.get("EARSHOT_CACHE")  # before other tests point it elsewhere
RECIPE = """
name: five
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


def require(name: str, reason: str) -> None:
    """Skips for a target that is not ready; fails where all have to be, which EARSHOT_REQUIRE_TARGETS says."""
    if reason and os.environ.get("EARSHOT_REQUIRE_TARGETS"):
        pytest.fail(f"{name} has to be ready here: {reason}")
    if reason:
        pytest.skip(reason)


def write_student(path: Path) -> None:
    """An int8 student of random weights, calibrated on speech in noise."""
    import torch

    from earshot.models.dae_unet import DaeUnet, DaeUnetParams
    from earshot.models.frontend import Frontend
    from earshot.quantize.calibration import calibrate
    from earshot.quantize.export import export_float
    from earshot.quantize.integer import quantize_graph
    from earshot.quantize.metadata import read_description, write_stream_model
    from earshot.quantize.ranges import tie
    from earshot.targets.agent import Stft

    torch.manual_seed(0)
    model, whole = DaeUnet(Frontend(), DaeUnetParams(**STUDENT)).eval(), path.with_name("float32.tflite")
    graph, stft = export_float(model, whole), Stft(Frontend().model_dump())
    noisy = material(EmbeddedConfig(), "test", stft.rate).pairs(stft.rate, None, None, 0)[0].load()[1]
    features = stft.features(stft.analyse(noisy[: noisy.size // stft.hop * stft.hop]))
    content = quantize_graph(whole, tie(graph, calibrate(whole, features[None, None])), "int8")
    write_stream_model(path, content, read_description(whole).model_copy(update={"precision": "int8"}))


@pytest.fixture(scope="module", autouse=True)
def users_cache() -> Iterator[None]:
    """What targets were set up with lies in the user's cache folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("EARSHOT_CACHE", raising=False)
        if CACHE is not None:
            patch.setenv("EARSHOT_CACHE", CACHE)
        yield


def earshot(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from earshot.pipeline.cli.main import main; main()", *arguments]
    clean = {key: value for key, value in os.environ.items() if not key.startswith("EARSHOT") or key == "EARSHOT_CACHE"}
    return subprocess.run(command, cwd=folder, env=clean, capture_output=True, text=True, timeout=550, check=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("five")
    write_student(folder / "i.tflite")
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
    require(name, why_not(name))
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


def test_convolutions_make_up_most_of_what_is_measured(
    finished: tuple[dict[str, Any], subprocess.CompletedProcess[str]], folder: Path
) -> None:
    require("cortex-m4", why_not("cortex-m4"))
    artifact = Store(folder / ".earshot").find(finished[0]["artifacts"]["profile on cortex-m4"])
    assert artifact is not None
    operators = read_profile(artifact)["results"]["entered"]["operators"]
    convolutions = sum(one["value"] for one in operators if one["name"] in CONVOLUTIONS)
    assert convolutions > 0.5 * sum(one["value"] for one in operators)


@pytest.mark.parametrize(("required", "ends"), [("1", pytest.fail.Exception), ("", pytest.skip.Exception)])
def test_a_target_that_is_not_ready_fails_where_it_has_to_be(
    required: str, ends: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EARSHOT_REQUIRE_TARGETS", required)
    monkeypatch.setenv("PATH", "")
    reason = why_not("cortex-m4")
    assert "not installed" in reason
    with pytest.raises(ends, match="not installed"):
        require("cortex-m4", reason)
    require("cortex-m4", "")


def test_the_same_run_again_measures_nothing_anew_and_reads_the_same(
    finished: tuple[dict[str, Any], subprocess.CompletedProcess[str]], folder: Path
) -> None:
    before, _ = finished
    shutil.copytree(folder, folder.with_name("again"))
    ready = ",".join(name for name in FIVE if not why_not(name))
    planned = earshot(folder.with_name("again"), "plan", "five.yaml", "--targets", ready)
    assert planned.returncode == 0, planned.stderr
    assert planned.stdout.count(" cached ") == len(before["artifacts"])
