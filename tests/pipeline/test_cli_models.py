"""Commands that take a model, on real ones: a random network as checkpoint and as converted stream models."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from earshot.core.measurement import Measurement
from earshot.models import checkpoint
from earshot.models.frontend import Frontend
from earshot.models.registry import build
from earshot.pipeline.runs import write_run
from earshot.pipeline.store import Store
from earshot.quantize.convert import ConvertConfig, convert_model
from earshot.quantize.plan import quantize_model

pytestmark = pytest.mark.slow  # converting a network takes 15 s

RATE = 16000


def earshot(cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from earshot.pipeline.cli.main import main; main()", *arguments]
    clean = {key: value for key, value in os.environ.items() if not key.startswith("EARSHOT")}
    return subprocess.run(command, cwd=cwd, env=clean, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pairs, a checkpoint, and a store whose newest run made that checkpoint's device files."""
    folder = tmp_path_factory.mktemp("models")
    dice = np.random.default_rng(0)
    for name, seconds in (("a_one", 1.5), ("b_two", 2.0)):
        time = np.arange(int(seconds * RATE)) / RATE
        clean = 0.2 * np.sin(2 * np.pi * 300 * time) * (1 + np.sin(2 * np.pi * 3 * time))
        for kind, sound in (("clean", clean), ("noisy", clean + 0.05 * dice.standard_normal(time.size))):
            (folder / "pairs" / kind).mkdir(parents=True, exist_ok=True)
            soundfile.write(folder / "pairs" / kind / f"{name}.wav", sound, RATE, subtype="PCM_16")

    torch.manual_seed(0)
    frontend = Frontend()
    model = build("dae_unet", frontend, {"channels": [4, 4], "strides": [4, 4], "latent": 8, "hidden": 8}).eval()
    checkpoint.save(model, "dae_unet", folder / "model.safetensors")
    features = frontend.analyse(0.05 * torch.randn(1, RATE)).sequence
    (folder / "plan").mkdir()
    quantize_model(model, features, folder / "plan")

    def producer(out: Path, work: Path) -> list[Measurement]:
        convert_model(folder / "plan", out, ConvertConfig(variants=("float32", "int8")), features)
        return []

    store = Store(folder / ".earshot")
    made = store.build("convert", 1, config={}, inputs={}, producer=producer)
    row = {"row": "convert:int8", "stage": "convert", "artifact": made.id}
    write_run(store, "one", {"schema": "earshot.run/1", "name": "one", "status": "complete", "rows": [row]})
    return folder


def si_sdr(folder: Path, model: str) -> list[float]:
    done = earshot(
        folder, "evaluate", model, "--data", "pairs", "--metric", "si_sdr", "--quiet", "--json", "scores.json"
    )
    assert done.returncode == 0, done.stderr
    assert "2 clips at 16000 Hz" in done.stdout
    return [clip["values"]["si_sdr"] for clip in json.loads((folder / "scores.json").read_text())["clips"]]


def artifact(folder: Path) -> str:
    return Store(folder / ".earshot").folders()[0].name


def test_evaluate_scores_the_noisy_pairs_as_they_are(folder: Path) -> None:
    clean, noisy = (
        soundfile.read(folder / "pairs" / kind / "a_one.wav", dtype="float64")[0] for kind in ("clean", "noisy")
    )
    scale = (clean @ noisy) / (clean @ clean)
    expected = 10 * np.log10((scale * clean) @ (scale * clean) / ((noisy - scale * clean) @ (noisy - scale * clean)))
    assert si_sdr(folder, "noisy")[0] == pytest.approx(expected, abs=0.01)


def test_a_checkpoint_and_its_float_stream_model_score_alike_and_int8_near(folder: Path) -> None:
    parent = si_sdr(folder, "model.safetensors")
    assert si_sdr(folder, f"{artifact(folder)}/model.float32.tflite") == pytest.approx(parent, abs=0.01)
    assert si_sdr(folder, f"{artifact(folder)}/model.int8.tflite") == pytest.approx(parent, abs=3.0)
    assert parent != pytest.approx(si_sdr(folder, "noisy"), abs=0.01)  # the network does something


def test_profile_times_several_models_on_the_host(folder: Path) -> None:
    names = [f"{artifact(folder)}/model.{variant}.tflite" for variant in ("int8", "float32")]
    done = earshot(folder, "profile", *names, "--frames", "20", "--repeats", "2", "--quiet", "--json")
    assert done.returncode == 0, done.stderr
    (device,) = json.loads(done.stdout)["devices"]
    results = device["results"]
    assert [result["model"] for result in results] == ["model.int8.tflite", "model.float32.tflite"]
    for result in results:
        found = {measurement["metric"]: measurement for measurement in result["measurements"]}
        assert 0 < found["frame_p50_us"]["value"] <= found["frame_max_us"]["value"]
        assert found["rtf"]["target"] == "host"
    refused = earshot(folder, "profile", "model.safetensors")
    assert (refused.returncode, "only a .tflite" in refused.stderr) == (2, True)


def test_enhance_takes_the_newest_runs_model_and_keeps_rate_and_length(folder: Path) -> None:
    done = earshot(folder, "enhance", "pairs/noisy/a_one.wav", "out.wav")
    assert done.returncode == 0, done.stderr
    assert "model.int8.tflite" in done.stdout
    header = soundfile.info(folder / "out.wav")
    assert (header.samplerate, header.frames) == (RATE, int(1.5 * RATE))


def test_a_truncated_model_is_named_and_nothing_is_written(folder: Path) -> None:
    whole = Store(folder / ".earshot").open(Store(folder / ".earshot").folders()[0]).file("model.int8.tflite")
    short = folder / "short.tflite"
    short.write_bytes(whole.read_bytes()[:2000])
    for arguments in (["enhance", "pairs/noisy/a_one.wav", "none.wav", "--model"], ["profile"], ["evaluate"]):
        done = earshot(folder, *arguments, "short.tflite")
        assert done.returncode == 2, (arguments, done.stderr)
        assert "short.tflite" in done.stderr.splitlines()[-2]
        assert "Traceback" not in done.stderr
    assert not (folder / "none.wav").exists()
