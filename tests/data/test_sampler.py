"""Training batches: pure functions of (seed, step, index), aligned, and really mixed."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile

from earshot.core.errors import DataError
from earshot.pipeline.data.base import EvalPair, TrainSampler
from earshot.pipeline.data.config import Mixing
from earshot.pipeline.data.ingredients import Ingredients
from earshot.pipeline.data.pairlist import FilePair, PairList
from earshot.pipeline.data.sampler import PcmCache, to_float, to_pcm

PLAIN = Mixing(snr_db=(3, 3), level_dbfs=(-30, -30), second_noise=0, filters=0, reverb=0)


@pytest.fixture
def ingredients(write) -> Ingredients:
    return Ingredients(
        speech=(write("speech/a.wav", 0.4), write("speech/b.wav", 3.0)),
        noise=(write("noise/c.wav", 0.3), write("noise/d.wav", 2.5)),
        rir=(write("rir/e.wav", 0.1),),
        mixing=Mixing(),
    )


@pytest.fixture
def pairs(write, tmp_path: Path) -> PairList:
    """The noisy file is half the clean one: any cut can be checked."""
    items = []
    for name, seconds in (("p", 0.5), ("q", 2.0)):
        clean = write(f"clean/{name}.wav", seconds)
        noisy = tmp_path / f"noisy_{name}.wav"
        soundfile.write(noisy, soundfile.read(clean)[0] / 2, 16000, subtype="PCM_16")
        items.append(EvalPair(name, "g", None, FilePair(clean, noisy, 16000)))
    return PairList(tuple(items))


@pytest.fixture(params=["mix", "pairs"])
def material(request, ingredients: Ingredients, pairs: PairList):
    return ingredients if request.param == "mix" else pairs


def equal(left, right) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(left, right, strict=True))


def test_shape_and_type(material) -> None:
    for sound in material.sampler(16000, 0, 0.75).batch(0, 5):
        assert sound.shape == (5, 12000)
        assert sound.dtype == np.float32
        assert np.isfinite(sound).all()
        assert np.abs(sound).max() <= 1
        assert np.abs(sound).max(axis=1).min() > 0  # none is silent


def test_a_resumed_run_sees_the_same_batches(material) -> None:
    first = material.sampler(16000, 7, 0.5)
    walked = [first.batch(step, 4) for step in range(4)]
    resumed = material.sampler(16000, 7, 0.5)
    assert equal(resumed.batch(3, 4), walked[3])
    assert equal(first.batch(1, 4), walked[1])
    # An item does not depend on how many others there are.
    assert equal([sound[:2] for sound in walked[2]], resumed.batch(2, 2))


def test_seed_step_and_index_all_matter(material) -> None:
    sampler: TrainSampler = material.sampler(16000, 7, 0.5)
    batch = sampler.batch(0, 2)
    assert not equal(batch, sampler.batch(1, 2))
    assert not equal(batch, material.sampler(16000, 8, 0.5).batch(0, 2))
    assert not np.array_equal(batch[0][0], batch[0][1])


def test_threads_do_not_disturb_each_other(material) -> None:
    alone = [material.sampler(16000, 1, 0.5).batch(step, 3) for step in range(8)]
    shared = material.sampler(16000, 1, 0.5)
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda step: shared.batch(step, 3), range(8)))
    assert all(equal(a, b) for a, b in zip(alone, together, strict=True))


def test_pairs_are_cut_at_the_same_place(pairs: PairList) -> None:
    clean, noisy = pairs.sampler(16000, 0, 0.75).batch(0, 16)
    np.testing.assert_allclose(noisy, clean / 2, atol=2 / 32768)
    long = soundfile.read(pairs.items[1].source.clean, dtype="float32")[0]
    places = [np.flatnonzero(long[: len(long) - 11999] == row[0]) for row in clean]
    # Cuts of the long file are whole pieces of it.
    assert any(np.array_equal(long[o : o + 12000], row) for row, at in zip(clean, places, strict=True) for o in at)


def test_mixes_have_the_snr_and_level_of_the_config(ingredients: Ingredients) -> None:
    plain = Ingredients(ingredients.speech, ingredients.noise, ingredients.rir, PLAIN)
    clean, noisy = plain.sampler(16000, 0, 0.3).batch(0, 12)
    level = 10 * np.log10(np.mean(np.square(noisy), axis=1))
    np.testing.assert_allclose(level, -30, atol=0.01)
    long = plain.sampler(16000, 0, 3.0)  # longer than any file: noise goes round, speech is joined
    assert long.batch(0, 2)[0].shape == (2, 48000)
    # With stationary full-length speech, active level and level agree.
    only_long = Ingredients(ingredients.speech[1:], ingredients.noise, (), PLAIN)
    clean, noisy = only_long.sampler(16000, 0, 1.0).batch(0, 12)
    snr = 10 * np.log10(np.mean(np.square(clean), axis=1) / np.mean(np.square(noisy - clean), axis=1))
    np.testing.assert_allclose(snr, 3, atol=0.1)


@pytest.mark.parametrize("field", ["second_noise", "filters", "reverb"])
def test_every_augmentation_does_something_and_only_when_asked(ingredients: Ingredients, field: str) -> None:
    def clean_and_noise(mixing: Mixing):
        return Ingredients(ingredients.speech, ingredients.noise, ingredients.rir, mixing).sampler(16000, 0, 0.5)

    plain, changed = PLAIN, PLAIN.model_copy(update={field: 1.0})
    assert equal(clean_and_noise(plain).batch(0, 4), clean_and_noise(plain).batch(0, 4))
    assert not equal(clean_and_noise(plain).batch(0, 4), clean_and_noise(changed).batch(0, 4))


def test_a_bad_training_file_is_named_when_it_is_first_drawn(ingredients: Ingredients) -> None:
    bad = ingredients.noise[0]
    soundfile.write(bad, np.zeros(8000), 16000)
    with pytest.raises(DataError, match="silent") as caught:
        ingredients.sampler(16000, 0, 0.5).batch(0, 16)
    assert str(bad) in caught.value.message


def test_the_cache_keeps_what_was_used_last_within_its_limit() -> None:
    loads: list[str] = []

    def get(cache: PcmCache, key: str) -> None:
        cache.get(key, lambda: loads.append(key) or np.zeros(100, np.int16))

    cache = PcmCache(limit=400)  # two of them
    for key in "abacba":
        get(cache, key)
    assert loads == ["a", "b", "c", "b", "a"]
    loads.clear()
    roomy = PcmCache(limit=4000)
    for key in "abacba":
        get(roomy, key)
    assert loads == ["a", "b", "c"]


def test_sixteen_bits_survive_the_cache() -> None:
    pcm = np.array([-32768, -1, 0, 1, 32767], np.int16)
    np.testing.assert_array_equal(to_pcm(to_float(pcm)), pcm)
    np.testing.assert_array_equal(to_pcm(np.array([2.0, -2.0], np.float32)), [32767, -32768])
