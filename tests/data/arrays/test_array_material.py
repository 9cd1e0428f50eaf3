"""Scenes, fixed and on the fly: levels, alignment of the clean reference, seeds, and what does not fit."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import soundfile
from pydantic import ValidationError

from earshot.core.errors import DataError
from earshot.pipeline.data.arrays.geometry import PRESETS
from earshot.pipeline.data.arrays.material import ArrayIngredients, spread
from earshot.pipeline.data.arrays.scene import Levels, Scene, draw_scene, listen
from earshot.pipeline.data.config import ArrayConfig, DataConfig, Mixing, PairsConfig, ScenesConfig
from earshot.pipeline.data.ingredients import Ingredients
from earshot.pipeline.data.manifest import manifest_pairs
from earshot.pipeline.data.open import open_data
from earshot.pipeline.data.sources import material

pytest.importorskip("pyroomacoustics", reason="pip install 'earshot[arrays]'")
RATE = 16000
SCENES = ScenesConfig(microphones="ears", rt60_s=(0.16, 0.2), size_m=((3, 4), (3, 4), (2.4, 3)), count=2)


@pytest.fixture
def ingredients(write):
    speech = (write("speech/a.wav", 1.5), write("speech/b.wav", 2.0))
    noise = tuple(write(f"noise/{name}.wav", 2.0) for name in ("hum_1", "hiss_2", "car_3"))
    return ArrayIngredients(Ingredients(speech, noise, (), Mixing()), SCENES)


def test_batches_are_pure_functions_of_seed_step_and_index(ingredients):
    first = ingredients.sampler(RATE, 7, 0.5)
    clean, noisy = first.batch(0, 3)
    assert (clean.shape, noisy.shape) == ((3, 8000), (3, 2, 8000))
    assert (clean.dtype, noisy.dtype) == (np.float32, np.float32)
    assert np.abs(noisy).max() <= 1
    again = ingredients.sampler(RATE, 7, 0.5)
    assert np.array_equal(again.batch(1, 2)[1], first.batch(1, 2)[1])
    assert np.array_equal(again.batch(0, 2)[1], noisy[:2])
    assert not np.array_equal(first.batch(1, 3)[1], noisy)
    assert not np.array_equal(ingredients.sampler(RATE, 8, 0.5).batch(0, 3)[1], noisy)
    assert not np.array_equal(noisy[:, 0], noisy[:, 1])  # two microphones, not one twice


def test_a_second_training_of_one_seed_hears_rooms_that_are_simulated_already(ingredients, monkeypatch):
    simulated, responses = [], Scene.responses

    def counted(scene, rate):
        simulated.append(scene)
        return responses(scene, rate)

    monkeypatch.setattr(Scene, "responses", counted)
    first = ingredients.sampler(RATE, 4711, 0.5).batch(0, 8)
    assert len(simulated) == SCENES.count
    again = ingredients.sampler(RATE, 4711, 0.5).batch(0, 8)
    assert len(simulated) == SCENES.count
    assert all(np.array_equal(*pair) for pair in zip(first, again, strict=True))
    ingredients.sampler(RATE, 4712, 0.5).batch(0, 8)
    assert len(simulated) == 2 * SCENES.count


def test_threads_do_not_disturb_each_other(ingredients):
    alone = [ingredients.sampler(RATE, 1, 0.3).batch(step, 2)[1] for step in range(3)]
    shared = ingredients.sampler(RATE, 1, 0.3)
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(lambda step: shared.batch(step, 2)[1], range(3)))
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


def test_fixed_scenes_are_the_same_every_time_and_say_what_decides_them(ingredients):
    pairs = ingredients.pairs(RATE, 3, 1.0, seed=0)
    for pair, twin in zip(pairs, ingredients.pairs(RATE, 3, 1.0, seed=0), strict=True):
        clean, noisy = pair.load()
        assert (clean.shape, noisy.shape) == ((RATE,), (2, RATE))
        assert np.array_equal(noisy, twin.load()[1])
        assert pair.source.describe() == twin.source.describe()
        assert pair.group in {"hum", "hiss", "car"}
    other = ingredients.pairs(RATE, 3, 1.0, seed=1)
    assert other[0].source.describe() != pairs[0].source.describe()


def test_fixed_scenes_at_given_input_snrs(ingredients):
    """Levels are held to at the reference microphone; the draws of everything else stay those of a range."""
    drawn = ingredients.pairs(RATE, 4, 1.0, seed=0)
    fixed = replace(ingredients, input_snr_db=(-5.0, 0.0, 10.0)).pairs(RATE, 4, 1.0, seed=0)
    assert [(pair.group, pair.snr_db) for pair in fixed] == [("snr-5", -5), ("snr0", 0), ("snr10", 10), ("snr-5", -5)]
    assert [pair.source.scene for pair in fixed] == [pair.source.scene for pair in drawn]
    for pair, same in zip(fixed, drawn, strict=True):
        (_, noisy), (_, other) = pair.load(), same.load()
        loud = replace(pair.source, levels=replace(pair.source.levels, snr_db=90.0)).load()[1][0]  # speech alone
        speech = loud * np.dot(loud, noisy[0]) / np.dot(loud, loud)
        noise = noisy[0] - speech
        # Speech and noise of one second are not quite orthogonal, and pauses do not count.
        assert 10 * np.log10(np.mean(speech**2) / np.mean(noise**2)) == pytest.approx(pair.snr_db, abs=1.5)
        assert not np.allclose(noisy, other, atol=1e-3)  # negative control: the range draws other levels


def test_one_folder_of_noise_divided_between_sections(write, tmp_path):
    """No recording is on both sides, cuts of one recording stay together, and nothing is left out."""
    for number in range(12):
        for cut in "AB":
            write(f"noise/kind_{number}-{cut}.wav", 0.2)
    for name in ("a", "b"):
        write(f"speech/{name}.wav", 0.5)

    def of(low, high, **changes):
        section = ArrayConfig(
            kind="array",
            scenes=SCENES,
            speech=tmp_path / "speech",
            noise=tmp_path / "noise",
            **{"noise_part": (low, high), "noise_by": r"_(\d+)-"} | changes,
        )
        return material(section, "train", RATE, 2)

    first, second, whole = (of(*part).dry.noise for part in ((0, 0.6), (0.6, 1), (0, 1)))
    assert len(whole) == 24 == len(first) + len(second)
    assert not set(first) & set(second)
    recordings = [{path.stem.split("-")[0] for path in side} for side in (first, second)]
    assert not recordings[0] & recordings[1]
    assert min(map(len, recordings)) > 1
    rest, held = ({path.stem.split("-")[0] for path in side.dry.noise} for side in of(0, 1).hold_out(0.3, None))
    assert held and not rest & held
    # Negative control: without the pattern files are divided one by one.
    assert {path.stem.split("-")[0] for path in of(0, 0.6, noise_by=None).dry.noise} != recordings[0]
    with pytest.raises(DataError, match=r"none of 24 files falls into the part 0 to 1e-06 of data\.train\.noise"):
        of(0, 1e-6)
    with pytest.raises(ValidationError, match="ascend"):
        of(0.5, 0.2)


def test_no_room_of_training_is_one_of_validation(ingredients):
    sampler = ingredients.sampler(RATE, 0, 0.5)
    trained = {sampler._scene(number).scene for number in range(2)}
    assert not trained & {pair.source.scene for pair in ingredients.pairs(RATE, 4, 1.0, seed=0)}


def free_field(directional):
    noises = ((2.0, 4.0, 1.5), (4.0, 2.0, 1.5))[:directional]
    return Scene((6, 5, 3), 0.0, ((3.0, 2.0, 1.5), (3.0, 2.16, 1.5)), (2.0, 2.0, 1.5), noises)


def heard(levels, directional=1, rng=None):
    rng = rng or np.random.default_rng(0)
    scene = free_field(directional)
    speech, *points = (rng.standard_normal(2 * RATE).astype(np.float32) for _ in range(1 + directional))
    around = rng.standard_normal((2, 2 * RATE)).astype(np.float32)
    responses = scene.responses(RATE)
    return speech, listen(scene, responses, levels, speech, points, around, RATE, rng)


def test_clean_is_the_direct_sound_at_the_reference():
    """In a free field without noise, clean, first microphone and the speech a metre away are one."""
    speech, (clean, noisy) = heard(Levels(snr_db=90, level_dbfs=-30, diffuse_db=0, microphones_db=-40))
    np.testing.assert_allclose(noisy[0], clean, atol=2e-5)
    late = round(40 + RATE / 343.0)  # a metre, and the lead of the responses
    correlation = [np.dot(clean[shift:], speech[: len(speech) - shift]) for shift in range(200)]
    assert int(np.argmax(correlation)) == late
    assert not np.allclose(noisy[1], clean, atol=1e-3)  # negative control: the other microphone is elsewhere


@pytest.mark.parametrize("directional", [0, 1, 2])
def test_levels_are_those_of_the_reference_microphone(directional):
    _, (clean, noisy) = heard(Levels(snr_db=3, level_dbfs=-30, diffuse_db=0, microphones_db=-30), directional)
    noise = noisy[0] - clean
    assert 10 * np.log10(np.mean(clean**2) / np.mean(noise**2)) == pytest.approx(3, abs=0.1)
    assert 10 * np.log10(np.mean(noisy[0] ** 2)) == pytest.approx(-30, abs=0.01)


def test_diffuse_and_directional_noise_share_as_asked():
    """Coherence between the microphones tells them apart: a point source is wholly coherent, a diffuse field is not."""
    from scipy.signal import coherence

    def found(diffuse_db):
        _, (_, noisy) = heard(Levels(snr_db=-60, level_dbfs=-30, diffuse_db=diffuse_db, microphones_db=-60))
        return coherence(noisy[0], noisy[1], RATE, nperseg=256)[1][20:100].mean()

    assert found(-40) > 0.95
    assert found(40) < 0.1


def test_scenes_keep_to_their_ranges():
    config = ScenesConfig(microphones="compact5", rt60_s=(0.2, 0.5), talker_m=(0.5, 0.9), directional=(0, 3))
    scenes = [draw_scene(config, np.random.default_rng(seed)) for seed in range(60)]
    for scene in scenes:
        centre, size = np.array(scene.microphones[0]), np.array(scene.size)
        around = np.linalg.norm(np.array(scene.microphones[1:]) - centre, axis=1)
        np.testing.assert_allclose(around, 0.04, atol=3e-4)
        across = np.linalg.norm(np.array(scene.talker) - centre)
        assert 0.3 < across < np.hypot(0.9, 0.3) + 1e-3
        assert 0.2 <= scene.rt60 <= 0.5
        for place in (scene.talker, *scene.noises, *scene.microphones):
            assert (np.array(place) > 0).all()
            assert (np.array(place) < size).all()
    assert {len(scene.noises) for scene in scenes} == {0, 1, 2, 3}


def test_the_talker_is_where_the_array_looks():
    """Degrees count from the array's own x axis, which its second microphone gives away, whatever the room."""
    config = ScenesConfig(microphones="compact5", talker_deg=(80, 100), talker_m=(0.5, 4), directional=(1, 1))

    def degrees(scene, place):
        centre, along = np.array(scene.microphones[0]), np.array(scene.microphones[1])
        (x, y), (a, b) = (along - centre)[:2], (np.array(place) - centre)[:2]
        return np.degrees(np.arctan2(b, a) - np.arctan2(y, x)) % 360

    scenes = [draw_scene(config, np.random.default_rng(seed)) for seed in range(60)]
    talkers = [degrees(scene, scene.talker) for scene in scenes]
    assert 79 < min(talkers) < 83
    assert 97 < max(talkers) < 101
    noises = [degrees(scene, scene.noises[0]) for scene in scenes]
    assert min(noises) < 30
    assert max(noises) > 330


def test_cuts_of_a_noise_are_apart():
    sound = np.arange(100, dtype=np.float32)
    np.testing.assert_array_equal(spread(sound, 0.75, 2, 3), [[75, 76, 77], [25, 26, 27]])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"microphones": "trumpet"}, "compact5"),
        ({"microphones": [[0, 0, 0]]}, "2 to 16 microphones, not 1"),
        ({"microphones": [[0, 0, 0], [0, 0, 0]]}, "same place"),
        ({"microphones": [[0, 0, 0], [0, 0, 5]]}, "metres"),
        ({"rt60_s": (0.05, 0.3)}, "no RT60 below 0.13 s"),
        ({"rt60_s": (0.0, 0.3)}, "free field"),
        ({"size_m": ((1.5, 2), (3, 4), (2.4, 3))}, "2.2 m"),
        ({"directional": (2, 1)}, "ascend"),
        ({"talker_m": (0.0, 1.0)}, "above 0"),
    ],
)
def test_impossible_scenes_are_refused(changes, message):
    with pytest.raises(ValidationError, match=message):
        ScenesConfig.model_validate({"microphones": "ears"} | changes)


def test_the_embedded_pack_in_rooms_and_what_changes_its_digest():
    def opened(**changes):
        section = ArrayConfig(kind="array", scenes=SCENES.model_copy(update=changes), pairs=2, seconds=1.0)
        return open_data(DataConfig(train=section, validation=section, test=section), RATE, microphones=2)

    data = opened()
    assert len(data.test) == 2
    assert not set(data.train.files) & {path for pair in data.test for path in pair.source.files}
    assert opened().digest("test") == data.digest("test")
    assert opened(diffuse_db=(0, 0)).digest("test") != data.digest("test")
    assert opened(count=3).digest("train") != data.digest("train")


def test_another_number_of_microphones_names_both(write, tmp_path):
    section = ArrayConfig(kind="array", scenes=SCENES)
    with pytest.raises(DataError, match="2 microphones, but the frontend has 5"):
        open_data(DataConfig(train=section, validation=section, test=section), RATE, microphones=5)
    with pytest.raises(DataError, match="'embedded' is of 1 microphone, but the frontend has 2"):
        open_data(DataConfig(), RATE, microphones=2)


@pytest.fixture
def folder(write, tmp_path):
    """Pairs of three microphones: the noisy one is the clean one at three levels."""
    for name in ("p", "q"):
        sound = soundfile.read(write(f"clean/{name}.wav", 1.0))[0]
        (tmp_path / "noisy").mkdir(exist_ok=True)
        soundfile.write(tmp_path / "noisy" / f"{name}.wav", np.stack([sound, sound / 2, -sound], axis=1), RATE)
    return tmp_path


def pairs_of(folder, microphones):
    return material(PairsConfig(kind="pairs", path=folder), "train", RATE, microphones)


def test_recorded_pairs_of_several_microphones(folder):
    found = pairs_of(folder, 3)
    clean, noisy = found.pairs(RATE, None, None, 0)[0].load()
    np.testing.assert_allclose(noisy, [clean, clean / 2, -clean], atol=2 / 32768)
    clean, noisy = found.sampler(RATE, 0, 0.4).batch(0, 4)
    assert (clean.shape, noisy.shape) == ((4, 6400), (4, 3, 6400))
    np.testing.assert_allclose(noisy[:, 1], clean / 2, atol=2 / 32768)  # cut at the same place
    with pytest.raises(DataError, match="3 channels, but 2 microphones are needed") as caught:
        pairs_of(folder, 2)
    assert str(folder / "noisy" / "p.wav") in caught.value.message


def test_mixes_of_recordings_by_several_microphones(write, tmp_path):
    rng = np.random.default_rng(0)
    for name in ("speech", "noise"):
        soundfile.write(tmp_path / f"{name}.wav", 0.1 * rng.standard_normal((2 * RATE, 4)), RATE)
    table = tmp_path / "table.csv"
    table.write_text("split,speech,noise,snr_db\ntest,speech.wav,noise.wav,3\n")
    [pair] = manifest_pairs(table, "test", RATE, 4)
    clean, noisy = pair.load()
    assert noisy.shape == (4, 2 * RATE)
    noise = noisy[0] - clean
    assert 10 * np.log10(np.mean(clean**2) / np.mean(noise**2)) == pytest.approx(3, abs=0.1)
    speech = soundfile.read(tmp_path / "speech.wav")[0]
    assert np.corrcoef(noisy[2], speech[:, 2])[0, 1] > 0.5  # every channel with its own
    assert abs(np.corrcoef(noisy[2], speech[:, 1])[0, 1]) < 0.1
    assert replace(pair.source, microphones=1).describe() != pair.source.describe()
    with pytest.raises(DataError, match="4 channels, but 5 microphones"):
        manifest_pairs(table, "test", RATE, 5)


def test_presets_have_a_reference_and_are_compact():
    assert {name: len(places) for name, places in PRESETS.items()} == {
        "compact5": 5,
        "ears": 2,
        "hearing_aid": 2,
        "square4": 4,
    }
