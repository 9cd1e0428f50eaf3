"""Parameters and multiply-accumulates against arithmetic done by hand."""

from __future__ import annotations

import pytest

from earshot.models.cost import cost, macs_per_frame, macs_per_second, parameters, state_bytes
from earshot.models.dae_unet import DaeUnet
from earshot.models.frontend import Frontend
from earshot.models.ft_jnf import FtJnf
from earshot.models.registry import build

FRONTEND = Frontend(rate=8000, window=16, hop=8, fft=16)  # 9 bins; a stride of 2 leaves 5
SIZES = {"channels": [2], "strides": [2], "expansion": 2, "kernel_time": 2, "latent": 3, "hidden": 4}

#                       parameters                              multiply-accumulates of one frame
LAYERS = {
    "strided conv":    (1 * 2 * 5 + 2 * 2,                      1 * 2 * 5 * 5),     # kernel 1x5, BatchNorm; 5 bins out
    "expand":          (2 * 4 + 4,                              2 * 4 * 5),         # 1x1 onto twice the width
    "depthwise":       (4 * 2 * 3 + 4,                          4 * 2 * 3 * 5),     # 2 frames x 3 bins
    "project":         (4 * 2 + 2,                              4 * 2 * 5),
    "squeeze":         (2 * 5 * 3 + 3,                          2 * 5 * 3),         # 2 channels x 5 bins onto 3
    "gru":             (3 * (3 * 4 + 4 * 4) + 2 * 3 * 4,        3 * (3 * 4 + 4 * 4)),
    "latent":          (4 * 3 + 3,                              4 * 3),
    "expand back":     (3 * 2 * 5 + 2,                          3 * 2 * 5),
    "transposed conv": (2 * 1 * 3 + 1,                          2 * 1 * 3 * 5),     # every input bin meets 3 weights
}  # fmt: skip
PARAMETERS = sum(count for count, _ in LAYERS.values())
MACS = sum(count for _, count in LAYERS.values())
STATES = 4 * 1 * 5 + 4  # one frame of the depthwise convolution's input, and the GRU's


def test_the_cost_of_a_network_small_enough_to_count() -> None:
    model = build("dae_unet", FRONTEND, SIZES)
    assert parameters(model) == PARAMETERS == 259
    assert macs_per_frame(model) == MACS == 436
    assert macs_per_second(model) == 436 * 1000  # a hop is 1 ms
    assert state_bytes(model) == 4 * STATES == 96
    found = {one.metric: (one.value, one.unit) for one in cost(model)}
    assert found == {
        "parameters": (259, "1"),
        "macs_per_second": (436_000, "MAC/s"),
        "state_bytes": (96, "bytes"),
        "algorithmic_latency_ms": (2.0, "ms"),
    }


@pytest.mark.parametrize("change", [{"latent": 4}, {"hidden": 5}, {"expansion": 3}, {"channels": [3]}])
def test_a_larger_network_costs_more(change: dict) -> None:
    small, large = (build("dae_unet", FRONTEND, sizes) for sizes in (SIZES, SIZES | change))
    assert parameters(large) > parameters(small)
    assert macs_per_frame(large) > macs_per_frame(small)


class NotCausal(DaeUnet):
    causal = False


def test_a_network_that_looks_ahead_has_no_streaming_cost() -> None:
    model = NotCausal(FRONTEND, NotCausal.Params.model_validate(SIZES))
    assert [one.metric for one in cost(model)] == ["parameters"]


class Fused(FtJnf):
    """Exported as it was trained."""

    def prepare_for_export(self) -> FtJnf:
        return self.eval()


def test_the_work_of_recurrent_layers_is_counted() -> None:
    """FT-JNF of two microphones on 9 bins: an LSTM of 3 in both directions over bins, one of 2 over time, a mask."""
    frontend = Frontend(window=16, hop=8, fft=16, features="complex", mask="complex", channels=2)
    params = FtJnf.Params(hidden_frequency=3, hidden_time=2)
    over_bins, over_time, mask = 2 * 4 * 3 * (4 + 3), 4 * 2 * (6 + 2), 2 * 2
    fused = 9 * (over_bins + over_time + mask)
    assert macs_per_frame(Fused(frontend, params)) == fused
    assert macs_per_frame(FtJnf(frontend, params)) == fused - 2 * 4 * 3 * 3  # written out, the first bin has no past
