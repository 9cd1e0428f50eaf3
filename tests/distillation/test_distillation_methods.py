"""Every distillation method against its formula in plain numpy, and where gradients go."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from earshot.core.errors import UsageError
from earshot.models.frontend import Frontend
from earshot.models.registry import build
from earshot.models.streaming import StreamingModel
from earshot.pipeline.distillation.base import DistillationMethod, View
from earshot.pipeline.distillation.registry import METHODS, method

FRONTEND = Frontend(window=64, hop=32, fft=64)


def network(latent: int = 4) -> StreamingModel:
    torch.manual_seed(latent)
    return build("dae_unet", FRONTEND, {"channels": [4], "strides": [4], "latent": latent, "hidden": 4})


def view(
    seed: int = 0,
    latent: Tensor | None = None,
    spectrum: Tensor | None = None,
    width: int = 4,
    layers: Sequence[Tensor] | None = None,
    views: dict[str, Sequence[Tensor]] | None = None,
) -> View:
    """What a network made of a batch, as leaves that gather gradients; layers are shaped as `network` makes them."""
    dice = torch.Generator().manual_seed(seed)
    if latent is None:
        latent = torch.randn(2, 5, width, generator=dice)
    if spectrum is None:
        spectrum = torch.randn(2, 5, 33, dtype=torch.complex64, generator=dice)
    mask = torch.rand(2, 1, 5, 33, generator=dice)
    if layers is None:
        layers = [torch.randn(2, 4, 5, 9, generator=dice)]
    ours, heard, hidden = (tensor.clone().requires_grad_(True) for tensor in (mask, spectrum, latent))
    stages = tuple(one.clone().requires_grad_(True) for one in layers)
    maps = {kind: tuple(one.clone().requires_grad_(True) for one in many) for kind, many in (views or {}).items()}
    return View(ours, heard, hidden, stages, maps, FRONTEND, 128)


CLEAN = torch.zeros(2, 5, 33, dtype=torch.complex64)


def loss(name: str, student: View, teacher: View) -> float:
    torch.manual_seed(0)
    return float(method(name)(network(), network())(student, teacher, CLEAN).detach())


def leaves(one: View) -> list[Tensor]:
    return [one.output, one.spectrum, one.latent, *one.layers, *(map_ for maps in one.views.values() for map_ in maps)]


def test_none_adds_nothing_and_needs_no_teacher() -> None:
    kind = method("none")
    assert not kind.needs_teacher
    assert float(kind(network(), None)(view(), None, CLEAN)) == 0
    assert not list(kind(network(), None).parameters())


def test_output_matching_by_hand() -> None:
    """|Y_S| = 32 at 0 degrees, |Y_T| = 1 at 90 degrees; 32^0.3 = 2^1.5."""
    student = view(spectrum=torch.full((1, 1, 1), 32 + 0j, dtype=torch.complex64))
    teacher = view(spectrum=torch.full((1, 1, 1), 1j, dtype=torch.complex64))
    expected = (2**1.5 - 1) ** 2 + abs(2**1.5 - 1j) ** 2
    assert loss("output", student, teacher) == pytest.approx(expected, rel=1e-5)


def test_output_matching_is_the_formula_in_numpy() -> None:
    student, teacher = view(1), view(2)
    ours, theirs = (one.spectrum.detach().numpy().astype(np.complex128) for one in (student, teacher))
    size, wanted = np.abs(ours) ** 0.3, np.abs(theirs) ** 0.3
    complex_error = size * np.exp(1j * np.angle(ours)) - wanted * np.exp(1j * np.angle(theirs))
    expected = np.mean((size - wanted) ** 2) + np.mean(np.abs(complex_error) ** 2)
    assert loss("output", student, teacher) == pytest.approx(expected, rel=1e-4)
    assert loss("output", student, view(1)) == 0


def test_latent_cosine_by_hand() -> None:
    """Frames at 0, 60, 90 and 180 degrees: cosines 1, 1/2, 0 and -1, whose mean is 1/8."""
    angles = torch.tensor([0, np.pi / 3, np.pi / 2, np.pi])
    student = view(latent=torch.tensor([[[2.0, 0, 0, 0]] * 4]))
    turned = torch.stack([angles.cos(), angles.sin(), 0 * angles, 0 * angles], -1).float()[None]
    assert loss("latent_cosine", student, view(latent=7 * turned)) == pytest.approx(1 - 1 / 8, abs=1e-6)


@settings(deadline=None, max_examples=40, derandomize=True)
@given(scale=st.floats(1e-3, 1e3), seed=st.integers(0, 1000))
def test_latent_cosine_does_not_see_the_teachers_scale(scale: float, seed: int) -> None:
    student, teacher = view(seed), view(seed + 1)
    found = loss("latent_cosine", student, teacher)
    scaled, turned = (view(latent=factor * teacher.latent.detach()) for factor in (scale, -scale))
    assert loss("latent_cosine", student, scaled) == pytest.approx(found, abs=1e-5)
    assert loss("latent_cosine", student, turned) == pytest.approx(2 - found, abs=1e-5)
    assert 0 <= found <= 2
    # The negative control: what is compared by distance does see it.
    louder = view(spectrum=2 * teacher.spectrum.detach())
    assert loss("output", student, louder) != pytest.approx(loss("output", student, teacher), abs=1e-3)


def test_widths_that_differ_are_bridged_by_a_map_that_trains() -> None:
    same = method("latent_cosine")(network(4), network(4))
    assert not list(same.parameters())
    student, teacher = network(4).train(), network(6)
    bridged = method("latent_cosine")(student, teacher)
    assert student.training, "measuring the width left the student in another mode"
    (weight,) = bridged.parameters()
    assert isinstance(bridged.map, nn.Linear)
    assert tuple(weight.shape) == (4, 6)
    ours, theirs = view(0), view(1, width=6)
    found = bridged(ours, theirs, CLEAN)
    mapped = theirs.latent.detach().numpy() @ weight.detach().numpy().T
    latent = ours.latent.detach().numpy()
    cosine = (latent * mapped).sum(-1) / np.linalg.norm(latent, axis=-1) / np.linalg.norm(mapped, axis=-1)
    assert float(found.detach()) == pytest.approx(1 - cosine.mean(), abs=1e-5)
    found.backward()
    assert weight.grad is not None
    assert float(weight.grad.abs().sum()) > 0


@pytest.mark.parametrize("name", [name for name in METHODS if name != "none"])
@pytest.mark.parametrize("width", [4, 6])
def test_gradients_reach_the_student_and_never_the_teacher(name: str, width: int) -> None:
    student, teacher = view(0), view(1, width=width)
    method(name)(network(4), network(width))(student, teacher, CLEAN).backward()
    assert sum(float(one.grad.abs().sum()) for one in leaves(student) if one.grad is not None) > 0
    assert all(one.grad is None for one in leaves(teacher))


@pytest.mark.parametrize("name", METHODS)
def test_silence_gives_finite_losses_and_gradients(name: str) -> None:
    nothing = {"latent": torch.zeros(2, 5, 4), "spectrum": CLEAN, "layers": [torch.zeros(2, 4, 5, 9)]}
    silent = view(**nothing)
    found = method(name)(network(), network())(silent, view(3), CLEAN)
    assert bool(method(name)(network(), network())(view(3), view(**nothing), CLEAN).isfinite())
    assert bool(found.isfinite())
    if name != "none":
        found.backward()
        gradients = [one.grad for one in leaves(silent) if one.grad is not None]
        assert gradients
        assert all(bool(torch.view_as_real(one.to(torch.complex64)).isfinite().all()) for one in gradients)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_says_what_it_does(name: str) -> None:
    own = method(name).__doc__
    assert own and own.strip() and own != DistillationMethod.__doc__


def test_a_users_method_is_named_by_module_and_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "users_method.py").write_text(
        "from earshot.pipeline.distillation.base import DistillationMethod\n"
        "class Mine(DistillationMethod):\n"
        "    def forward(self, student, teacher, clean):\n"
        "        return (student.output - teacher.output.detach()).abs().mean()\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert method("users_method:Mine").needs_teacher
    assert loss("users_method:Mine", view(0), view(0)) == 0 < loss("users_method:Mine", view(0), view(1))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("latent_cosin", "did you mean 'latent_cosine'"),
        ("earshot.pipeline.distillation.base:View", "is not a DistillationMethod"),
        ("no.such.module:Method", "No module named"),
    ],
)
def test_a_method_that_is_not_there_is_named(name: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        method(name)
