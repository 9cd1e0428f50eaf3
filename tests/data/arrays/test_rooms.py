"""Room responses against geometry: delay and level of the direct sound, decay of the rest."""

import math

import numpy as np
import pytest

from earshot.pipeline.data.arrays import rooms
from earshot.pipeline.data.arrays.geometry import PRESETS
from earshot.pipeline.data.arrays.rooms import LEAD, absorption, image_order, impulse_responses

pytest.importorskip("pyroomacoustics", reason="pip install 'earshot[arrays]'")
RATE = 16000


def delay(response):
    """Samples by which a single pulse is late, to a fraction: the slope of its phase."""
    peak = int(np.argmax(response))
    spectrum = np.fft.rfft(np.roll(response, -peak))  # the rest is less than a sample, so that no phase wraps
    phase = np.unwrap(np.angle(spectrum))[10 : len(spectrum) // 2]
    slope = np.polyfit(np.arange(len(phase)), phase, 1)[0]
    return peak - slope * len(response) / (2 * np.pi)


def test_direct_sound_arrives_after_distance_over_speed_of_sound():
    talker, microphones = (1.0, 2.0, 1.5), [(2.0, 2.0, 1.5), (4.0, 2.0, 1.5), (1.0, 2.5, 1.1)]
    distances = [1.0, 3.0, math.hypot(0.5, 0.4)]  # by hand
    [responses] = impulse_responses((6, 5, 3), 0, [talker], microphones, RATE)
    for response, metres in zip(responses, distances, strict=True):
        assert delay(response) == pytest.approx(LEAD + RATE * metres / 343.0, abs=0.05)
    assert abs(delay(responses[1]) - (LEAD + RATE * 2.9 / 343.0)) > 1  # negative control: ten centimetres nearer


def test_free_field_level_falls_with_distance():
    microphones = [(1.5, 2, 1.5), (2.0, 2, 1.5), (3.0, 2, 1.5), (5.0, 2, 1.5)]  # 0.5, 1, 2, 4 m
    [responses] = impulse_responses((6, 5, 3), 0, [(1, 2, 1.5)], microphones, RATE)
    # Between 500 Hz and 4 kHz, where neither the high-pass nor the windowed sinc counts.
    band = slice(len(responses[0]) * 500 // RATE, len(responses[0]) * 4000 // RATE)
    level = np.abs(np.fft.rfft(responses))[:, band].mean(axis=1)
    np.testing.assert_allclose(level, [2, 1, 0.5, 0.25], rtol=0.03)


def test_neighbours_of_a_compact_array_hear_the_angle():
    """Sound along x reaches microphones 8 cm apart 0.08 / c apart, and sound along y both at once."""
    centre = np.array([3.0, 3.0, 1.5])
    front, rear = (tuple(centre + PRESETS["compact5"][index]) for index in (1, 3))
    responses = impulse_responses((7, 7, 3), 0, [(5.0, 3.0, 1.5), (3.0, 5.0, 1.5)], [front, rear], RATE)
    along, across = (delay(pair[1]) - delay(pair[0]) for pair in responses)
    assert along == pytest.approx(RATE * 0.08 / 343.0, abs=0.02)
    assert across == pytest.approx(0, abs=0.02)


def decay_seconds(response):
    """RT60 from the slope of Schroeder's backward integral between -5 and -25 dB (ISO 3382-1, T20)."""
    energy = np.cumsum(response[::-1].astype(float) ** 2)[::-1]
    level = 10 * np.log10(energy / energy[0])
    part = np.flatnonzero((level < -5) & (level > -25))
    return -60 / (np.polyfit(part / RATE, level[part], 1)[0])


@pytest.mark.parametrize(("size", "rt60"), [((5, 4, 2.7), 0.2), ((5, 4, 2.7), 0.4), ((3.5, 3, 2.5), 0.3)])
def test_rooms_decay_about_as_asked(size, rt60):
    places = [(1.2, 1.1, 1.2), (1.9, 1.6, 1.4), (2.2, 1.0, 1.3)]
    [responses] = impulse_responses(size, rt60, [(2.6, 2.1, 1.5)], places, RATE)
    measured = np.mean([decay_seconds(response) for response in responses])
    assert measured == pytest.approx(rt60, rel=0.2)  # Sabine's formula is about that good


def test_absorption_and_order_by_hand():
    # 5 x 4 x 2.5 m: volume 50 m3, surface 85 m2; Sabine: 55.262 / 343 * 50 / (85 * 0.5) = 0.18955
    assert absorption((5, 4, 2.5), 0.5) == pytest.approx(0.18955, rel=1e-4)
    assert absorption((5, 4, 2.5), 0.25) == pytest.approx(2 * 0.18955, rel=1e-4)
    # A cube of 3 m: nearest images of order n lie n * 3 / sqrt 2 m away; 343 * 0.3 = 102.9 m needs 48.5 of them.
    assert image_order((3, 3, 3), 0.3) == 48


def test_equal_to_the_bit_and_not_when_someone_moves():
    def make(x):
        return impulse_responses((5, 4, 2.7), 0.2, [(x, 2.0, 1.5)], [(1, 1, 1.2), (1.1, 1, 1.2)], RATE)

    assert np.array_equal(make(3.0), make(3.0))
    assert not np.array_equal(make(3.0), make(3.01))


def test_without_the_simulator_the_error_names_the_extra(monkeypatch):
    import sys

    from earshot.core.errors import UsageError

    monkeypatch.setitem(sys.modules, "pyroomacoustics", None)
    with pytest.raises(UsageError) as caught:
        rooms.impulse_responses((5, 4, 2.7), 0, [(3, 2, 1)], [(1, 1, 1)], RATE)
    assert "earshot[arrays]" in caught.value.hint
