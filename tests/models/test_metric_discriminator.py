"""The metric discriminator: its size by hand, its bounds, what it needs."""

from __future__ import annotations

import pytest
import torch

from earshot.models.metric_discriminator import MetricDiscriminator


def by_hand(metrics: int) -> int:
    norm = 2 + 2
    convolutions = (25 * 2 * 16 + 16) + (25 * 16 * 32 + 32) + (25 * 32 * 64 + 64) + (25 * 64 * 128 + 128)
    return norm + convolutions + (128 * 50 + 50) + (50 * 10 + 10) + (10 * metrics + metrics)


@pytest.mark.parametrize("metrics", [1, 2, 3])
def test_parameters_are_those_of_hand_arithmetic(metrics: int) -> None:
    found = sum(parameter.numel() for parameter in MetricDiscriminator(metrics).parameters())
    assert found == by_hand(metrics) == 276_804 + 11 * metrics


def test_every_layer_has_a_largest_singular_value_of_one() -> None:
    torch.manual_seed(0)
    judge = MetricDiscriminator(2, (4, 8))
    layers = [*judge.convolutions, *judge.heads, judge.scores]
    with torch.no_grad():
        for layer in layers:
            layer.parametrizations.weight.original *= 7  # what training may do to a weight that is not bound
        for _ in range(50):  # one power iteration a call
            judge(torch.rand(1, 20, 20), torch.rand(1, 20, 20))
    for layer in layers:
        largest = float(torch.linalg.matrix_norm(layer.weight.flatten(1), 2))
        assert largest == pytest.approx(1, abs=1e-3)
        assert float(torch.linalg.matrix_norm(layer.parametrizations.weight.original.flatten(1), 2)) > 2


def test_one_score_a_metric_from_the_smallest_spectrum_on() -> None:
    judge = MetricDiscriminator(3)
    assert judge.smallest == 17
    assert judge(torch.rand(2, 17, 17), torch.rand(2, 17, 17)).shape == (2, 3)
    with pytest.raises(RuntimeError, match=r"[Kk]ernel size"):
        judge(torch.rand(2, 16, 17), torch.rand(2, 16, 17))


def test_it_tells_the_clean_input_from_the_judged_one() -> None:
    torch.manual_seed(1)
    judge = MetricDiscriminator(1, (4, 8)).eval()
    clean, judged = torch.rand(1, 20, 20), torch.rand(1, 20, 20)
    assert not torch.equal(judge(clean, judged), judge(judged, clean))
    assert torch.equal(judge(clean, judged), judge(clean, judged))
