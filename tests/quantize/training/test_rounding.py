"""Rounding and its gradients by hand, and against the quantizer that writes the files."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from earshot.quantize.ranges import PRESCRIBED
from earshot.quantize.training.ranges import NOWHERE, Ranges, Rounding, Survey
from earshot.quantize.training.rounding import Grids, round_weights


def test_a_grid_by_hand() -> None:
    """-1 to 1.55 in 255 steps of 0.01: -1 is integer -128, 0 is -28."""
    grids = Grids.of(torch.tensor([-1.0]), torch.tensor([1.55]))
    assert float(grids.scale) == pytest.approx(0.01)
    assert int(grids.zero) == -28
    rounded = grids.round(torch.tensor([-1.0, 0.004, 0.006, 1.5, -1.2, 2.0]), 0)
    assert rounded.tolist() == pytest.approx([-1.0, 0.0, 0.01, 1.5, -1.0, 1.55], abs=1e-6)


def test_gradients_pass_inside_the_range_and_stop_outside() -> None:
    grids = Grids.of(torch.tensor([-1.0]), torch.tensor([1.55]))
    values = torch.tensor([-1.2, -0.5, 0.004, 1.5, 2.0], requires_grad=True)
    (grids.round(values, 0) * torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])).sum().backward()
    assert values.grad is not None
    assert values.grad.tolist() == [0, 2, 3, 4, 0]


def test_weights_by_hand_and_straight_through() -> None:
    """Row by row: 127 steps up to the largest; every weight gets the gradient of its rounded form."""
    weights = torch.tensor([[1.27, -0.004, 0.006], [0.0, -254.0, 3.1]], requires_grad=True)
    rounded = round_weights(weights, (0,))
    assert rounded.detach().flatten().tolist() == pytest.approx([1.27, 0.0, 0.01, 0.0, -254.0, 4.0], abs=1e-6)
    (rounded * torch.arange(6.0).reshape(2, 3)).sum().backward()
    assert weights.grad is not None
    assert weights.grad.flatten().tolist() == list(range(6))


@pytest.mark.parametrize("bounds", [(-0.3, 2.7), (0.2, 3.0), (-5.0, -1.0), (0.0, 0.0), (-1e-3, 1e3)])
def test_grids_are_the_quantizers(bounds: tuple[float, float]) -> None:
    from ai_edge_quantizer.algorithms.uniform_quantize.uniform_quantize_tensor import tensor_zp_scale_from_min_max
    from ai_edge_quantizer.qtyping import QuantGranularity

    low, high = (np.array([bound], np.float32) for bound in bounds)
    zero, scale = tensor_zp_scale_from_min_max(low, high, 8, False, QuantGranularity.TENSORWISE)
    grids = Grids.of(torch.from_numpy(low), torch.from_numpy(high))
    assert float(grids.scale) == pytest.approx(float(scale[0]), rel=1e-6)
    assert int(grids.zero) == int(zero[0])


def surveyed() -> Survey:
    """A gate between 0 and 1, something wider tied to another gate, and a place that is never held."""
    survey = Survey()
    gate, wide, other = (
        survey.range_of("gate", "LOGISTIC"),
        survey.range_of("wide"),
        survey.range_of("other", "LOGISTIC"),
    )
    survey.range_of("passing")
    survey.settle(torch.tensor([0.2, 0.9]), gate)
    survey.settle(torch.tensor([-3.0, 2.0]), wide)
    survey.settle(torch.tensor([0.5]), other)
    survey.tie([wide, other])
    return survey


def test_a_prescribed_scale_holds_as_long_as_all_values_fit() -> None:
    places, ranges = surveyed().found()
    assert places["wide"] == places["other"] != places["gate"]
    assert places["passing"] == NOWHERE
    grids = ranges.grids()
    assert float(grids.scale[places["gate"]]) == 1 / 256
    assert int(grids.zero[places["gate"]]) == -128
    assert float(grids.scale[places["wide"]]) == pytest.approx(5 / 255)
    ranges.low[places["gate"]] = PRESCRIBED["LOGISTIC"].low - 0.5
    assert float(ranges.grids().scale[places["gate"]]) == pytest.approx(1.4 / 255)


def test_ranges_widen_at_once_and_shrink_slowly() -> None:
    ranges = Ranges(torch.tensor([-1.0, -1.0]), torch.tensor([1.0, 1.0]), {})
    rounding = Rounding({"a": 0, "b": 1}, ranges, observe=True)
    rounding.settle(torch.tensor([-4.0, 0.1]), 0)
    rounding.settle(torch.tensor([0.5, 2.0]), 0)
    ranges.follow(rounding.observed)
    assert ranges.low.tolist() == [-4.0, -1.0]
    assert ranges.high.tolist() == [2.0, 1.0]
    for _ in range(100):
        rounding = Rounding({"a": 0, "b": 1}, ranges, observe=True)
        rounding.settle(torch.tensor([-0.1, 0.1]), 0)
        ranges.follow(rounding.observed)
    assert float(ranges.low[0]) == pytest.approx(-4 * 0.99**100, rel=1e-3)
    silent = Rounding({"a": 0}, ranges, observe=False)
    silent.settle(torch.tensor([9.0]), 0)
    assert not silent.observed
