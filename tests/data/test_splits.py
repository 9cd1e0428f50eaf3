"""From a recipe's data section to three disjoint splits, and one clear error for every way data can be wrong."""

import csv
import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from earshot.core.config import parse
from earshot.core.errors import ConfigError, DataError
from earshot.pipeline.data.base import Data
from earshot.pipeline.data.config import DataConfig
from earshot.pipeline.data.ingredients import FixedMix, Ingredients
from earshot.pipeline.data.open import open_data

RATE = 16000


@pytest.fixture
def tree(write, tmp_path: Path) -> Path:
    """speech/ (8 files), noise/ (4), rir/ (2), and a set of pairs in test/."""
    for index in range(8):
        write(f"speech/s{index % 4}_{index}.wav", 0.5)
    for index in range(4):
        write(f"noise/kind{index}_x.wav", 0.4)
    for index in range(2):
        write(f"rir/r{index}.wav", 0.05)
    for name in ("vbd_1", "vbd_2", "ls_1"):
        write(f"test/clean/{name}.wav", 0.5)
        write(f"test/noisy/{name}.wav", 0.5)
    return tmp_path


def opened(tree: Path, seed: int = 0, rate: int = RATE, **sections: dict) -> Data:
    default = {
        "train": {
            "kind": "mix",
            "speech": str(tree / "speech"),
            "noise": str(tree / "noise"),
            "rir": str(tree / "rir"),
        },
        "validation": {"kind": "holdout", "fraction": 0.3, "pairs": 6, "seconds": 0.4},
        "test": {"kind": "pairs", "path": str(tree / "test")},
    }
    return open_data(parse(DataConfig, default | sections, "recipe"), rate, seed)


def files_of(pairs) -> set[Path]:
    return {path for pair in pairs for path in pair.source.files}


def rows(path: Path, *lines: dict[str, object]) -> dict[str, str]:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)
    return {"kind": "manifest", "path": str(path)}


# ---- what comes out


def test_a_mix_with_a_holdout_and_pairs(tree: Path) -> None:
    data = opened(tree)
    train = set(data.train.files)
    held = files_of(data.validation)
    assert train and held and not train & held
    assert len(data.validation) == 6
    assert all(pair.group.startswith("kind") for pair in data.validation)
    for pair in [*data.validation, *data.test]:
        clean, noisy = pair.load()
        assert clean.shape == noisy.shape and clean.dtype == noisy.dtype == np.float32
        assert not np.array_equal(clean, noisy)
        again = pickle.loads(pickle.dumps(pair)).load()
        np.testing.assert_array_equal(noisy, again[1])
    assert {len(pair.load()[0]) for pair in data.validation} == {6400}  # cut to 0.4 s
    assert [pair.id for pair in data.test] == ["ls_1", "vbd_1", "vbd_2"]
    assert [pair.group for pair in data.test] == ["ls", "vbd", "vbd"]
    assert data.sampler(0, 0.25).batch(0, 3)[0].shape == (3, 4000)


def test_fixed_mixes_have_the_snr_they_claim(tree: Path) -> None:
    speech, noise = tree / "speech" / "s0_0.wav", tree / "noise" / "kind0_x.wav"
    clean, noisy = FixedMix(speech, noise, None, RATE, snr_db=7.0, level_dbfs=-26.0, noise_at=0.5).load()
    measured = 10 * np.log10(np.mean(np.square(clean)) / np.mean(np.square(noisy - clean)))
    assert measured == pytest.approx(7.0, abs=0.1)  # the speech here has no pauses


def test_another_seed_is_another_set_of_mixes_and_the_same_seed_the_same(tree: Path) -> None:
    mixes = {"kind": "mix", "speech": str(tree / "s2"), "noise": str(tree / "n2"), "pairs": 5, "seconds": 1}
    for place, source in (("s2", "speech"), ("n2", "noise")):
        (tree / place).mkdir()
        for path in sorted((tree / source).iterdir())[:2]:
            shutil.move(path, tree / place)
    first, same, other = (opened(tree, seed, test=mixes) for seed in (1, 1, 2))
    assert first.digest("test") == same.digest("test") != other.digest("test")
    assert len(first.test) == 5
    assert len(files_of(first.test)) == 4  # every speech and noise file has its turn


@pytest.mark.parametrize("rate", [8000, 48000])
def test_other_rates(tree: Path, rate: int) -> None:
    data = opened(tree, rate=rate)
    assert {len(sound) for sound in data.test[0].load()} == {rate // 2}
    assert data.sampler(0, 0.5).batch(0, 2)[1].shape == (2, rate // 2)


def test_paths_may_hold_variables_and_a_home(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_CORPUS", str(tree))
    monkeypatch.setenv("HOME", str(tree))
    assert len(opened(tree, test={"kind": "pairs", "path": "${MY_CORPUS}/test"}).test) == 3
    assert len(opened(tree, test={"kind": "pairs", "path": "~/test"}).test) == 3
    monkeypatch.delenv("MY_CORPUS")
    with pytest.raises(DataError, match="MY_CORPUS"):
        opened(tree, test={"kind": "pairs", "path": "${MY_CORPUS}/test"})


def test_two_folders_in_place_of_one(tree: Path) -> None:
    shutil.move(tree / "test" / "noisy", tree / "elsewhere")
    section = {"kind": "pairs", "path": str(tree / "test"), "noisy": str(tree / "elsewhere"), "group": "_(\\d)"}
    assert [pair.group for pair in opened(tree, test=section).test] == ["1", "1", "2"]


def test_every_second_pair_by_name(tree: Path) -> None:
    section = {"kind": "pairs", "path": str(tree / "test")}
    assert [pair.id for pair in opened(tree, test=section | {"every": 2}).test] == ["ls_1", "vbd_2"]
    assert [pair.id for pair in opened(tree, test=section | {"every": 9}).test] == ["ls_1"]


def test_a_mix_in_the_packs_noise_of_some_kinds_keeps_the_splits_apart(tree: Path) -> None:
    cabin = {"kind": "mix", "speech": str(tree / "speech"), "noises": ["car", "wind"]}
    voices = {"kind": "mix", "speech": str(tree / "test" / "clean"), "noises": ["car"], "pairs": 4}
    data = opened(tree, train=cabin, test=voices)
    train, test = set(data.train.files), files_of(data.test)
    assert {path.stem.rpartition("_")[0] for path in train if "pack" in path.parts} == {"car", "wind"}
    assert {path.name for path in test if "pack" in path.parts} == {"car_0.flac"}
    assert not train & test
    everything = {key: value for key, value in cabin.items() if key != "noises"}
    assert {"babble", "hum"} < {path.stem.rpartition("_")[0] for path in opened(tree, train=everything).train.files}
    with pytest.raises(DataError, match=r"data\.train\.noises: .*no noise of the kind 'cra'") as caught:
        opened(tree, train=cabin | {"noises": ["cra"]})
    assert "babble, car" in str(caught.value.hint)


def test_equal_names_in_two_subfolders_stay_two_pairs(write, tree: Path) -> None:
    for side in ("clean", "noisy"):
        for place in ("kitchen", "street"):
            write(f"deep/{side}/{place}/take_1.wav", 0.4)
    section = {"kind": "pairs", "path": str(tree / "deep")}
    data = opened(tree, train=section, validation={"kind": "embedded"})
    assert len({path.parent.name for path in data.train.files}) == 2
    assert [pair.id for pair in opened(tree, test=section).test] == ["kitchen/take_1", "street/take_1"]
    firsts = data.sampler(0, 0.2).batch(0, 12)[0]
    whole = [soundfile.read(tree / f"deep/clean/{p}/take_1.wav", dtype="float32")[0] for p in ("kitchen", "street")]
    drawn = [[bool(np.isin(row[:50], sound).all()) for sound in whole] for row in firsts]
    assert [True, False] in drawn and [False, True] in drawn  # both are really drawn


def test_a_manifest_beside_the_pairs_gives_snr_and_groups(tree: Path) -> None:
    table = tree / "test" / "manifest.csv"
    rows(table, {"name": "vbd_1", "snr_db": 2.5, "group": "a"}, {"name": "ls_1", "snr_db": "", "group": "b"})
    found = {pair.id: (pair.group, pair.snr_db) for pair in opened(tree).test}
    assert found == {"vbd_1": ("a", 2.5), "vbd_2": ("vbd", None), "ls_1": ("b", None)}
    # One value in every row is the corpus' own name and tells nothing apart.
    rows(table, {"name": "vbd_1", "snr_db": 2.5, "group": "a"}, {"name": "ls_1", "snr_db": 3, "group": "a"})
    assert {pair.group for pair in opened(tree).test} == {"vbd", "ls"}
    rows(table, {"name": "vbd_1", "snr_db": "loud", "group": "a"})
    with pytest.raises(DataError, match=r"manifest.csv line 2: snr_db"):
        opened(tree)


def test_voicebank_layout_holds_out_speakers(write, tree: Path) -> None:
    for side in ("clean", "noisy"):
        for speaker in ("p226", "p227", "p228", "p230", "p231"):
            for number in (1, 2):
                write(f"vb/{side}_trainset_28spk_wav/{speaker}_{number:03d}.wav", 0.3, rate=48000)
        write(f"vb/{side}_testset_wav/p232_001.wav", 0.3, rate=48000)
    section = {"kind": "voicebank", "path": str(tree / "vb")}
    data = opened(tree, train=section, test=section)
    held = {pair.group for pair in data.validation}
    kept = {path.name.split("_")[0] for path in data.train.files}
    assert held and kept and not held & kept and held | kept == {"p226", "p227", "p228", "p230", "p231"}
    assert len(data.validation) == 2 * len(held)
    assert [pair.id for pair in data.test] == ["p232_001"]


def test_manifest_of_pairs_and_of_mixes(tree: Path) -> None:
    pair = {"speech": "", "noise": "", "snr_db": ""}
    mixed = {"clean": "", "noisy": ""}
    section = rows(
        tree / "all.csv",
        {"split": "train", "clean": "test/clean/vbd_1.wav", "noisy": "test/noisy/vbd_1.wav", **pair},
        {"split": "validation", "speech": "speech/s0_0.wav", "noise": "noise/kind0_x.wav", "snr_db": 5, **mixed},
        {"split": "test", "speech": "speech/s1_1.wav", "noise": "noise/kind1_x.wav", "snr_db": -3, **mixed},
    )
    data = opened(tree, train=section, validation=section, test=section)
    assert (data.validation[0].snr_db, data.test[0].snr_db) == (5.0, -3.0)
    assert data.test[0].load()[0].shape == (8000,)
    whole = soundfile.read(tree / "test/clean/vbd_1.wav", dtype="float32")[0]
    segment = data.sampler(0, 0.25).batch(0, 1)[0][0]
    assert any(np.array_equal(whole[at : at + 4000], segment) for at in np.flatnonzero(whole == segment[0]))


# ---- holdout


def test_a_growing_folder_keeps_its_split(write, tree: Path) -> None:
    before = opened(tree)
    for index in range(8, 20):
        write(f"speech/s{index % 4}_{index}.wav", 0.5)
    after = opened(tree)
    kept = [isinstance(data.train, Ingredients) and set(data.train.speech) for data in (before, after)]
    assert kept[0] and kept[1] and kept[0] <= kept[1]


def test_speakers_stay_together(tree: Path) -> None:
    data = opened(tree, validation={"kind": "holdout", "fraction": 0.3, "by": "^(s\\d)_"})
    assert isinstance(data.train, Ingredients)
    trained = {path.stem.split("_")[0] for path in data.train.speech}
    held = {pair.source.files[0].stem.split("_")[0] for pair in data.validation}
    assert trained and held and not trained & held


def test_nothing_left_to_train_on_is_an_error(tree: Path) -> None:
    with pytest.raises(DataError, match="hold out"):
        opened(tree, validation={"kind": "holdout", "by": "^(s)"})


# ---- digests


def test_digests_follow_content_and_not_place(tree: Path) -> None:
    before = {split: opened(tree).digest(split) for split in ("train", "validation", "test")}
    moved = tree.parent / (tree.name + "_moved")
    shutil.copytree(tree, moved)
    assert {split: opened(moved).digest(split) for split in before} == before
    soundfile.write(moved / "test/noisy/ls_1.wav", np.full(8000, 0.1), RATE)
    after = {split: opened(moved).digest(split) for split in before}
    assert after["test"] != before["test"] and after["train"] == before["train"]
    louder = opened(tree, train={
        "kind": "mix", "speech": str(tree / "speech"), "noise": str(tree / "noise"), "rir": str(tree / "rir"),
        "mixing": {"snr_db": [0, 1]},
    })  # fmt: skip
    assert louder.digest("train") != before["train"]
    assert opened(tree, rate=8000).digest("train") != before["train"]


def test_digests_are_remembered_until_a_file_changes(tree: Path) -> None:
    config = parse(
        DataConfig, {"train": {"kind": "embedded"}, "test": {"kind": "pairs", "path": str(tree / "test")}}, "recipe"
    )
    cache = tree / "cache"
    true = open_data(config, RATE, cache=cache).digest("test")
    memory = json.loads((cache / "digests.json").read_text())
    path = str(tree / "test/noisy/ls_1.wav")
    memory[path][2] = "0" * 64
    (cache / "digests.json").write_text(json.dumps(memory))
    assert open_data(config, RATE, cache=cache).digest("test") != true  # it did not read the file again
    os.utime(path, ns=(1, 1))
    assert open_data(config, RATE, cache=cache).digest("test") == true  # now it did
    (cache / "digests.json").write_text('{"half a fi')
    assert open_data(config, RATE, cache=cache).digest("test") == true


# ---- what is refused


def test_the_same_file_in_two_splits(tree: Path) -> None:
    with pytest.raises(DataError, match="both the train and the test data"):
        opened(tree, test={
            "kind": "pairs", "path": str(tree), "clean": str(tree / "speech"), "noisy": str(tree / "speech"),
        })  # fmt: skip


def test_a_copy_under_another_name(tree: Path) -> None:
    opened(tree)  # sound before
    shutil.copy(tree / "test/clean/ls_1.wav", tree / "speech/innocent.wav")
    with pytest.raises(DataError, match=r"equal content") as caught:
        opened(tree)
    assert "innocent.wav" in caught.value.message and "ls_1.wav" in caught.value.message


def remove_folder(tree: Path) -> None:
    shutil.rmtree(tree / "noise")


def empty_folder(tree: Path) -> None:
    for path in (tree / "noise").iterdir():
        path.unlink()


def corrupt_header(tree: Path) -> None:
    (tree / "speech/s0_0.wav").write_bytes(b"RIFF nonsense")


def lone_clean(tree: Path) -> None:
    (tree / "test/noisy/ls_1.wav").unlink()


def lone_noisy(tree: Path) -> None:
    (tree / "test/clean/ls_1.wav").unlink()


def other_length(tree: Path) -> None:
    soundfile.write(tree / "test/noisy/ls_1.wav", np.full(8001, 0.1), RATE)


def other_channels(tree: Path) -> None:
    soundfile.write(tree / "test/noisy/ls_1.wav", np.full((8000, 2), 0.1), RATE)


def other_rate(tree: Path) -> None:
    soundfile.write(tree / "test/noisy/ls_1.wav", np.full(8000, 0.1), 8000)


@pytest.mark.parametrize(
    ("damage", "names", "says"),
    [
        (remove_folder, "noise", "no such folder"),
        (empty_folder, "noise", "no sound files"),
        (corrupt_header, "s0_0.wav", "not a sound file"),
        (lone_clean, "ls_1", "no counterpart"),
        (lone_noisy, "ls_1", "no counterpart"),
        (other_length, "ls_1.wav", "frames 8001"),
        (other_channels, "ls_1.wav", "channels 2"),
        (other_rate, "ls_1.wav", "rate 8000"),
    ],
)
def test_bad_data_is_refused_before_any_work(tree: Path, damage: Callable, names: str, says: str) -> None:
    opened(tree)  # sound before
    damage(tree)
    with pytest.raises(DataError, match=says) as caught:
        opened(tree)
    assert names in caught.value.message
    assert caught.value.hint


def test_a_silent_part_is_refused_when_it_is_mixed(tree: Path) -> None:
    sound = np.zeros(RATE)
    sound[-100:] = 0.1
    soundfile.write(tree / "speech/late.wav", sound, RATE)
    late = FixedMix(tree / "speech/late.wav", tree / "noise/kind0_x.wav", None, RATE, 0.0, -26.0, seconds=0.5)
    with pytest.raises(DataError, match=r"late.wav: silent"):
        late.load()


GOOD = {"split": "test", "id": "", "speech": "speech/s0_0.wav", "noise": "noise/kind0_x.wav", "snr_db": "5"}


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ([GOOD | {"snr_db": "nan"}], "line 2: snr_db"),
        ([GOOD | {"snr_db": ""}], "line 2: names neither"),
        ([GOOD | {"noise": ""}], "line 2: names neither"),
        ([GOOD | {"split": "tset"}], "no row has split = test"),
        ([GOOD, GOOD], "two test rows have the id"),
        ([GOOD | {"speech": "speech/absent.wav"}], r"absent.wav: no such file"),
    ],
)
def test_bad_manifests_name_file_and_line(tree: Path, lines: list[dict], says: str) -> None:
    with pytest.raises(DataError, match=says):
        opened(tree, train={"kind": "embedded"}, test=rows(tree / "m.csv", *lines))


def test_a_good_manifest_passes(tree: Path) -> None:
    assert len(opened(tree, train={"kind": "embedded"}, test=rows(tree / "m.csv", GOOD, GOOD | {"id": "b"})).test) == 2


@pytest.mark.parametrize("content", [b"", b"split,clean,noisy\n", b"\xff\xfe\x00binary", None])
def test_a_manifest_that_is_none(tree: Path, content: bytes | None) -> None:
    path = tree / "m.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"m\.csv"):
        opened(tree, train={"kind": "embedded"}, test={"kind": "manifest", "path": str(path)})


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ({"train": {"kind": "mix", "speech": "a", "noize": "b"}}, "did you mean 'noise'"),
        ({"train": {"kind": "mixture"}}, "train"),
        ({"train": {"kind": "embedded", "mixing": {"snr_db": [10, -5]}}}, "ascend"),
        ({"train": {"kind": "embedded", "mixing": {"reverb": 1.5}}}, "less than or equal to 1"),
        ({"train": {"kind": "mix", "speech": "a", "noise": "b", "noises": ["car"]}}, "leave out noise, or noises"),
        ({"validation": {"kind": "holdout", "fraction": 0}}, "greater than 0"),
        ({"validation": {"kind": "holdout", "by": "p\\d+"}}, r"exactly one \(group\)"),
        ({"test": {"kind": "pairs", "path": "x", "group": "("}}, "regular expression"),
        ({"test": {"kind": "holdout"}}, "test"),
    ],
)
def test_bad_sections_are_refused(section: dict, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        parse(DataConfig, section, "recipe")
    parse(DataConfig, {}, "recipe")


@pytest.mark.corpus
@pytest.mark.skipif("EARSHOT_CORPUS" not in os.environ, reason="EARSHOT_CORPUS names no corpus folder")
def test_the_development_corpus_opens_with_its_groups() -> None:
    corpus = Path(os.environ["EARSHOT_CORPUS"])
    config = {
        "train": {"kind": "mix", "speech": str(corpus / "train/speech"), "noise": str(corpus / "train/noise")},
        "test": {"kind": "pairs", "path": str(corpus / "test_pairs")},
    }
    data = open_data(parse(DataConfig, config, "recipe"), RATE)
    groups = [pair.group for pair in data.test]
    assert (groups.count("vbd"), groups.count("lsmix")) == (77, 43)
    assert all(pair.snr_db is None or -10 <= pair.snr_db <= 40 for pair in data.test)
    assert data.sampler(0, 2.0).batch(0, 4)[0].shape == (4, 32000)
