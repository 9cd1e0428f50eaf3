"""Blocks that hold something: recursions in plain numbers, whole signals as chunks, places as names."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from earshot.models.held import (
    Held,
    HeldConv,
    HeldUpsample,
    Mean,
    Past,
    Peak,
    Way,
    greatest,
    means,
    name_places,
    peaks,
    spread,
    states,
)


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(len(shape)))


@pytest.mark.parametrize("pace", [0.01, 0.3, 0.9])
def test_a_peak_is_its_recursion_in_plain_numbers(pace: float) -> None:
    values = torch.relu(drawn(2, 3, 1, 40))
    values[..., 10:20] = 0
    values[1] *= 1e-4
    values[..., 30] = 5
    held, expected = np.zeros((2, 3, 1)), []
    for value in np.moveaxis(values.double().numpy(), 3, 0):
        held = np.maximum(value, (1 - pace) * held)
        expected.append(held)
    found = Peak(3, pace)(values).double().numpy()
    assert np.allclose(found, np.stack(expected, 3), rtol=1e-5, atol=0)
    assert not np.allclose(found, np.maximum.accumulate(values.numpy(), 3), rtol=1e-3)


def test_a_peak_holds_over_the_longest_streams() -> None:
    values = torch.zeros(1, 1, 1, 50_000)
    values[..., 0] = values[..., 49_990] = 1
    found = Peak(1, 0.5)(values)[0, 0, 0]
    assert found[:3].tolist() == [1, 0.5, 0.25]
    assert found[49_989:49_993].tolist() == [0, 1, 0.5, 0.25]


def test_gradients_of_a_peak_reach_what_it_holds() -> None:
    values = torch.tensor([1.0, 0.2, 3.0, 0.1])[None, None, None].requires_grad_(True)
    Peak(1, 0.1)(values).sum().backward()
    assert values.grad is not None
    assert torch.allclose(values.grad.flatten(), torch.tensor([1.9, 0, 1.9, 0]))


def test_a_mean_is_its_recursion_in_plain_numbers() -> None:
    values, held = drawn(1, 1, 1, 6), 0.0
    for value, found in zip(values.flatten().tolist(), Mean(1, 0.25)(values).flatten().tolist(), strict=True):
        held = 0.75 * held + 0.25 * value
        assert found == pytest.approx(held, abs=1e-6)


@pytest.mark.parametrize("size", range(1, 10))
@pytest.mark.parametrize("dim", [1, 3])
def test_the_greatest_is_the_maximum(size: int, dim: int) -> None:
    shape = [2, 3, 1, 4]
    shape[dim] = size
    values = drawn(*shape)
    assert torch.equal(greatest(values, dim), values.amax(dim, keepdim=True))


def test_means_and_peaks_of_chunks_by_hand() -> None:
    signal = torch.tensor([1.0, 3, -5, -1, 0, 2])[None, None, None]
    assert means(signal, 2).flatten().tolist() == [2, -3, 1]
    assert peaks(signal, 2).flatten().tolist() == [3, -1, 2]
    assert (means(signal, 6).flatten().tolist(), peaks(signal, 6).flatten().tolist()) == ([0], [3])
    assert spread(means(signal, 2), 2).flatten().tolist() == [2, 2, -3, -3, 1, 1]
    assert spread(means(signal, 6), 6).shape == (1, 1, 1, 1)


CHUNK = 6
BLOCKS = {
    "conv": lambda: HeldConv(3, 4, 5, stride=2),
    "upsample": lambda: HeldUpsample(3, 2, 7, stride=3),
    "peak": lambda: Peak(3, 0.3),
    "mean": lambda: Mean(3, 0.3),
}


class Network(nn.Module):
    """One block at some depth, and one that holds nothing."""

    def __init__(self, block: Held) -> None:
        super().__init__()
        self.inner = nn.ModuleList([nn.Module(), nn.Module()])
        self.inner[1].block = block
        self.point = HeldConv(3, 3, 1, norm=False)
        name_places(self)
        self.eval()

    def run(self, way: Way, signal: Tensor) -> Tensor:
        return way(self.inner[1].block, way(self.point, signal))


@pytest.mark.parametrize("name", BLOCKS)
@torch.no_grad()
def test_chunks_give_what_the_whole_signal_gives(name: str) -> None:
    torch.manual_seed(0)
    network = Network(BLOCKS[name]())
    width = 1 if name in ("peak", "mean") else CHUNK
    signal = drawn(2, 3, 1, 5 * width).abs()
    network.point.conv.weight.abs_()
    network.point.conv.bias.abs_()
    state = states(network, 2)
    assert list(state) == ["inner_1_block"]
    assert not any(value.any() for value in state.values())
    made = []
    for chunk in signal.split(width, 3):
        way = Way(state)
        made.append(network.run(way, chunk))
        state = way.following
    whole = network.run(Way(), signal)
    assert torch.allclose(torch.cat(made, 3), whole, atol=1e-6)
    forgetful = torch.cat([network.run(Way(states(network, 2)), chunk) for chunk in signal.split(width, 3)], 3)
    assert not torch.allclose(forgetful, whole, atol=1e-3)


@pytest.mark.parametrize("size", [None, 4])
def test_the_past_stands_before_every_chunk(size: int | None) -> None:
    past = Past(3, 5, size)
    dim = 3 if size is None else 2
    signal = drawn(2, 3, 1, 12) if size is None else drawn(2, 3, 12, size)
    whole, cache = past(signal), past.cache(2)
    for index, chunk in enumerate(signal.split(2, dim)):
        seen, cache = past.step(chunk, cache)
        assert torch.equal(seen, whole.narrow(dim, 2 * index, 7))


def test_what_holds_nothing_has_no_state() -> None:
    network = Network(Past(3, 0))
    assert states(network, 1) == {}
    signal = drawn(1, 3, 1, 6)
    assert torch.equal(network.run(Way({}), signal), network.run(Way(), signal))
