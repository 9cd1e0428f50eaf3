"""Mixing against arithmetic done by hand."""

import numpy as np
import pytest

from earshot.pipeline.data.mixing import active_rms, loop, mix, random_filter, reverberate, rms

RATE = 16000


def noise(seed: int, samples: int = RATE) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(samples).astype(np.float32) * 0.1


def test_active_level_leaves_out_pauses() -> None:
    speech = np.concatenate([np.full(RATE, 0.2), np.zeros(3 * RATE)]).astype(np.float32)
    assert active_rms(speech, RATE) == pytest.approx(0.2, rel=1e-5)
    assert rms(speech) == pytest.approx(0.1, rel=1e-5)  # the plain level halves: the control


@pytest.mark.parametrize("snr_db", [-5.0, 0.0, 17.3])
def test_snr_and_level_are_those_asked_for(snr_db: float) -> None:
    speech = np.concatenate([noise(1), np.zeros(RATE, np.float32)])
    clean, noisy = mix(speech, noise(2, 2 * RATE), RATE, snr_db=snr_db, level_dbfs=-30.0)
    added = (noisy - clean).astype(np.float64)
    measured = 10 * np.log10(np.mean(np.square(clean[:RATE])) / np.mean(np.square(added)))
    assert measured == pytest.approx(snr_db, abs=0.02)
    assert 20 * np.log10(np.sqrt(np.mean(np.square(noisy)))) == pytest.approx(-30.0, abs=1e-3)


def test_peaks_never_clip() -> None:
    speech = noise(1)
    speech[100] = 3.0
    clean, noisy = mix(speech, noise(2), RATE, snr_db=10, level_dbfs=-5)
    assert max(np.abs(clean).max(), np.abs(noisy).max()) == pytest.approx(0.99, abs=1e-6)


def test_the_noisy_speech_is_the_clean_speech_plus_noise_at_one_gain() -> None:
    speech, other = noise(1), noise(2)
    clean, noisy = mix(speech, other, RATE, snr_db=3, level_dbfs=-26)
    assert np.ptp((clean / speech)[np.abs(speech) > 0.01]) < 1e-6
    ratio = ((noisy - clean) / other)[np.abs(other) > 0.01]
    assert np.ptp(ratio) < 1e-4 * ratio.mean() + 1e-5


def test_inaudible_noise_is_not_blown_up() -> None:
    clean, noisy = mix(noise(1), np.full(RATE, 1e-7, np.float32), RATE, snr_db=-5, level_dbfs=-26)
    np.testing.assert_allclose(clean, noisy, atol=1e-6)


def test_room_without_walls_changes_nothing() -> None:
    speech = noise(3)
    response = np.zeros(200, np.float32)
    response[40] = -0.5  # the direct sound; its delay, sign and level do not matter
    for heard in reverberate(speech, response, RATE):
        np.testing.assert_allclose(heard, speech, atol=1e-5)


def test_target_keeps_early_reflections_and_drops_late_ones() -> None:
    speech = np.zeros(RATE, np.float32)
    speech[0] = 1
    response = np.zeros(4000, np.float32)
    response[[0, 400, 1600]] = 1.0, 0.5, 0.25  # 25 ms is early, 100 ms is late
    early, whole = reverberate(speech, response, RATE)
    assert early.dtype == whole.dtype == np.float32
    np.testing.assert_allclose(whole[[0, 400, 1600]], [1, 0.5, 0.25], atol=1e-6)
    np.testing.assert_allclose(early[[0, 400, 1600]], [1, 0.5, 0], atol=1e-6)


def test_random_filters_obey_their_difference_equation_and_are_stable() -> None:
    for seed in range(20):
        r1, r2, r3, r4 = np.random.default_rng(seed).uniform(-3 / 8, 3 / 8, (2, 2)).ravel()
        sound = noise(seed, 200)
        expected = np.zeros(200)
        padded = np.concatenate([[0, 0], sound])
        for n in range(200):
            past = [expected[n - 1] if n > 0 else 0.0, expected[n - 2] if n > 1 else 0.0]
            expected[n] = padded[n + 2] + r1 * padded[n + 1] + r2 * padded[n] - r3 * past[0] - r4 * past[1]
        got = random_filter(sound, np.random.default_rng(seed))
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, expected, atol=1e-5)
        tail = random_filter(np.eye(1, 4000, dtype=np.float32)[0], np.random.default_rng(seed))
        assert np.abs(tail[2000:]).max() < 1e-6


def test_loop_goes_round() -> None:
    sound = np.arange(5, dtype=np.float32)
    np.testing.assert_array_equal(loop(sound, 1, 3), [1, 2, 3])
    np.testing.assert_array_equal(loop(sound, 3, 9), [3, 4, 0, 1, 2, 3, 4, 0, 1])
