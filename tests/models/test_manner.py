"""MANNER: the published parameter counts, lengths that no stride divides, views, loudness, gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from earshot.core.errors import ConfigError, ModelError
from earshot.models import cost
from earshot.models.frontend import Frontend
from earshot.models.manner import Attention, ChannelAttention, GlobalAttention, LocalAttention, Manner, MannerParams
from earshot.models.registry import build

FRONTEND = Frontend(kind="wave", hop=64)
SMALL = {"attention": "deepest"}
NARROW = {"hidden": 30, "depth": 3, "attention": "deepest"}


def tiny(**sizes: Any) -> Manner:
    torch.manual_seed(0)
    return Manner(FRONTEND, MannerParams(**{"hidden": 6, "depth": 2, "chunk": 8, **sizes}))


def sound(samples: int, batch: int = 2) -> Tensor:
    return torch.randn(batch, samples, generator=torch.Generator().manual_seed(samples))


def million(params: dict) -> float:
    with torch.device("meta"):
        return cost.parameters(build("manner", Manner.usual, params)) / 1e6


@pytest.mark.parametrize(
    ("params", "published", "digits"),
    [(SMALL, 21.25, 2), ({}, 24.07, 2), ({"hidden": 120}, 95.5, 1), (NARROW, 1.381, 3)],
    ids=["small", "base", "large", "mv-at"],
)
def test_sizes_have_their_published_parameters(params: dict, published: float, digits: int) -> None:
    assert round(million(params), digits) == published


def test_the_narrow_student_is_as_much_smaller_as_published() -> None:
    assert round(million(SMALL) / million(NARROW), 1) == 15.4
    assert round(million({}) / million(NARROW), 1) != 15.4


def billion_per_second(params: dict) -> float:
    """Multiply-accumulates of one second of sound, counted without computing anything."""
    with torch.device("meta"):
        model, second = build("manner", Manner.usual, params).eval(), torch.zeros(1, 1, 125, 128)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.trace(second)
    return counter.get_total_flops() / 2e9


@pytest.mark.parametrize(
    ("params", "expected"), [(SMALL, 3.4), ({}, 7.2), ({"hidden": 120}, 25.9)], ids=["small", "base", "large"]
)
def test_sizes_cost_what_their_description_says(params: dict, expected: float) -> None:
    """SMALL is the published figure; BASE and LARGE are 1.15 and 1.08 times theirs."""
    assert round(billion_per_second(params), 1) == expected


def test_the_narrow_student_costs_less_by_what_its_description_says() -> None:
    assert round(billion_per_second(SMALL) / billion_per_second(NARROW), 1) == 4.5


@settings(deadline=None, max_examples=25, derandomize=True)
@given(
    samples=st.integers(1, 700),
    depth=st.integers(1, 3),
    strides=st.sampled_from([(8, 4), (4, 4), (5, 2), (3, 3), (7, 1)]),
)
def test_signals_of_any_length_keep_it(samples: int, depth: int, strides: tuple[int, int]) -> None:
    kernel, stride = strides
    model = tiny(depth=depth, kernel=kernel, stride=stride, attention="deepest").eval()
    with torch.no_grad():
        found = model.enhance(sound(samples))
    assert found.shape == (2, samples)
    assert bool(found.isfinite().all())


@pytest.mark.parametrize("samples", [1000, 1001, 1023])
def test_the_output_is_aligned_with_the_input(samples: int) -> None:
    """With an open mask and convolutions that only carry, x comes back as x deviation / (0.001 + deviation)."""
    model = tiny().eval()
    with torch.no_grad():
        for conv in (model.into[0], model.output, model.mask.mask):
            for parameter in conv.parameters():
                parameter.zero_()
        model.mask.mask.bias.fill_(1.0)
        for channel, sign in enumerate((1.0, -1.0)):
            model.into[0].weight[channel, 0, 1] = model.output.weight[0, channel, 1] = sign
        noisy = sound(samples)
        found = model.enhance(noisy)
        # Chunks of the frontend are whole: the deviation counts the zeros after the last sample.
        deviation = model.frontend.analyse(noisy).sequence.flatten(1).std(-1, keepdim=True)
    expected = noisy * deviation / (1e-3 + deviation)
    assert torch.allclose(found, expected, atol=1e-4)
    assert not torch.allclose(found[:, 1:], expected[:, :-1], atol=1e-1)


@pytest.mark.parametrize(
    ("attention", "stages"),
    [("every", slice(0, 6)), ("deepest", slice(2, 4))],
)
def test_views_are_one_map_of_each_kind_a_block(attention: str, stages: slice) -> None:
    model = tiny(depth=3, attention=attention).eval()
    with torch.no_grad():
        trace = model.trace(sound(640)[:, None].unflatten(-1, (-1, 64)))
    assert list(trace.views) == ["channel", "global", "local"]
    widths = [12, 24, 48, 24, 12, 6]
    assert [layer.shape[:2] for layer in trace.layers] == [(2, width) for width in widths]
    for maps in trace.views.values():
        expected = [(2, layer.shape[1] // 3, layer.shape[2], 1) for layer in trace.layers[stages]]
        assert [map_.shape for map_ in maps] == expected
        assert all(float(map_.std()) > 0 for map_ in maps)
    assert trace.latent.shape == (2, trace.layers[2].shape[2], 48)


def test_views_are_what_each_branch_makes_of_the_signal() -> None:
    torch.manual_seed(0)
    block = Attention(12, 8).eval()
    signal = torch.randn(2, 12, 50)
    with torch.no_grad():
        _, (channel, over, inside) = block(signal)
        assert torch.equal(channel, block.over_channels(block.inputs[0](signal)))
        for parameter in (*block.over_chunks.parameters(), *block.in_chunks.gains.parameters()):
            parameter.zero_()
        _, (_, silent, halved) = block(signal)
        assert not silent.any()
        assert torch.allclose(halved, block.inputs[2](signal) / 2, atol=1e-6)
    assert over.any()
    assert not torch.allclose(inside, halved, atol=1e-4)


def test_channel_attention_is_the_formula_in_numpy() -> None:
    torch.manual_seed(0)
    part = ChannelAttention(4)
    signal = torch.randn(2, 4, 9)
    with torch.no_grad():
        found = part(signal).numpy()
    one, two = ([p.detach().numpy() for p in linear.parameters()] for linear in (part.gains[0], part.gains[2]))
    x, total = signal.numpy(), 0.0
    for pooled in (x.max(-1), x.mean(-1)):
        total = total + np.maximum(pooled @ one[0].T + one[1], 0) @ two[0].T + two[1]
    assert np.allclose(found, x / (1 + np.exp(-total))[..., None], atol=1e-6)


def test_global_attention_is_the_formula_in_numpy() -> None:
    torch.manual_seed(0)
    part = GlobalAttention(6)
    chunks = 3 * torch.randn(2, 3, 5, 6)
    with torch.no_grad():
        found = part(chunks).numpy()
    weights = {name: linear.weight.detach().numpy() for name, linear in part.named_children()}
    query, key, value = (chunks.numpy() @ weights[name].T for name in ("query", "key", "value"))
    likeness = np.exp(query @ key.swapaxes(-1, -2) / np.sqrt(6))
    expected = likeness / likeness.sum(-1, keepdims=True) @ value @ weights["output"].T
    assert np.allclose(found, expected, atol=1e-5)
    assert not np.allclose(found, value.mean(-2, keepdims=True) @ weights["output"].T, atol=1e-2)


def test_local_attention_weighs_samples_of_a_chunk_alike_in_all_channels() -> None:
    torch.manual_seed(0)
    part = LocalAttention(4).eval()
    chunks = torch.rand(2, 4, 5, 16) + 1
    with torch.no_grad():
        gains = part(chunks) / chunks
        other = chunks.clone()
        other[:, :, 1] += torch.randn(2, 4, 16)
        moved = (part(other) / other - gains).abs().amax((0, 1, 3))
    assert torch.allclose(gains, gains[:, :1].expand_as(gains), atol=1e-6)
    assert float(gains.std()) > 1e-3
    assert float(moved[1]) > 1e-3
    assert float(moved[[0, 2, 3, 4]].max()) < 1e-6


def test_ten_times_louder_in_is_ten_times_louder_out() -> None:
    model = tiny().train()
    noisy = sound(1001)
    with torch.no_grad():
        model.enhance(noisy)  # norms of what they see keep the signal alive
        model.eval()
        usual, louder = model.enhance(noisy), model.enhance(10 * noisy)
        faint, tenfold = model.enhance(1e-4 * noisy), model.enhance(1e-3 * noisy)
    assert float((louder / 10 - usual).norm() / usual.norm()) < 0.01
    # The negative control: far below 0.001 the deviation no longer decides what the network sees.
    assert float((tenfold / 10 - faint).norm() / faint.norm()) > 0.05


def test_silence_stays_silence() -> None:
    with torch.no_grad():
        assert not tiny().eval().enhance(torch.zeros(1, 500)).any()


@pytest.mark.parametrize("attention", ["every", "deepest"])
def test_gradients_reach_every_weight(attention: str) -> None:
    model = tiny(attention=attention, hidden=12).train()
    (model.enhance(sound(2001)) - sound(2001)).square().mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.isfinite().all()), name
        if parameter.dim() > 1:  # biases before a norm are taken out by it
            assert float(parameter.grad.abs().max()) > 0, name


def test_initial_weights_are_drawn_towards_a_deviation() -> None:
    """√(deviation / 0.1) divides, so a deviation d becomes √(0.1 d)."""
    torch.manual_seed(7)
    plain = nn.Conv1d(1, 60, 3, padding=1)
    torch.manual_seed(7)
    rescaled = Manner(FRONTEND, MannerParams(hidden=60, depth=1)).into[0]
    scale = (plain.weight.detach().std() / 0.1).sqrt()
    assert torch.allclose(rescaled.weight, plain.weight / scale)
    assert torch.allclose(rescaled.bias, plain.bias / scale)
    assert float(scale) != pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(
    ("frontend", "params", "kind", "words"),
    [
        (Frontend(), {}, ModelError, "works on samples"),
        (Frontend(kind="wave", hop=64, channels=2), {}, ModelError, "one microphone"),
        (FRONTEND, {"hidden": 5}, ConfigError, "hidden"),
        (FRONTEND, {"kernel": 3}, ConfigError, "leaves samples out"),
        (FRONTEND, {"chunk": 7}, ConfigError, "multiple of 2"),
        (FRONTEND, {"attention": "none"}, ConfigError, "'every' or 'deepest'"),
    ],
)
def test_what_cannot_be_built_says_why(frontend: Frontend, params: dict, kind: type, words: str) -> None:
    with pytest.raises(kind, match=words):
        build("manner", frontend, params)
