"""The contract of every registered network: frame by frame it gives what whole sequences give, and never looks ahead.

A network added to the registry is held to it by its default sizes; more of them go into `SIZES`.
"""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from earshot.core.errors import ConfigError, ModelError, UsageError
from earshot.models import cost, moments
from earshot.models.dae_unet import DaeUnet, DaeUnetParams
from earshot.models.frontend import Frontend
from earshot.models.moments import RunningNorm
from earshot.models.registry import NETWORKS, build, network
from earshot.models.streaming import State, StreamingModel, Trace
from earshot.models.wave_layers import Walk

TOLERANCE = 1e-5
NARROW = Frontend()
WIDE = Frontend(rate=48000, window=1024, hop=512, fft=1024)
SIZES: dict[str, list[dict[str, Any]]] = {
    "dae_unet": [
        {},
        {"channels": [6], "strides": [8], "expansion": 3, "latent": 5, "hidden": 9},
        {"channels": [4, 12], "strides": [2, 8], "kernel_time": 4, "latent": 12, "hidden": 4},
        {"channels": [8, 8], "strides": [4, 4], "kernel_time": 1, "decoder_blocks": False, "latent": 8, "hidden": 8},
        {"channels": [4, 6, 10], "strides": [4, 2, 2], "widths": [5, 7, 11, 3, 2], "latent": 3, "hidden": 5},
    ],
    "conv_tasnet": [
        {"basis": 9, "bottleneck": 5, "inner": 7, "blocks": 2, "stacks": 2},
        {"basis": 6, "kernel": 150, "stride": 64, "bottleneck": 4, "inner": 5, "span": 4, "blocks": 3, "stacks": 1},
    ],
    "dccrn": [{"channels": [3, 4, 5], "hidden": 6}, {"channels": [4], "hidden": 3}],
    "dptnet": [{"basis": 12, "kernel": 16, "stride": 8, "width": 8, "heads": 2, "hidden": 5, "blocks": 2, "chunk": 10}],
    "manner": [{"hidden": 6, "depth": 2}],
    "manner_causal": [
        {"hidden": 6, "depth": 2},
        {"hidden": 7, "depth": 3, "attention": "deepest", "chunk": 5, "window": 3, "kernel": 9, "pace": 0.3},
        {"hidden": 6, "depth": 1, "stride": 2, "kernel": 2, "chunk": 100, "window": 1},
    ],
    "mobile_unet": [
        {"channels": [4, 6, 8], "hidden": 9, "mask_hidden": 5},
        {"channels": [4, 6], "strides": [4, 8], "lookback": 0, "kernel_time": 1, "hidden": 5, "forget": 0.2},
        {"channels": [4, 6], "strides": [4, 8], "widths": [5, 7, 3], "hidden": 5, "mask_hidden": 4},
    ],
    "ft_jnf": [{"hidden_frequency": 6, "hidden_time": 5}],
    "metricgan": [{"hidden": 9, "wide": 7}],
    "rt_senet": [{"channels": [4, 6, 8]}, {"channels": [5, 3], "strides": [2, 8], "kernel": 11}],
    "wave_unet": [
        {"channels": [4, 6, 8, 9]},
        {"channels": [3, 5], "strides": [8], "kernel": 9, "pace": 0.5, "inner": [2, 3, 1]},
    ],
}
HEARING_AID = Frontend(rate=48000, window=384, hop=192, fft=384)
FRONTENDS = {"dae_unet": [NARROW, WIDE], "mobile_unet": [network("mobile_unet").usual, HEARING_AID]}
CAUSAL = [name for name in NETWORKS if network(name).causal]
EVERY = [
    (name, frontend, params)
    for name in CAUSAL
    for frontend in FRONTENDS.get(name, [network(name).usual])
    for params in SIZES.get(name, [{}])
]


def randomise(model: StreamingModel, seed: int) -> StreamingModel:
    """Weights that let the mask move, and BatchNorm statistics that are not the ones of a fresh network."""
    dice = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=dice))
        for part in model.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.running_mean.normal_(0, 0.5, generator=dice)
                part.running_var.uniform_(0.5, 2, generator=dice)
    return model.eval()


def features(frontend: Frontend, seed: int, frames: int = 10, batch: int = 2) -> Tensor:
    dice = torch.Generator().manual_seed(seed + 1)
    return torch.rand(batch, frontend.inputs, frames, frontend.bins, generator=dice)


@torch.no_grad()
def assert_streams(model: StreamingModel, seed: int) -> None:
    sequence = features(model.frontend, seed)
    offline = model(sequence)
    assert offline.shape == (len(sequence), model.frontend.outputs, *sequence.shape[2:])
    assert float((model.stream(sequence) - offline).abs().max()) <= TOLERANCE


@torch.no_grad()
def assert_causal(model: StreamingModel, seed: int) -> None:
    """Another future leaves every bit of the past."""
    sequence = features(model.frontend, seed)
    for split in (1, 4, 9):
        other = sequence.clone()
        other[:, :, split:] = 3 * torch.rand(other[:, :, split:].shape)
        before, after = model(sequence), model(other)
        assert torch.equal(before[:, :, :split], after[:, :, :split])


@torch.no_grad()
def assert_remembers(model: StreamingModel, seed: int) -> None:
    """The first frame is still heard in the second mask: the checks here are about states that matter."""
    sequence = features(model.frontend, seed)
    other = sequence.clone()
    other[:, :, 0] = 3 * torch.rand(other[:, :, 0].shape)
    assert float((model(sequence) - model(other))[:, :, 1].abs().max()) > 10 * TOLERANCE


@torch.no_grad()
def assert_folds(model: StreamingModel, seed: int) -> None:
    folded = model.prepare_for_export()
    sequence = features(model.frontend, seed)
    assert folded is not model
    assert not any(isinstance(part, nn.BatchNorm2d) for part in folded.modules())
    assert float((folded.stream(sequence) - model(sequence)).abs().max()) <= TOLERANCE


@pytest.mark.parametrize(("name", "frontend", "params"), EVERY)
def test_streaming_equals_offline(name: str, frontend: Frontend, params: dict) -> None:
    for seed in range(3):
        torch.manual_seed(seed)
        model = randomise(build(name, frontend, params), seed)
        assert_streams(model, seed)
        assert_causal(model, seed)
        assert_remembers(model, seed)
        assert_folds(model, seed)


@settings(deadline=None, max_examples=30, derandomize=True)
@given(
    stages=st.lists(st.tuples(st.integers(1, 9), st.sampled_from([2, 4])), min_size=1, max_size=3),
    expansion=st.integers(1, 3),
    kernel_time=st.integers(1, 4),
    latent=st.integers(1, 9),
    hidden=st.integers(1, 9),
    decoder_blocks=st.booleans(),
    frontend=st.sampled_from([Frontend(window=128, hop=64, fft=128), Frontend(window=320, hop=160, fft=512), WIDE]),
    seed=st.integers(0, 2**16),
)
def test_system_1_streams_at_any_size(stages: list, frontend: Frontend, seed: int, **sizes: Any) -> None:
    channels, strides = zip(*stages, strict=True)
    model = randomise(DaeUnet(frontend, DaeUnetParams(channels=channels, strides=strides, **sizes)), seed)
    assert_streams(model, seed)
    assert_causal(model, seed)
    assert_folds(model, seed)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_shows_what_distillation_compares(name: str) -> None:
    kind = network(name)
    params = SIZES.get(name, SIZES.get(name.removesuffix("_offline"), [{}]))[0]
    model = randomise(build(name, kind.usual, params), 0)
    sequence = features(model.frontend, 0, frames=12)
    with torch.no_grad():
        trace = model.trace(sequence)
        assert torch.equal(trace.output, model(sequence))
    assert trace.latent.dim() == 3
    assert trace.layers
    assert all(layer.dim() == 4 and len(layer) == 2 for layer in trace.layers)
    sound = torch.randn(2, kind.usual.channels, 3001)
    with torch.no_grad():
        assert model.enhance(sound).shape == (2, 3001)


@pytest.mark.parametrize("name", [name for name in NETWORKS if name not in CAUSAL])
def test_a_network_that_sees_the_future_cannot_stream(name: str) -> None:
    model = build(name, network(name).usual, SIZES.get(name.removesuffix("_offline"), [{}])[0]).eval()
    with pytest.raises(ModelError, match="whole signals"):
        model.initial_state(1)
    with pytest.raises(AssertionError):
        assert_causal(model, 0)


# What the authors' code or arithmetic on known facts says.
@pytest.mark.parametrize(
    ("name", "frontend", "params", "expected"),
    [
        ("metricgan", {"features": "log1p"}, {}, 826_714),
        ("metricgan_offline", {"features": "log1p"}, {}, 1_895_514),
        ("ft_jnf", {"features": "complex", "mask": "complex", "channels": 5}, {}, 877_826),
        ("ft_jnf_offline", {"features": "complex", "mask": "complex", "channels": 5}, {}, 1_206_786),
    ],
)
def test_published_sizes_have_their_published_parameters(
    name: str, frontend: dict, params: dict, expected: int
) -> None:
    assert cost.parameters(build(name, Frontend(**frontend), params)) == expected


@pytest.mark.parametrize(("sizes", "share"), [((128, 64), 0.256), ((48, 24), 0.039)])
def test_students_of_system_3_have_their_share_of_the_teachers_parameters(sizes: tuple, share: float) -> None:
    params = dict(zip(("hidden_frequency", "hidden_time"), sizes, strict=True))
    usual = network("ft_jnf_offline").usual
    student = cost.parameters(build("ft_jnf_offline", usual, params))
    assert student / cost.parameters(build("ft_jnf_offline", usual, {})) == pytest.approx(share, abs=5e-4)


def test_the_low_latency_variant_of_system_2_keeps_eight_milliseconds() -> None:
    model = build("mobile_unet", HEARING_AID, {})
    assert {found.metric: found.value for found in cost.cost(model)}["algorithmic_latency_ms"] == 8


@pytest.mark.parametrize(("spans", "dims"), [("bins", 3), ("frame", (1, 3))])
@pytest.mark.parametrize("floor", [0.0, 0.25])
@pytest.mark.parametrize("blocks", [False, True])
def test_running_norms_are_their_recursion_in_plain_numbers(
    spans: str, dims: Any, floor: float, blocks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if blocks:  # nine frames as four, four and one
        monkeypatch.setattr(moments, "_AT_ONCE", 8)
        monkeypatch.setattr(moments, "_BLOCK", 4)
    sequence = torch.randn(2, 3, 9, 5, generator=torch.Generator().manual_seed(0)) + 1
    mean = square = torch.zeros(1)
    expected = []
    for time, frame in enumerate(sequence.split(1, 2), start=1):
        share = max(1 / time, floor)
        mean = (1 - share) * mean + share * frame.mean(dims, keepdim=True)
        square = (1 - share) * square + share * frame.square().mean(dims, keepdim=True)
        expected.append((frame - mean) / (square - mean**2 + 1e-5).sqrt())
    with torch.no_grad():
        found = RunningNorm(3, spans, floor)(sequence)
    assert torch.allclose(found, torch.cat(expected, 2), atol=1e-4)


def test_a_count_that_cannot_grow_any_more_stays() -> None:
    """Of float32: one more than 2^24 is 2^24, and the mean goes on from there."""
    norm = RunningNorm(2, "bins", 0.0)
    most = 2.0**24
    held = {"n_count": torch.full((1, 1), most), "n_mean": torch.ones(1, 2), "n_square": torch.full((1, 2), 2.0)}
    walk = Walk(held)
    with torch.no_grad():
        found = norm.step("n", walk, torch.full((1, 2, 1, 3), 3.0))
    assert float(walk.following["n_count"]) == most
    assert torch.allclose(walk.following["n_mean"], torch.ones(1, 2))
    assert torch.allclose(found, torch.full((1, 2, 1, 3), 2.0), atol=1e-4)  # (3 - 1) / sqrt(2 - 1)


class Forgetful(DaeUnet):
    """Drops one of its states."""

    forgets = "gru"

    def step(self, frame: Tensor, state: State) -> tuple[Tensor, State]:
        mask, following = super().step(frame, state)
        following[self.forgets] = torch.zeros_like(following[self.forgets])
        return mask, following


class ForgetsFrames(Forgetful):
    forgets = "enc0"


class LooksAhead(DaeUnet):
    """Sees the next frame in training, which no device has."""

    def trace(self, sequence: Tensor) -> Trace:
        return super().trace(torch.roll(sequence, -1, dims=2))


class FoldsWrongly(DaeUnet):
    """Leaves the running mean behind."""

    def prepare_for_export(self) -> DaeUnet:
        folded = super().prepare_for_export()
        folded.down[0].conv.bias.data.add_(0.01)
        return folded


@pytest.mark.parametrize(
    ("broken", "check"),
    [
        (Forgetful, assert_streams),
        (ForgetsFrames, assert_streams),
        (LooksAhead, assert_streams),
        (LooksAhead, assert_causal),
        (FoldsWrongly, assert_folds),
    ],
)
def test_a_broken_network_fails_the_same_checks(broken: type[DaeUnet], check: Any) -> None:
    model = randomise(broken(NARROW, DaeUnetParams(channels=(8, 8), strides=(4, 4), latent=8, hidden=8)), 0)
    with pytest.raises(AssertionError):
        check(model, 0)


def test_states_are_named_sized_and_zero_as_the_contract_says() -> None:
    model = build(
        "dae_unet", NARROW, {"channels": [4, 6], "strides": [4, 8], "kernel_time": 3, "latent": 5, "hidden": 7}
    )
    state = model.initial_state(2)
    # 257 bins -> 65 -> 9; inverted bottlenecks are `expansion` = 2 times as wide inside and look two frames back.
    shapes = {"enc0": (2, 8, 2, 65), "enc1": (2, 12, 2, 9), "gru": (2, 7), "dec0": (2, 8, 2, 65)}
    assert {name: tuple(value.shape) for name, value in state.items()} == shapes
    assert all(value.dtype == torch.float32 and not value.any() for value in state.values())
    _, following = model.eval().step(torch.rand(2, 1, 1, 257), state)
    assert {name: tuple(value.shape) for name, value in following.items()} == shapes
    assert not any(value.any() for value in state.values()), "a step changed the state it was given"


def test_whole_signals_come_back_aligned() -> None:
    model = randomise(build("dae_unet", NARROW, {"channels": [4, 4], "strides": [4, 4]}), 0)
    model.up[-1].conv.bias.data.fill_(50.0)  # mask = 1
    sound = torch.randn(2, 3001)
    with torch.no_grad():
        assert torch.allclose(model.enhance(sound), sound, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "params", "kind", "words"),
    [
        ("dae_unett", {}, UsageError, "did you mean 'dae_unet'"),
        ("dae_unet", {"chanels": [4]}, ConfigError, "did you mean 'channels'"),
        ("dae_unet", {"channels": [4, 4], "strides": [4]}, ConfigError, "strides must be even"),
        ("dae_unet", {"channels": [4], "strides": [3]}, ConfigError, "strides must be even"),
        ("dae_unet", {"channels": [0], "strides": [2]}, ConfigError, "must be positive"),
        ("dae_unet", {"widths": [4]}, ConfigError, "widths must name all 5"),
        ("dae_unet", {"channels": [4] * 9, "strides": [2] * 9}, ModelError, "use an FFT that is a multiple of 1024"),
        ("no.such.package:Net", {}, UsageError, "No module named"),
        ("earshot.models.dae_unet:Nothing", {}, UsageError, "has no 'Nothing'"),
        ("earshot.models.dae_unet:DaeUnetParams", {}, ModelError, "not a StreamingModel"),
    ],
)
def test_a_network_that_cannot_be_built_says_why(name: str, params: dict, kind: type, words: str) -> None:
    with pytest.raises(kind, match=words):
        build(name, NARROW, params)


USERS_NETWORK = """
from earshot.core.config import Config
from earshot.models import cost, moments
from earshot.models.dae_unet import DaeUnet, DaeUnetParams

class Params(DaeUnetParams):
    channels: tuple[int, ...] = (4, 4)
    strides: tuple[int, ...] = (4, 4)

class Mine(DaeUnet):
    Params = Params
"""


def test_a_users_network_is_named_by_module_and_class(tmp_path, monkeypatch) -> None:
    (tmp_path / "users_nets").mkdir()
    (tmp_path / "users_nets" / "small.py").write_text(USERS_NETWORK)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    model = randomise(build("users_nets.small:Mine", NARROW, {"latent": 6}), 0)
    assert type(model) is network("users_nets.small:Mine")
    assert model.params.channels == (4, 4)
    assert model.to_latent.out_features == 6
    assert_streams(model, 0)
