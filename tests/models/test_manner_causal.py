"""Causal MANNER: its attention in plain numbers, its window, what every state is for, loudness, gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from earshot.core.errors import ConfigError, ModelError
from earshot.models.frontend import Frontend
from earshot.models.held import Way, name_places
from earshot.models.manner_causal import CausalManner, CausalMannerParams, ChannelAttention, GlobalAttention
from earshot.models.registry import build

FRONTEND = Frontend(kind="wave", hop=32)


def tiny(**sizes: Any) -> CausalManner:
    torch.manual_seed(0)
    return CausalManner(FRONTEND, CausalMannerParams(**{"hidden": 6, "depth": 2, "chunk": 4, "window": 3, **sizes}))


def sound(samples: int, batch: int = 2) -> Tensor:
    return 0.1 * torch.randn(batch, samples, generator=torch.Generator().manual_seed(samples))


def settled(model: CausalManner) -> CausalManner:
    """With norms of what they see, which keeps signals alive through the network."""
    model.train()
    with torch.no_grad():
        for samples in range(6400, 6420):
            model.enhance(sound(samples))
    return model.eval()


def sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))


@pytest.mark.parametrize(("columns", "chunk", "window"), [(2, 5, 3), (4, 4, 2), (3, 3, 1), (1, 6, 20)])
def test_global_attention_is_the_formula_in_numpy(columns: int, chunk: int, window: int) -> None:
    torch.manual_seed(0)
    part = GlobalAttention(3, columns, chunk, window)
    name_places(part)
    signal = 3 * torch.randn(2, 3, 1, 7 * columns)
    with torch.no_grad():
        found = part(Way(), signal).numpy()
    weights = {
        name: linear.weight.detach().numpy() for name, linear in part.named_children() if hasattr(linear, "weight")
    }
    x = np.concatenate([np.zeros((2, 3, chunk - columns)), signal[:, :, 0].numpy()], -1)
    seen = [x[..., t * columns : t * columns + chunk] for t in range(7)]
    query, key, value = ([rows @ weights[name].T for rows in seen] for name in ("query", "key", "value"))
    for t in range(7):
        total = 0.0
        for s in range(max(0, t - window + 1), t + 1):
            likeness = (query[t] * key[s]).sum(-1, keepdims=True) / np.sqrt(chunk)
            total = total + sigmoid(likeness) * value[s] / window
        expected = total @ weights["output"].T
        assert np.allclose(found[:, :, 0, t * columns : (t + 1) * columns], expected, atol=1e-5)
    assert found.std() > 1e-2


def test_global_attention_sees_its_window_and_no_further() -> None:
    torch.manual_seed(0)
    part = GlobalAttention(3, 2, 4, 3)
    name_places(part)
    signal = torch.randn(1, 3, 1, 40)
    other = signal.clone()
    other[..., 8:10] += 1  # chunk 4; two columns before a chunk belong to it too
    with torch.no_grad():
        moved = (part(Way(), other) - part(Way(), signal)).abs().amax((0, 1, 2)).unflatten(0, (-1, 2)).amax(1)
    assert (moved > 1e-6).tolist() == [4 <= chunk <= 7 for chunk in range(20)]


def test_channel_attention_is_the_formula_in_numpy() -> None:
    torch.manual_seed(0)
    part = ChannelAttention(4, 3, 0.2)
    name_places(part)
    signal = torch.rand(2, 4, 1, 15)
    with torch.no_grad():
        found = part(Way(), signal).numpy()
    one, two = ([p.detach().numpy() for p in conv.parameters()] for conv in (part.gains[0], part.gains[2]))
    peak = mean = np.zeros((2, 4))
    for chunk in range(5):
        seen = signal[:, :, 0, 3 * chunk : 3 * chunk + 3].numpy()
        peak, mean = np.maximum(seen.max(-1), 0.8 * peak), 0.8 * mean + 0.2 * seen.mean(-1)
        total = sum(
            np.maximum(held @ one[0][..., 0, 0].T + one[1], 0) @ two[0][..., 0, 0].T + two[1] for held in (peak, mean)
        )
        assert np.allclose(found[:, :, 0, 3 * chunk : 3 * chunk + 3], seen * sigmoid(total)[..., None], atol=1e-6)


def test_every_state_is_heard() -> None:
    """A stream that drops any one state gives other sound; in double precision, so that none hides behind rounding."""
    model = settled(tiny(hidden=12, attention="deepest")).double()
    for part in model.modules():
        if isinstance(part, ChannelAttention):
            torch.nn.init.ones_(part.gains[0].bias)  # its ReLU lets all through
    sequence = FRONTEND.analyse(sound(32 * 10, 1)).sequence.double()
    sequence[:, :, 5:] /= 4

    def stream(dropped: str | None) -> Tensor:
        state, made = model.initial_state(), []
        for frame in sequence.split(1, 2):
            output, state = model.step(frame, state)
            if dropped:
                state[dropped] = torch.zeros_like(state[dropped])
            made.append(output)
        return torch.cat(made, 2)

    with torch.no_grad():
        whole = model(sequence)
        assert float((stream(None) - whole).abs().max()) < 1e-12
        silent = [name for name in model.initial_state() if float((stream(name) - whole).abs().max()) < 1e-9]
    assert silent == []


@pytest.mark.parametrize(("attention", "stages"), [("every", slice(0, 4)), ("deepest", slice(1, 3))])
def test_views_are_those_of_the_offline_network(attention: str, stages: slice) -> None:
    sequence = FRONTEND.analyse(sound(640)).sequence
    with torch.no_grad():
        trace = settled(tiny(attention=attention)).trace(sequence)
        offline = build("manner", FRONTEND, {"hidden": 6, "depth": 2, "attention": attention}).eval().trace(sequence)
    assert list(trace.views) == list(offline.views)
    assert [layer.shape[:2] for layer in trace.layers] == [layer.shape[:2] for layer in offline.layers]
    for kind, maps in trace.views.items():
        assert [map_.shape[:2] for map_ in maps] == [map_.shape[:2] for map_ in offline.views[kind]]
        assert [map_.shape[2:] for map_ in maps] == [layer.shape[2:] for layer in trace.layers[stages]]
        assert all(float(map_.std()) > 0 for map_ in maps)
    assert trace.latent.shape == (2, 40, 24)


def test_the_output_is_aligned_with_the_input() -> None:
    """With an open mask and convolutions that only carry, x comes back as x level / (1/128 + level)."""
    model = tiny().eval()
    with torch.no_grad():
        for conv in (model.into.conv, model.output.conv, model.mask.mask.conv):
            for parameter in conv.parameters():
                parameter.zero_()
        model.mask.mask.conv.bias.fill_(1.0)
        for channel, sign in enumerate((1.0, -1.0)):
            model.into.conv.weight[channel, 0, 0, 2] = model.output.conv.weight[0, channel, 0, 2] = sign
        noisy = sound(32 * 20)
        found = model.enhance(noisy)
    level, expected = np.zeros((2, 1)), []
    for chunk in noisy.unflatten(1, (-1, 32)).unbind(1):
        level = np.maximum(np.abs(chunk.numpy()).mean(-1, keepdims=True), 0.97 * level)
        expected.append(chunk.numpy() * level / (level + 1 / 128))
    assert np.allclose(found.numpy(), np.concatenate(expected, -1), atol=1e-5)


def test_ten_times_louder_in_is_ten_times_louder_out() -> None:
    model = settled(tiny())
    noisy = sound(3200)
    with torch.no_grad():
        usual, louder = model.enhance(3 * noisy), model.enhance(30 * noisy)
        faint, tenfold = model.enhance(0.1 * noisy), model.enhance(noisy)
    assert float((louder / 10 - usual).norm() / usual.norm()) < 0.01
    # The negative control: near 1/128 the level no longer decides alone what the network sees.
    assert float((tenfold / 10 - faint).norm() / faint.norm()) > 0.05


def test_silence_stays_silence() -> None:
    with torch.no_grad():
        assert not tiny().eval().enhance(torch.zeros(1, 640)).any()


@pytest.mark.parametrize("attention", ["every", "deepest"])
def test_gradients_reach_every_weight(attention: str) -> None:
    model = tiny(attention=attention, hidden=12).train()
    (model.enhance(sound(3200)) - sound(3200)).square().mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.isfinite().all()), name
        if parameter.dim() > 1:  # biases before a norm are taken out by it
            assert float(parameter.grad.abs().max()) > 0, name


@pytest.mark.parametrize(
    ("frontend", "params", "kind", "words"),
    [
        (Frontend(), {}, ModelError, "works on samples"),
        (Frontend(kind="wave", hop=64, channels=2), {}, ModelError, "one microphone"),
        (Frontend(kind="wave", hop=96), {}, ModelError, r"96 samples is no multiple of 4\^3"),
        (FRONTEND, {"pace": 1}, ConfigError, "pace"),
        (FRONTEND, {"window": 0}, ConfigError, "window"),
        (FRONTEND, {"kernel": 3}, ConfigError, "leaves samples out"),
    ],
)
def test_what_cannot_be_built_says_why(frontend: Frontend, params: dict, kind: type, words: str) -> None:
    with pytest.raises(kind, match=words):
        build("manner_causal", frontend, params)
