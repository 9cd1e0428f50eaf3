"""The embedded pack keeps its promises, and the script that made it makes it again."""

import csv
import hashlib
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from earshot.core.errors import DataError, ToolError
from earshot.pipeline.data import make_pack
from earshot.pipeline.data.config import DataConfig, EmbeddedConfig
from earshot.pipeline.data.open import open_data
from earshot.pipeline.data.pack_noises import KINDS, hum, pink, shaped, white
from earshot.pipeline.data.pack_text import SENTENCES
from earshot.pipeline.data.pack_voices import CROWDS, PACKAGES, SPEAKERS
from earshot.pipeline.data.sources import PACK

SPLITS = ("train", "validation", "test")
RATE = 16000


@pytest.fixture(scope="module")
def table() -> list[dict[str, str]]:
    return list(csv.DictReader((PACK / "manifest.csv").open()))


def test_it_is_small_and_rich(table: list[dict[str, str]]) -> None:
    assert sum(path.stat().st_size for path in PACK.rglob("*") if path.is_file()) <= 6_000_000
    speech = [row for row in table if row["file"].startswith("speech/")]
    assert len(speech) >= 120
    assert len({row["name"] for row in speech}) >= 10
    assert {row["name"] for row in table if row["file"].startswith("noise/")} == set(KINDS)
    assert len(KINDS) >= 8


def test_splits_share_no_voice_sentence_noise_or_file(table: list[dict[str, str]]) -> None:
    voices = [{voice.voice for voice in (*SPEAKERS[split], *CROWDS[split])} for split in SPLITS]
    variants = [{name.split("+")[-1] for name in names} for names in voices]
    sentences = [set(SENTENCES[split]) for split in SPLITS]
    details = [{(r["name"], r["detail"]) for r in table if r["split"] == split} for split in SPLITS]
    contents = [
        {hashlib.sha256((PACK / row["file"]).read_bytes()).digest() for row in table if row["split"] == split}
        for split in SPLITS
    ]
    for sets in (voices, variants, sentences, details, contents):
        assert len(set.union(*sets)) == sum(map(len, sets))


def test_every_file_is_sound(table: list[dict[str, str]]) -> None:
    assert {row["file"] for row in table} == {str(path.relative_to(PACK)) for path in PACK.rglob("*.flac")}
    for row in table:
        sound, rate = soundfile.read(PACK / row["file"])
        assert rate == RATE and sound.ndim == 1
        assert 1e-4 < np.sqrt(np.mean(sound**2)) < 0.1, row["file"]
        assert np.abs(sound).max() < 0.95, row["file"]
        assert abs(sound.mean()) < 0.1 * np.sqrt(np.mean(sound**2)), row["file"]
        if row["file"].startswith("speech/"):
            assert 1.2 <= len(sound) / rate <= 2.5


def test_the_fixed_mixes_cover_kinds_and_snrs() -> None:
    data = open_data(DataConfig(validation=EmbeddedConfig()), RATE)
    assert set(Counter(pair.group for pair in data.test)) == set(KINDS)
    assert 24 <= len(data.test) <= 30 and 12 <= len(data.validation) <= 16
    snrs = [pair.snr_db for pair in data.test if pair.snr_db is not None]
    assert min(snrs) == -5 and max(snrs) == 15
    # No voice and no kind is tied to one SNR: they would be confounded in every breakdown.
    for key in (lambda pair: pair.group, lambda pair: pair.id.split("_")[0]):
        for name in {key(pair) for pair in data.test}:
            assert len({pair.snr_db for pair in data.test if key(pair) == name}) >= 3
    for pair in (*data.validation, *data.test):
        _, noisy = pair.load()
        assert np.abs(noisy).max() < 0.99
        assert np.sqrt(np.mean(noisy**2)) == pytest.approx(10 ** (-26 / 20), rel=1e-3)


def test_raw_quality_spans_the_scale_of_pesq() -> None:
    from pesq import pesq

    data = open_data(DataConfig(validation=EmbeddedConfig()), RATE)
    scores = [pesq(RATE, *pair.load(), "wb") for pair in data.test]
    assert min(scores) < 1.1 and max(scores) > 2.2


def test_it_serves_48_khz_band_limited() -> None:
    clean, noisy = open_data(DataConfig(validation=EmbeddedConfig()), 48000).test[0].load()
    assert len(clean) == len(noisy) == 3 * len(open_data(DataConfig(), RATE).test[0].load()[0])
    power = np.abs(np.fft.rfft(clean * np.hanning(len(clean)))) ** 2
    edge = int(8300 / 24000 * len(power))
    assert power[edge:].sum() < 1e-6 * power.sum()


# ---- the noises are what their names say


def spectrum_db(sound: np.ndarray, points: list[float]) -> np.ndarray:
    power = np.abs(np.fft.rfft(sound)) ** 2
    frequency = np.fft.rfftfreq(len(sound), 1 / RATE)
    bands = [(frequency > f / 1.19) & (frequency < f * 1.19) for f in points]
    return 10 * np.log10([power[band].mean() for band in bands])


def test_spectra_follow_their_parameters() -> None:
    rng = np.random.default_rng(0)
    octaves = [125.0, 250.0, 500.0, 1000.0, 2000.0, 4000.0]
    falls = -np.diff(spectrum_db(pink(rng, 20 * RATE, RATE, slope=3.0), octaves))
    np.testing.assert_allclose(falls, 3.0, atol=0.4)
    level = spectrum_db(white(rng, 20 * RATE, RATE, edge=6000), [*octaves, 7500.0])
    np.testing.assert_allclose(level[:-1], level[0], atol=0.5)
    assert level[-1] < level[0] - 20
    flat = shaped(rng, 20 * RATE, RATE, ((100, 0), (1000, -20), (8000, -20)))
    np.testing.assert_allclose(np.subtract(*spectrum_db(flat, [100.0, 3000.0])), 20, atol=1)


def test_hum_stands_on_the_mains() -> None:
    power = np.abs(np.fft.rfft(hum(np.random.default_rng(0), 4 * RATE, RATE, mains=50, count=10, hiss=0.01))) ** 2
    hertz = np.arange(len(power)) / 4
    on, off = (np.abs((hertz / 50 + shift + 0.5) % 1 - 0.5) < 0.05 for shift in (0.0, 0.5))
    inside = (hertz > 25) & (hertz < 525)
    assert power[on & inside].sum() > 100 * power[off & inside].sum()


# ---- the script


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    missing = [program for program in PACKAGES if shutil.which(program) is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not installed: the pack cannot be made again here")
    place = tmp_path_factory.mktemp("pack")
    make_pack.make(place)
    return place


def test_the_script_makes_the_pack_again(made: Path) -> None:
    make_pack.compare(made, PACK)


def test_a_changed_pack_is_noticed(made: Path, tmp_path: Path) -> None:
    copy = tmp_path / "pack"

    def fresh() -> Path:
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(PACK, copy)
        return copy

    victim = sorted(fresh().rglob("*.flac"))[5]
    sound, rate = soundfile.read(victim, dtype="int16")
    sound[500] += 3
    soundfile.write(victim, sound, rate, subtype="PCM_16")
    with pytest.raises(DataError, match=victim.name):
        make_pack.compare(made, copy)
    next((fresh() / "noise").rglob("*.flac")).unlink()
    with pytest.raises(DataError, match="other files"):
        make_pack.compare(made, copy)
    (fresh() / "mixes.csv").write_text("split\n")
    with pytest.raises(DataError, match=r"mixes\.csv"):
        make_pack.compare(made, copy)


def test_missing_programs_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolError, match=r"espeak-ng and flite") as caught:
        make_pack.make(tmp_path / "pack")
    assert caught.value.hint == "install it: apt-get install espeak-ng flite"
    assert not (tmp_path / "pack").exists()
