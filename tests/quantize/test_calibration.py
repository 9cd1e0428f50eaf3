"""Calibration against ranges computed in torch."""

import numpy as np
import pytest
import torch

from earshot.core.errors import DataError
from earshot.quantize.calibration import calibrate, channels_last


def test_ranges_are_the_true_extremes_with_states_carried(lookback, features):
    """The memory's extremes come from torch streaming every clip; a restart at every frame gives others."""
    model = lookback.model.prepare_for_export()
    carried, restarted = [], []
    with torch.no_grad():
        state = model.initial_state(features.shape[0])
        fresh = model.initial_state(features.shape[0])
        for index in range(features.shape[2]):
            frame = features[:, :, index : index + 1]
            _, state = model.step(frame, state)
            carried.append(state["memory"])
            restarted.append(model.step(frame, fresh)[1]["memory"])
    found = lookback.measured[lookback.graph.outputs["state_memory"]]
    wanted, other = torch.stack(carried), torch.stack(restarted)
    assert found.low == pytest.approx(float(wanted.min()), abs=1e-6)
    assert found.high == pytest.approx(float(wanted.max()), abs=1e-6)
    assert (found.low, found.high) != pytest.approx((float(other.min()), float(other.max())), abs=1e-3)


def test_nothing_is_clipped(lookback, features):
    loud = features.clone()
    loud[1, 0, 17, 5] = 40.0
    assert calibrate(lookback.path, loud)[lookback.graph.inputs["frame"]].high == 40.0
    assert lookback.measured[lookback.graph.inputs["frame"]].high == pytest.approx(float(features.max()))


def test_every_activation_has_a_range(network):
    alive = {index for operator in network.graph.operators for index in network.graph.activations(operator)}
    assert alive <= set(network.measured)


def test_one_call_a_clip(lookback, features):
    calls = []
    calibrate(lookback.path, features[:2], lambda: calls.append(1))
    assert len(calls) == 2


@pytest.mark.parametrize(
    "bad",
    [np.zeros((1, 40, 33)), np.zeros((0, 1, 40, 33)), np.full((1, 1, 2, 33), np.nan), np.full((1, 1, 2, 33), np.inf)],
)
def test_bad_features_are_refused(bad):
    with pytest.raises(DataError):
        channels_last(bad)
