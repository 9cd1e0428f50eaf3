"""Several microphones from the recipe to a file: streaming equals the checkpoint, scored and enhanced from channels."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from tiny_recipe import PACK, earshot, newest_run, rows, value

from earshot.core.errors import DataError, ModelError
from earshot.models import checkpoint
from earshot.models.frontend import Frontend
from earshot.models.registry import build
from earshot.pipeline.enhance import enhance_file
from earshot.pipeline.enhancers import CheckpointEnhancer, Passthrough, TfliteEnhancer
from earshot.quantize.export import export_float

RATE = 16000
FRONTEND = Frontend(window=16, hop=8, fft=16, features="complex", mask="complex", channels=2)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> tuple[Path, Path]:
    """A random FT-JNF of two microphones: checkpoint and stream model."""
    folder = tmp_path_factory.mktemp("array")
    torch.manual_seed(0)
    model = build("ft_jnf", FRONTEND, {"hidden_frequency": 4, "hidden_time": 4}).eval()
    checkpoint.save(model, "ft_jnf", folder / "model.safetensors")
    export_float(model, folder / "model.tflite", "ft_jnf")
    return folder / "model.safetensors", folder / "model.tflite"


@pytest.fixture
def noisy():
    return 0.1 * np.random.default_rng(0).standard_normal((2, 4000)).astype(np.float32)


@pytest.mark.slow
def test_checkpoint_stream_and_file_agree(files, noisy, tmp_path) -> None:
    parent, stream = (
        kind(path).open(RATE) for kind, path in zip((CheckpointEnhancer, TfliteEnhancer), files, strict=True)
    )
    wanted = parent(noisy)
    assert wanted.shape == (4000,)
    np.testing.assert_allclose(stream(noisy), wanted, atol=1e-5)
    assert np.abs(parent(noisy[::-1].copy()) - wanted).max() > 1e-3  # negative control: microphones are not alike

    soundfile.write(tmp_path / "in.wav", noisy.T, RATE, subtype="FLOAT")
    report = enhance_file(files[1], tmp_path / "in.wav", tmp_path / "out.wav")
    enhanced, rate = soundfile.read(tmp_path / "out.wav", dtype="float32", always_2d=True)
    assert (rate, report.channels, enhanced.shape) == (RATE, 1, (4000, 1))
    np.testing.assert_allclose(enhanced[:, 0], wanted, atol=1e-5)


@pytest.mark.slow
def test_another_number_of_microphones_names_both(files, noisy, tmp_path) -> None:
    for kind, path in zip((CheckpointEnhancer, TfliteEnhancer), files, strict=True):
        for sound, found in ((noisy[0], 1), (np.concatenate([noisy, noisy[:1]]), 3)):
            with pytest.raises(ModelError, match=f"2 microphones, the data has {found}"):
                kind(path).open(RATE)(sound)
    soundfile.write(tmp_path / "three.wav", np.repeat(noisy[:1].T, 3, axis=1), RATE)
    with pytest.raises(DataError, match="3 channels, but 2 microphones are needed") as caught:
        enhance_file(files[1], tmp_path / "three.wav", tmp_path / "out.wav")
    assert "three.wav" in caught.value.message
    assert not (tmp_path / "out.wav").exists()


def test_the_noisy_score_is_the_first_microphones(noisy) -> None:
    assert np.array_equal(Passthrough().open(RATE)(noisy), noisy[0])
    assert np.array_equal(Passthrough().open(RATE)(noisy[1]), noisy[1])


# The recipe that comes with earshot, with everything that costs time made small; what is wired to what stays.
SMALL = {
    "frontend.window": 32,
    "frontend.hop": 16,
    "frontend.fft": 32,
    "data.train.scenes.count": 2,
    "data.validation.pairs": 2,
    "data.validation.seconds": 1,
    "data.test.pairs": 4,
    "data.test.seconds": 1,
    "teacher.params": "{hidden_frequency: 8, hidden_time: 6}",
    "student.params": "{hidden_frequency: 4, hidden_time: 3}",
    "quantize.clips": 2,
    "quantize.parity_seconds": 0.2,
    "convert.parity_seconds": 0.2,
    "profile.frames": 50,
    "profile.repeats": 2,
    "metrics": "[si_sdr]",
    # A few steps teach nothing: the run passes on what does not depend on them.
    "budgets": "{budgets: [{metric: float_operators, max: 0}, {metric: 'si_sdr[snr10]', min: -40}],"
    " without: [pesq_wb-not-worse-than-noisy, stoi-not-worse-than-noisy, si_sdr-not-worse-than-noisy]}",
} | {
    f"{section}.{key}": number
    for section in ("teacher.train", "distill")
    for key, number in {
        "epochs": 1,
        "steps_per_epoch": 2,
        "batch": 2,
        "segment_seconds": 0.5,
        "launcher.threads": 1,
    }.items()
}


@pytest.fixture(scope="module")
def material(tmp_path_factory) -> Path:
    """The embedded pack in the layout that the recipe asks for."""
    folder = tmp_path_factory.mktemp("material")
    for part, place in (("speech/train", "train/speech"), ("noise/train", "train/noise")):
        (folder / place).parent.mkdir(exist_ok=True)
        (folder / place).symlink_to(PACK / part)
    (folder / "test_pairs").mkdir()
    (folder / "test_pairs/clean").symlink_to(PACK / "speech/test")
    return folder


@pytest.mark.slow
def test_the_array_recipe_from_simulated_rooms_to_the_gate(material, tmp_path) -> None:
    pytest.importorskip("pyroomacoustics", reason="pip install 'earshot[arrays]'")
    sets = [part for key, number in SMALL.items() for part in ("--set", f"{key}={number}")]
    done = earshot(tmp_path, "run", "array", "--data", str(material), *sets)
    assert done.returncode == 0, done.stdout + done.stderr
    run = newest_run(tmp_path)
    found = rows(run)
    assert list(found) == ["noisy", "teacher", "distill", "quantize", "convert:float32", "convert:int8"]
    assert value(found["distill"], "parameters") < value(found["teacher"], "parameters")

    # Four scenes, one at each SNR. Late reflections count as noise in SI-SDR and pauses in the SNR: near is enough.
    for snr in (-5, 0, 5, 10):
        assert value(found["noisy"], f"si_sdr[snr{snr}]") == pytest.approx(snr, abs=2)
    groups = [value(found["convert:int8"], f"si_sdr[snr{snr}]") for snr in (-5, 0, 5, 10)]
    assert value(found["convert:int8"], "si_sdr") == pytest.approx(np.mean(groups))
    assert groups != [value(found["noisy"], f"si_sdr[snr{snr}]") for snr in (-5, 0, 5, 10)]

    # Whole files of the teacher, streams of the student: float as trained, integers as the reference has them.
    assert value(found["convert:float32"], "si_sdr") == pytest.approx(value(found["distill"], "si_sdr"), abs=1e-3)
    assert value(found["quantize"], "si_sdr") == pytest.approx(value(found["convert:int8"], "si_sdr"), abs=0.2)
    assert value(found["convert:int8"], "float_operators") == 0
    assert value(found["convert:int8"], "rtf") > 0
    assert {verdict["status"] for verdict in run["verdicts"]} == {"pass"}

    stricter = [part.replace("min: -40", "min: 60") for part in sets]
    held = earshot(tmp_path, "run", "array", "--data", str(material), *stricter)
    assert held.returncode == 1  # negative control: the gate looks at the group
    failed = [verdict["metric"] for verdict in newest_run(tmp_path)["verdicts"] if verdict["status"] == "fail"]
    assert failed == ["si_sdr[snr10]"]
    assert all(row["cached"] for row in rows(newest_run(tmp_path)).values())
