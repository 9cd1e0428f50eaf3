"""Comparing outputs: equal ones are equal, and nothing else is."""

import base64

import numpy as np
import pytest

from earshot.core.errors import DeviceError, ModelError
from earshot.targets import agent
from earshot.targets.base import ProfileConfig
from earshot.targets.guest.outputs import Expected, expect
from earshot.targets.stream import open_stream


def trace_of(masks, model="m.tflite"):
    data = base64.b64encode(masks.tobytes()).decode()
    return {"model": model, "dtype": str(masks.dtype), "shape": list(masks.shape), "masks": data}


def test_integers_are_equal_to_the_bit():
    masks = np.arange(-60, 60, dtype=np.int8).reshape(4, 30)
    found = Expected(b"", masks).compare(trace_of(masks))
    assert (found.mismatches, found.values, found.largest) == (0, 120, 0)
    other = masks.copy()
    other[1, 2] += 1
    other[3, 29] -= 100
    found = Expected(b"", masks).compare(trace_of(other))
    assert (found.mismatches, found.largest) == (2, 100)


def test_extremes_do_not_wrap_around():
    masks = np.full((1, 3), -128, np.int8)
    assert Expected(b"", masks).compare(trace_of(np.full((1, 3), 127, np.int8))).largest == 255


def test_floats_may_differ_in_the_last_places_and_nan_is_a_mismatch():
    masks = np.linspace(0, 1, 50, dtype=np.float32).reshape(5, 10)
    assert Expected(b"", masks).compare(trace_of(masks + np.float32(5e-7))).mismatches == 0
    assert Expected(b"", masks).compare(trace_of(masks + np.float32(1e-3))).mismatches == 50
    broken = masks.copy()
    broken[0, 0] = np.nan
    assert Expected(b"", masks).compare(trace_of(broken)).mismatches == 1


@pytest.mark.parametrize("other", [np.zeros((4, 3), np.int8), np.zeros((3, 4), np.int16)])
def test_a_trace_of_something_else_is_refused(other):
    with pytest.raises(DeviceError, match=r"m\.tflite: the device gave") as caught:
        Expected(b"", np.zeros((3, 4), np.int8)).compare(trace_of(other))
    assert "image anew" in caught.value.hint


def test_what_is_expected_is_this_machines_own_trace(tiny):
    path = tiny(integer=True)
    expected = expect(path, ProfileConfig(), 12)
    frames = np.frombuffer(expected.frames, np.int8).reshape(12, 33)
    np.testing.assert_array_equal(expected.masks, agent.trace(open_stream(path).graph, frames))


def test_a_bad_model_is_a_model_error(tmp_path):
    (tmp_path / "m.tflite").write_bytes(b"nothing")
    with pytest.raises(ModelError, match=r"m\.tflite"):
        expect(tmp_path / "m.tflite", ProfileConfig(), 5)
