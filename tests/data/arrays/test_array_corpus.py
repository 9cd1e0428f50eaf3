"""Four microphones and room responses that others made (SpeechBrain's test samples): directions, scores, rooms."""

import csv
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from earshot.models import checkpoint
from earshot.models.frontend import Frontend
from earshot.models.registry import build
from earshot.pipeline.data.arrays.geometry import positions
from earshot.pipeline.data.config import DataConfig, ManifestConfig, MixConfig, Mixing
from earshot.pipeline.data.open import open_data
from earshot.pipeline.data.sources import material
from earshot.pipeline.enhance import enhance_file
from earshot.pipeline.enhancers import CheckpointEnhancer, Passthrough, TfliteEnhancer
from earshot.pipeline.evaluation import evaluate
from earshot.quantize.export import export_float

RATE = 16000
SOUND = 343.0
SECONDS = 2
pytestmark = [
    pytest.mark.corpus,
    pytest.mark.skipif("EARSHOT_CORPUS" not in os.environ, reason="needs the development corpus (EARSHOT_CORPUS)"),
]
FOUR = Path(os.environ.get("EARSHOT_CORPUS", "")) / "multichannel"


def samples(name: str) -> np.ndarray:
    """`[microphones, samples]` of the one file whose name begins so."""
    [path] = sorted((FOUR / "4mic").glob(f"{name}*"))[:1]
    return soundfile.read(path, dtype="float64", always_2d=True, frames=SECONDS * RATE)[0].T


def lag(first: np.ndarray, second: np.ndarray, up: int = 16) -> float:
    """Seconds by which `second` is later: the peak of the phase transform's correlation (Knapp and Carter 1976)."""
    size = 2 * len(first)
    cross = np.fft.rfft(second, size) * np.conj(np.fft.rfft(first, size))
    correlation = np.fft.irfft(cross / np.maximum(np.abs(cross), 1e-12), up * size)
    at = int(np.argmax(np.abs(correlation)))
    return (at if at < up * size // 2 else at - up * size) / (up * RATE)


@pytest.mark.parametrize("name", ["speech_-0.82918", "speech_-0.98894", "noise_0.70225"])
def test_square4_hears_directions_where_the_files_say_they_are(name: str) -> None:
    [path] = (FOUR / "4mic").glob(f"{name}*")
    towards = np.array([float(part) for part in path.stem.split("_")[1:]])
    sounds = samples(name)
    places = np.array(positions("square4"))[[0, 1, 3, 2]]  # the corners in the order of these files
    for other in range(1, 4):
        expected = (places[0] - places[other]) @ towards / SOUND  # farther along the direction, heard earlier
        assert lag(sounds[0], sounds[other]) == pytest.approx(expected, abs=1.5 / RATE)
    # Negative control: the array turned by half a circle hears the opposite.
    apart = [lag(sounds[0], sounds[other]) + (places[0] - places[other]) @ towards / SOUND for other in range(1, 4)]
    assert max(map(abs, apart)) > 3 / RATE


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> Path:
    """A manifest of the two talkers in diffuse noise."""
    path = tmp_path_factory.mktemp("four") / "four.csv"
    speech = sorted((FOUR / "4mic").glob("speech_*"))
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["split", "speech", "noise", "snr_db", "id", "group"])
        for index, (talker, noise) in enumerate(zip(speech, ("noise_diffuse", "noise_0"), strict=True)):
            [other] = (FOUR / "4mic").glob(f"{noise}*")
            rows.writerow(["test", talker, other, 3, f"talker{index}", noise])
    return path


@pytest.mark.slow
def test_four_microphones_are_scored_and_enhanced(table: Path, tmp_path: Path) -> None:
    pairs = material(ManifestConfig(kind="manifest", path=table), "test", RATE, 4).pairs(RATE, None, None, 0)
    noisy = evaluate(Passthrough(), pairs, ["si_sdr"], RATE, workers=1)
    for clip in noisy.clips:
        assert clip.values["si_sdr"] == pytest.approx(3, abs=2)  # against speech in its pauses too

    torch.manual_seed(0)
    frontend = Frontend(window=32, hop=16, fft=32, features="complex", mask="complex", channels=4)
    model = build("ft_jnf", frontend, {"hidden_frequency": 4, "hidden_time": 3}).eval()
    checkpoint.save(model, "ft_jnf", tmp_path / "model.safetensors")
    export_float(model, tmp_path / "model.tflite", "ft_jnf")
    whole, stream = (
        evaluate(kind(tmp_path / name), pairs, ["si_sdr"], RATE, workers=1)
        for kind, name in ((CheckpointEnhancer, "model.safetensors"), (TfliteEnhancer, "model.tflite"))
    )
    for ours, theirs, before in zip(stream.clips, whole.clips, noisy.clips, strict=True):
        assert ours.values["si_sdr"] == pytest.approx(theirs.values["si_sdr"], abs=0.01)
        assert abs(ours.values["si_sdr"] - before.values["si_sdr"]) > 0.1

    [recording] = (FOUR / "4mic").glob("noise_diffuse*")
    report = enhance_file(tmp_path / "model.tflite", recording, tmp_path / "out.wav")
    enhanced = soundfile.read(tmp_path / "out.wav")[0]
    assert (report.channels, enhanced.shape) == (1, (10 * RATE,))
    heard = soundfile.read(recording, dtype="float32")[0].T
    np.testing.assert_allclose(
        enhanced, CheckpointEnhancer(tmp_path / "model.safetensors").open(RATE)(heard), atol=1e-4
    )


def test_recorded_rooms_reverberate_mixes() -> None:
    corpus = FOUR.parent

    def opened(reverb: float) -> tuple:
        mixing = Mixing(reverb=reverb, snr_db=(90, 90))
        section = MixConfig(
            kind="mix",
            speech=corpus / "test_pairs/clean",
            noise=corpus / "fullband48k/noise",
            rir=FOUR / "rir",
            mixing=mixing,
            pairs=8,
            seconds=2,
        )
        data = DataConfig(
            train=MixConfig(kind="mix", speech=corpus / "train/speech", noise=corpus / "train/noise"),
            validation={"kind": "holdout", "pairs": 1},
            test=section,
        )
        return tuple(open_data(data, RATE).test)

    wet, dry = opened(1.0), opened(0.0)
    used = {pair.source.rir for pair in wet}
    assert used <= set((FOUR / "rir").glob("*.flac"))
    assert len(used) > 1
    late = []
    for pair in wet:
        clean, noisy = pair.load()
        correlation = [np.dot(clean[200 + shift : 20000 + shift], noisy[200:20000]) for shift in range(-50, 51)]
        assert int(np.argmax(correlation)) == 50  # aligned: the clean sound is the early part of what is heard
        late.append(np.mean((noisy - clean) ** 2) / np.mean(clean**2))
    assert 1e-3 < np.median(late) < 1
    for pair in dry:  # negative control: without rooms and noise both are one
        assert pair.source.rir is None
        clean, noisy = pair.load()
        assert np.mean((noisy - clean) ** 2) < 1e-6 * np.mean(clean**2)
