"""DPTNet: its parameter counts, lengths that nothing divides, alignment, the two paths, gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from earshot.core.errors import ConfigError, ModelError
from earshot.models import cost
from earshot.models.dptnet import Dptnet, DptnetParams
from earshot.models.frontend import Frontend
from earshot.models.registry import build

FRONTEND = Frontend(kind="wave", hop=64)
SIZES = {"basis": 12, "kernel": 16, "stride": 8, "width": 8, "heads": 2, "hidden": 5, "blocks": 2, "chunk": 10}


def tiny(**sizes: Any) -> Dptnet:
    torch.manual_seed(0)
    return Dptnet(FRONTEND, DptnetParams(**{**SIZES, **sizes})).eval()


def sound(samples: int) -> Tensor:
    return torch.randn(2, samples, generator=torch.Generator().manual_seed(samples))


def test_parameters_are_the_published_ones() -> None:
    with torch.device("meta"):
        model = Dptnet(Dptnet.usual, DptnetParams())
    found = cost.parameters(model)
    assert found == 2_830_785
    second_speaker = 64 * 64 + 64
    unseen = sum(
        part.in_proj_weight.numel() + part.in_proj_bias.numel()
        for part in model.modules()
        if isinstance(part, nn.MultiheadAttention)
    )
    assert found + second_speaker == 2_834_945
    assert unseen == 149_760
    assert round((found + second_speaker - unseen) / 1e6, 2) == 2.69
    assert round((found + second_speaker) / 1e6, 2) != 2.69


@settings(deadline=None, max_examples=25, derandomize=True)
@given(
    samples=st.integers(1, 400),
    basis=st.sampled_from([(16, 8), (2, 1), (8, 8), (7, 3)]),
    chunk=st.sampled_from([2, 10, 26]),
)
def test_signals_of_any_length_keep_it(samples: int, basis: tuple[int, int], chunk: int) -> None:
    with torch.no_grad():
        found = tiny(kernel=basis[0], stride=basis[1], chunk=chunk, blocks=1).enhance(sound(samples))
    assert found.shape == (2, samples)
    assert bool(found.isfinite().all())


def carrying(model: Dptnet) -> Dptnet:
    """A basis of single samples, both signs, and a mask of one: what is left is the way through."""
    kernel, overlaps = model.params.kernel, model.params.kernel // model.params.stride
    with torch.no_grad():
        for tap in range(kernel):
            for row, sign in ((2 * tap, 1.0), (2 * tap + 1, -1.0)):
                for conv, size in ((model.encoder, sign), (model.decoder, sign / overlaps)):
                    conv.weight[row] = 0
                    conv.weight[row, 0, tap] = size
        for gate in (model.value, model.gate):
            gate.bias.fill_(50.0)
        model.mask.weight.fill_(1 / model.params.width)
    return model


@pytest.mark.parametrize("samples", [640, 641, 703])
def test_the_output_is_aligned_with_the_input_and_whole_at_both_ends(samples: int) -> None:
    model = carrying(tiny(basis=32))
    noisy = sound(samples)
    with torch.no_grad():
        found = model.enhance(noisy)
    assert torch.allclose(found, noisy, atol=1e-5)
    assert not torch.allclose(found[:, 1:], noisy[:, :-1], atol=1e-1)


def test_one_path_sees_its_chunk_and_the_other_the_whole_signal() -> None:
    """Columns that a change of the first sample moves, with the norm over the whole signal taken out."""
    one = sound(640)
    other = one.clone()
    other[:, 0] += 1
    reached = {}
    for paths in ("within", "both"):
        model = tiny(blocks=1)
        model.norm = nn.Identity()
        if paths == "within":
            model.across[0] = nn.Identity()
        with torch.no_grad():
            first, second = (model.trace(x[:, None].unflatten(-1, (-1, 64))).layers[0] for x in (one, other))
        moved = (first - second).abs().amax((0, 1, 3)) > 1e-7
        reached[paths] = int(moved.nonzero().max()) + 1
        columns = first.shape[2]
    assert reached["within"] <= 10
    assert reached["both"] > columns - 10


def test_the_trace_shows_every_block() -> None:
    model = tiny()
    with torch.no_grad():
        trace = model.trace(sound(640)[:, None].unflatten(-1, (-1, 64)))
    columns = 640 // 8 + 1
    assert trace.output.shape == (2, 1, 10, 64)
    assert [layer.shape for layer in trace.layers] == [(2, 8, columns, 1)] * 2
    assert trace.latent.shape == (2, columns, 8)
    assert not trace.views


def test_gradients_reach_every_parameter() -> None:
    model = tiny().train()
    (model.enhance(sound(641)) - sound(641)).square().mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.isfinite().all()), name
        assert float(parameter.grad.abs().max()) > 0, name


@pytest.mark.parametrize(
    ("frontend", "params", "kind", "words"),
    [
        (Frontend(), {}, ModelError, "works on samples"),
        (Frontend(kind="wave", hop=64, channels=2), {}, ModelError, "one microphone"),
        (FRONTEND, {"width": 6}, ConfigError, "no multiple of 4 heads"),
        (FRONTEND, {"kernel": 1, "stride": 2}, ConfigError, "leaves samples out"),
        (FRONTEND, {"chunk": 9}, ConfigError, "multiple of 2"),
    ],
)
def test_what_cannot_be_built_says_why(frontend: Frontend, params: dict, kind: type, words: str) -> None:
    with pytest.raises(kind, match=words):
        build("dptnet", frontend, params)
