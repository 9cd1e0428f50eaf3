"""Sound of a real run: what the page plays is what `enhance` writes, and what is gone costs its part only."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from earshot.ci.explanation import ClipLoss, Explanation, Finding, WorstClips
from earshot.ci.run_file import read_run
from earshot.ci.run_page import Listening
from earshot.core.errors import UsageError
from earshot.pipeline import listening
from earshot.pipeline.enhance import enhance_file
from earshot.pipeline.evidence import gather
from earshot.pipeline.listening import encode, listen, models_heard, source_of
from earshot.pipeline.recipe import load_recipe
from earshot.pipeline.run_page import make_page
from earshot.pipeline.runner import _data
from earshot.pipeline.store import Store

CLIPS = ("awb_000_car_0_5dB", "usannie_002_car_0_5dB")


class Home:
    """A copy of the finished store, and its only run."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.store = folder, Store(folder / ".earshot")
        (self.path,) = (folder / ".earshot" / "runs").glob("*.json")

    @property
    def run(self):
        return read_run(self.path)

    def listen(self, *clips: str, explanation: Explanation | None = None) -> Listening:
        return listen(self.run, gather(self.run, self.store), self.store, clips, explanation=explanation)

    def pairs(self):
        return {pair.id: pair for pair in _data(load_recipe(str(self.folder / "tiny.yaml")), self.store).test}

    def model(self, row: str) -> Path:
        identity = next(one.artifact for one in self.run.rows if one.row == row)
        artifact = self.store.find(identity)
        return next(artifact.file(name) for name in artifact.manifest.files if name.endswith(".tflite"))

    def change(self, **keys: object) -> None:
        self.path.write_text(json.dumps(json.loads(self.path.read_text()) | keys))


@pytest.fixture
def home(finished, tmp_path):
    shutil.copytree(finished.folder, tmp_path / "home")
    return Home(tmp_path / "home")


def samples(file: bytes) -> np.ndarray:
    """A FLAC file's 16-bit samples."""
    decoded, rate = soundfile.read(io.BytesIO(file), dtype="int16")
    assert rate == 16000
    return decoded


def test_every_clip_is_heard_in_four_versions_as_enhance_writes_them(home, tmp_path):
    found = home.listen()
    assert found.missing == () and found.metric == "si_sdr"
    assert sorted(clip.id for clip in found.clips) == sorted(CLIPS)
    pairs = home.pairs()
    for clip in found.clips:
        clean, noisy = pairs[clip.id].load()
        assert [version.name for version in clip.versions] == ["noisy", "float32", "int8", "clean"]
        assert clip.seconds == clip.whole_seconds == len(clean) / 16000
        source = tmp_path / f"{clip.id}.wav"
        soundfile.write(source, noisy, 16000, subtype="FLOAT")
        wanted = {"noisy": noisy, "clean": clean}
        for row in ("float32", "int8"):
            sink = tmp_path / f"{clip.id}.{row}.wav"
            enhance_file(home.model(f"convert:{row}"), source, sink)
            wanted[row] = soundfile.read(sink, dtype="float32")[0]
        for version in clip.versions:
            steps = np.clip(np.round(wanted[version.name].astype(np.float64) * 2**15), -(2**15), 2**15 - 1)
            np.testing.assert_array_equal(samples(version.sound), steps, err_msg=version.name)
    different = [samples(version.sound) for version in found.clips[0].versions]
    assert not any(np.array_equal(one, other) for index, one in enumerate(different) for other in different[:index])


def test_scores_beside_the_sound_are_those_of_the_run(home):
    scores = gather(home.run, home.store).scores
    for clip in home.listen().clips:
        told = {version.row: version.score for version in clip.versions}
        assert told.pop(None) is None
        assert told == {row: scores[row].column("si_sdr")[clip.id] for row in told}


def test_spectrograms_share_one_scale(home):
    for clip in home.listen().clips:
        low, high = clip.decibels
        assert high - low == 80 and high % 5 == 0
        shapes = {np.asarray(Image.open(io.BytesIO(version.picture))).shape for version in clip.versions}
        assert len(shapes) == 1


def test_clips_asked_for_are_heard_and_unknown_ones_refused(home):
    assert [clip.id for clip in home.listen(CLIPS[1]).clips] == [CLIPS[1]]
    with pytest.raises(UsageError, match="no clip 'awb_001'"):
        home.listen("awb_001")
    with pytest.raises(UsageError, match="at most 12"):
        home.listen(*(f"clip{index}" for index in range(13)))


def test_the_clip_of_a_missed_budget_comes_first(home):
    first = home.listen().clips[0].id
    other = next(name for name in CLIPS if name != first)
    lost = WorstClips("si_sdr", "dB", "convert:int8", "noisy", (ClipLoss(other, "all", 1.0, 3.0),), 1, 2)
    why = Explanation("run", (Finding("quality", "fail", "si_sdr", "convert:int8", None, clips=lost),))
    heard = home.listen(explanation=why).clips
    assert heard[0].id == other
    assert heard[0].why == "lost most for the budget quality: si_sdr -2 against noisy"


def test_sound_is_cut_until_it_fits_and_says_so(home, monkeypatch):
    whole = home.listen()
    size = sum(len(version.sound) + len(version.picture) for clip in whole.clips for version in clip.versions)
    monkeypatch.setattr(listening, "LARGEST_BYTES", size // 2)
    cut = home.listen()
    assert sum(len(one.sound) + len(one.picture) for clip in cut.clips for one in clip.versions) <= size // 2
    for short, long in zip(cut.clips, whole.clips, strict=True):
        assert short.seconds < short.whole_seconds == long.whole_seconds
        for less, more in zip(short.versions, long.versions, strict=True):
            kept = samples(less.sound)
            assert len(kept) == round(short.seconds * 16000)
            np.testing.assert_array_equal(kept, samples(more.sound)[: len(kept)])


def test_the_beginning_of_a_long_clip_sounds_as_in_the_whole(home, monkeypatch):
    whole = home.listen()
    monkeypatch.setattr(listening, "LONGEST_SECONDS", 0.5)
    monkeypatch.setattr(listening, "MARGIN_SECONDS", 0.25)
    for short, long in zip(home.listen().clips, whole.clips, strict=True):
        assert (short.seconds, short.whole_seconds) == (0.5, long.seconds)
        for less, more in zip(short.versions, long.versions, strict=True):
            np.testing.assert_array_equal(samples(less.sound), samples(more.sound)[:8000])


def test_levels_stay_and_clipping_is_counted():
    sound = np.array([0.5, -0.25, 1.5, -1.5, 32767 / 32768, -1.0, 1.0], np.float32)
    file, clipped = encode(sound, 16000)
    assert samples(file).tolist() == [16384, -8192, 32767, -32768, 32767, -32768, 32767]
    assert clipped == 3


def remove(home: Home, identity: str) -> None:
    (folder,) = (home.store.root / "artifacts").glob(f"*-{identity[:16]}")
    shutil.rmtree(folder)


def test_a_model_that_is_gone_costs_its_version_only(home):
    run = home.run
    remove(home, next(row.artifact for row in run.rows if row.row == "convert:int8"))
    found = home.listen()
    assert [version.name for version in found.clips[0].versions] == ["noisy", "float32", "clean"]
    assert "without convert:int8" in found.missing[0]


def test_data_that_is_gone_or_has_changed_leaves_a_page_with_the_reason(home):
    manifest = home.folder / "mixes.csv"
    recipe = json.loads(home.path.read_text())["recipe"]
    for split in ("train", "validation", "test"):
        recipe["data"][split]["path"] = str(manifest)
    home.change(recipe=recipe)
    assert home.listen().missing == ()
    manifest.write_text(manifest.read_text().replace(",5\n", ",4\n"))
    (reason,) = home.listen().missing
    assert "not what this run was scored on" in reason
    manifest.unlink()
    page = make_page(home.run, home.run.verdicts, home.store)
    assert page.listening.clips == () and "mixes.csv" in page.listening.missing[0]
    assert page.by_snr.keys() == {"noisy", "convert:float32", "convert:int8"}


def test_a_run_that_failed_half_way_is_heard_through_what_it_made(home):
    rows = json.loads(home.path.read_text())["rows"]
    home.change(status="failed", error="the disk is full", rows=rows[:3])
    assert [row.row for row in models_heard(home.run)] == ["distill"]
    assert [version.name for version in home.listen().clips[0].versions] == ["noisy", "distill", "clean"]
    home.change(rows=rows[:1])
    found = home.listen()
    assert [version.name for version in found.clips[0].versions] == ["noisy", "clean"]
    assert found.clips[0].why == "first in the test set"
    assert found.missing == ("no row of the run has a model to hear",)


def test_an_own_network_that_raises_anything_costs_the_sound_only(home, monkeypatch):
    def broken(pair):
        raise ZeroDivisionError("x")

    assert home.listen().missing == ()
    monkeypatch.setattr(listening, "_hear", lambda *arguments: broken(arguments))
    assert home.listen().missing == ("no sound: ZeroDivisionError: x",)


def test_of_several_microphones_the_first_is_heard():
    pair = type("Pair", (), {"load": lambda self: (np.zeros(8, np.float32), np.eye(2, 8, dtype=np.float32))})()
    heard = listening._hear(listening.Choice("x", ""), pair, [], 16000)
    assert heard.versions[0][2].tolist() == [1, 0, 0, 0, 0, 0, 0, 0]
    assert heard.whole == 8


def test_the_source_names_folders_by_their_last_name_only(home):
    run = home.run
    assert "mixes.csv" in source_of(run) and str(home.folder.parent) not in source_of(run)
    assert source_of(run.model_copy(update={"recipe": {}})) == ""
    assert "Apache-2.0" in source_of(run.model_copy(update={"recipe": {"data": {"test": {"kind": "embedded"}}}}))
