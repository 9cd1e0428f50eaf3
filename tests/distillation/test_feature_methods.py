"""Methods that compare features: their formulas in plain numpy, and networks that have little in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from earshot.core.errors import ModelError
from earshot.models.frontend import Frontend
from earshot.models.registry import build
from earshot.models.streaming import StreamingModel, Trace
from earshot.pipeline.distillation.base import View
from earshot.pipeline.distillation.dfkd import crossover
from earshot.pipeline.distillation.fused import Fusion
from earshot.pipeline.distillation.registry import METHODS, method
from earshot.pipeline.distillation.where_better import where_better

FRONTEND = Frontend(window=64, hop=32, fft=64)
CLEAN = torch.zeros(3, 6, 33, dtype=torch.complex64)
FEATURES = ("similarity", "similarity_frames", "similarity_bands", "fused", "fused_similarity", "cnnc")
SMALL = {"channels": [4], "strides": [4], "latent": 4, "hidden": 4}
DEEP = {"channels": [6, 10], "strides": [4, 4], "latent": 7, "hidden": 5}


def network(sizes: dict = SMALL, frontend: Frontend = FRONTEND) -> StreamingModel:
    torch.manual_seed(1)
    return build("dae_unet", frontend, sizes).eval()


Views = dict[str, tuple[Tensor, ...]]


def view(seed: int, layers: list[tuple[int, ...]], clips: int = 3, views: Views | None = None) -> View:
    dice = torch.Generator().manual_seed(seed)
    made = [torch.randn(clips, *shape, generator=dice).requires_grad_(True) for shape in layers]
    spectrum = torch.randn(clips, 6, 33, dtype=torch.complex64, generator=dice)
    latent = torch.randn(clips, 6, 4, generator=dice)
    return View(torch.rand(clips, 1, 6, 33, generator=dice), spectrum, latent, tuple(made), views or {}, FRONTEND, 160)


def loss(name: str, student: View, teacher: View) -> float:
    torch.manual_seed(0)
    return float(method(name)(network(), network())(student, teacher, CLEAN).detach())


def numbers(tensor: Tensor) -> np.ndarray:
    return tensor.detach().numpy().astype(np.float64)


def gram(rows: np.ndarray) -> np.ndarray:
    product = rows @ rows.T
    return product / np.linalg.norm(product, axis=1, keepdims=True)


def preserved(ours: np.ndarray, theirs: np.ndarray) -> float:
    """1/b² ||G_T - G_S||_F² of features [b, anything]."""
    difference = gram(theirs.reshape(len(theirs), -1)) - gram(ours.reshape(len(ours), -1))
    return float(np.sum(difference**2)) / len(ours) ** 2


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("similarity", preserved),
        ("similarity_frames", lambda s, t: np.mean([preserved(s[:, :, i], t[:, :, i]) for i in range(6)])),
        ("similarity_bands", lambda s, t: np.mean([preserved(s[..., i], t[..., i]) for i in range(9)])),
    ],
)
def test_similarity_is_the_formula_in_numpy(name: str, reference: Callable) -> None:
    student, teacher = view(0, [(4, 6, 9), (4, 6, 9)]), view(1, [(7, 6, 9), (5, 6, 9)])
    expected = [reference(numbers(s), numbers(t)) for s, t in zip(student.layers, teacher.layers, strict=True)]
    assert loss(name, student, teacher) == pytest.approx(np.mean(expected), rel=1e-4)
    assert loss(name, student, student) == pytest.approx(0, abs=1e-10)


def test_similarity_by_hand() -> None:
    """Two clips, orthogonal for one network and equal for the other: G = I against rows of 1/√2."""
    student, teacher = view(0, [(1, 6, 9)], clips=2), view(0, [(1, 6, 9)], clips=2)
    apart = torch.zeros(2, 1, 6, 9)
    apart[0, 0, 0, 0] = apart[1, 0, 1, 1] = 5.0
    student, teacher = (
        View(v.output, v.spectrum, v.latent, (x,), {}, FRONTEND, 160)
        for v, x in ((student, apart), (teacher, torch.ones_like(apart)))
    )
    expected = (2 * (1 - 2**-0.5) ** 2 + 2 * 0.5) / 4
    assert loss("similarity", student, teacher) == pytest.approx(expected, rel=1e-5)


def test_cnnc_is_the_formula_in_numpy() -> None:
    student, teacher = view(0, [(4, 6, 9)]), view(1, [(7, 6, 5)])
    layers = []
    for ours, theirs in zip(numbers(student.layers[0]), numbers(teacher.layers[0]), strict=True):
        maps = []
        for layer in (ours, theirs):
            rows = layer.transpose(1, 0, 2).reshape(6, -1)
            product = rows @ rows.T
            maps.append(product / np.linalg.norm(product))
        layers.append(np.sum((maps[0] - maps[1]) ** 2))
    ours, theirs = (v.spectrum.numpy().astype(np.complex128) for v in (student, teacher))
    squeezed = [np.abs(x) ** 0.3 * np.exp(1j * np.angle(x)) for x in (ours, theirs)]
    difference = squeezed[0] - squeezed[1]
    parts = np.mean(np.stack([np.abs(difference.real), np.abs(difference.imag)]))
    sizes = np.mean(np.abs(np.abs(ours) ** 0.3 - np.abs(theirs) ** 0.3))
    assert loss("cnnc", student, teacher) == pytest.approx(np.mean(layers) + parts + sizes, rel=1e-4)


def attention(ours: np.ndarray, theirs: np.ndarray) -> float:
    maps = []
    for features in (ours, theirs):
        flat = np.sum(features**2, axis=1).reshape(len(features), -1)
        maps.append(flat / np.linalg.norm(flat, axis=1, keepdims=True))
    return float(np.mean(np.linalg.norm(maps[0] - maps[1], axis=1)))


def test_attention_transfer_is_the_formula_in_numpy_and_prefers_views() -> None:
    student, teacher = view(0, [(4, 6, 9)]), view(1, [(7, 6, 9)])
    expected = attention(numbers(student.layers[0]), numbers(teacher.layers[0]))
    assert loss("attention_transfer", student, teacher) == pytest.approx(expected, rel=1e-4)
    dice = torch.Generator().manual_seed(5)
    ours: Views = {kind: tuple(torch.randn(3, 2, 6, 1, generator=dice) for _ in range(2)) for kind in ("near", "far")}
    theirs: Views = {kind: tuple(torch.randn(3, 5, 6, 1, generator=dice) for _ in range(4)) for kind in ("far", "near")}
    # Two blocks meet the first and last of four, each kind of view among its own.
    expected = np.mean(
        [attention(numbers(ours[kind][i]), numbers(theirs[kind][3 * i])) for kind in ("near", "far") for i in range(2)]
    )
    student = view(0, [(4, 6, 9)], views=ours)
    found = loss("attention_transfer", student, view(1, [(7, 6, 9)], views=theirs))
    assert found == pytest.approx(expected, rel=1e-4)
    swapped: Views = {"near": theirs["far"], "far": theirs["near"]}
    assert loss("attention_transfer", student, view(1, [(7, 6, 9)], views=swapped)) != pytest.approx(found, rel=1e-3)


def test_attention_transfer_falls_back_to_layers_where_no_kind_of_view_is_shared() -> None:
    one: Views = {"near": (torch.randn(3, 2, 6, 1),)}
    student, teacher = view(0, [(4, 6, 9)], views=one), view(1, [(7, 6, 9)], views={"far": one["near"]})
    expected = attention(numbers(student.layers[0]), numbers(teacher.layers[0]))
    assert loss("attention_transfer", student, teacher) == pytest.approx(expected, rel=1e-4)


def views_of(student: StreamingModel, teacher: StreamingModel) -> tuple[View, View, Tensor]:
    """What both make of the same noise, and a clean spectrum."""
    sound, judged = torch.randn(2, 1500, generator=torch.Generator().manual_seed(0)), student.frontend.judged
    seen = []
    for model in (student, teacher):
        analysed = model.frontend.analyse(sound)
        trace = model.trace(analysed.sequence)
        spectrum = model.frontend.enhanced_spectrum(analysed, trace.output)
        seen.append(View(trace.output, spectrum, trace.latent, trace.layers, trace.views, judged, 1500))
    return seen[0], seen[1], judged.spectrum(sound)


WAVES = Frontend(kind="wave", hop=64)
NARROW_MANNER = {"hidden": 6, "depth": 2, "attention": "deepest"}


@pytest.mark.parametrize("name", ["manner", "manner_causal"])
def test_attention_transfer_teaches_a_narrow_manner_what_a_deeper_one_looks_at(name: str) -> None:
    torch.manual_seed(0)
    student = build(name, WAVES, NARROW_MANNER)
    teacher = build("manner", WAVES, {"hidden": 9, "depth": 3}).eval()
    found = method("attention_transfer")(student, teacher)(*views_of(student, teacher))
    found.backward()
    assert 0 < float(found.detach()) < 2
    assert all(p.grad is None for p in teacher.parameters())
    for block in (student.encoder[-1], student.decoder[0]):
        for branch in (block.attention.over_channels, block.attention.over_chunks, block.attention.in_chunks):
            assert any(p.grad is not None and float(p.grad.abs().max()) > 0 for p in branch.parameters())


@pytest.mark.parametrize(
    ("name", "params"), [("rt_senet", {"channels": [4, 6], "strides": [4, 4]}), ("manner_causal", NARROW_MANNER)]
)
def test_cnnc_teaches_causal_networks_of_other_families(name: str, params: dict) -> None:
    torch.manual_seed(0)
    student = build(name, WAVES, params).train()
    teacher = build("manner", WAVES, {"hidden": 9, "depth": 3}).eval()
    cnnc = method("cnnc")(student, teacher)
    optimiser = torch.optim.Adam(student.parameters(), lr=3e-3)
    losses = []
    for _ in range(8):
        found = cnnc(*views_of(student, teacher))
        optimiser.zero_grad()
        found.backward()
        optimiser.step()
        losses.append(float(found.detach()))
    assert losses[-1] < 0.8 * losses[0]
    assert all(p.grad is None for p in teacher.parameters())


def test_cnnc_maps_are_no_finer_than_the_spectra() -> None:
    """Twelve columns on six frames of spectrum are six means."""
    student, teacher = view(0, [(4, 12, 9)]), view(1, [(7, 12, 5)])
    found = loss("cnnc", student, teacher)
    slowed = [replace(one, layers=(one.layers[0].unflatten(2, (6, 2)).mean(3),)) for one in (student, teacher)]
    assert loss("cnnc", *slowed) == pytest.approx(found, rel=1e-5)
    skipped = [replace(one, layers=(one.layers[0][:, :, ::2],)) for one in (student, teacher)]
    assert loss("cnnc", *skipped) != pytest.approx(found, rel=1e-3)


def test_the_crossover_is_where_the_teacher_is_steepest() -> None:
    magnitudes = torch.zeros(1, 20, 33)
    magnitudes[:, :, :12] = 3.0
    assert crossover(magnitudes).tolist() == [[11.0] * 20]
    magnitudes[:, 10] = 0
    magnitudes[:, 10, :30] = 3.0
    smoothed = crossover(magnitudes)[0]
    assert smoothed[0] == 11
    assert smoothed[10] == round((8 * 11 + 29) / 9)


def test_dfkd_is_the_formula_in_numpy() -> None:
    student, teacher = view(0, [(4, 6, 9)]), view(1, [(4, 6, 9)])
    ours, theirs = (np.abs(v.spectrum.numpy().astype(np.complex128)) ** 0.3 for v in (student, teacher))
    edges = crossover(torch.from_numpy(theirs)).numpy()
    low, high = [], []
    for clip in range(3):
        for frame in range(6):
            k = int(edges[clip, frame])
            s, t = ours[clip, frame], theirs[clip, frame]
            low.append(1 - s[:k] @ t[:k] / np.linalg.norm(s[:k]) / np.linalg.norm(t[:k]))
            high.extend(t[k:] / theirs.mean() * np.abs(s[k:] - t[k:]))
    assert loss("dfkd", student, teacher) == pytest.approx(np.mean(low) + np.mean(high), rel=1e-4)


def test_fusion_gates_each_layer_with_the_deeper_ones() -> None:
    """With silent attention both gates are 1/2, so that f_0 = x_0 / 2 + x_1 / 2."""
    fusion = Fusion([2, 3], 4)
    for convolution in fusion.attention:
        torch.nn.init.zeros_(convolution.weight)
        torch.nn.init.zeros_(convolution.bias)
    layers = (torch.randn(1, 2, 6, 8), torch.randn(1, 3, 6, 4))
    first, second = (part(layer) for part, layer in zip(fusion.into, layers, strict=True))
    fused = fusion(layers)
    assert torch.allclose(fused[1], second)
    assert torch.allclose(fused[0], first / 2 + second.repeat_interleave(2, 3) / 2, atol=1e-6)


def test_the_hierarchical_loss_by_hand() -> None:
    """Maps that differ by 2 everywhere differ by 2 at every level: (1 + 1/2 + 1/4 + 1/8) 4 / (1 + 7/8) = 4."""
    fused = method("fused")(network(), network())
    ours = torch.randn(2, 3, 8, 16)
    assert float(fused.compare(ours, ours + 2)) == pytest.approx(4, rel=1e-5)
    assert float(fused.compare(ours, ours)) == 0
    # What averages out is seen by the finest level alone: 4 / (15/8).
    turning = torch.ones(2, 3, 8, 16)
    turning[..., ::2] = -1
    assert float(fused.compare(ours, ours + 2 * turning)) == pytest.approx(4 * 8 / 15, rel=1e-5)


@pytest.mark.parametrize("name", [name for name in METHODS if name not in ("none", "output_mask")])
def test_networks_of_other_width_depth_and_frame_rate_are_compared(name: str) -> None:
    """A deeper, wider teacher whose frames are twice as long; real forward passes, real gradients."""
    student, teacher = network(), network(DEEP, Frontend(window=128, hop=64, fft=128))
    sound = torch.randn(3, 640, generator=torch.Generator().manual_seed(3))
    made = method(name)(student, teacher)
    views = []
    for model in (student, teacher):
        analysed = model.frontend.analyse(sound)
        trace = model.trace(analysed.sequence)
        spectrum = FRONTEND.spectrum(model.frontend.synthesise(analysed, trace.output))
        views.append(View(trace.output, spectrum, trace.latent, trace.layers, trace.views, FRONTEND, 640))
    found = made(views[0], views[1], FRONTEND.spectrum(sound))
    assert bool(found.isfinite())
    found.backward()
    assert sum(float(p.grad.abs().sum()) for p in student.parameters() if p.grad is not None) > 0
    assert all(p.grad is None for p in teacher.parameters())


def test_masks_on_other_frames_are_refused_with_what_differs() -> None:
    with pytest.raises(ModelError, match="differ in window, hop, fft") as caught:
        method("output_mask")(network(), network(DEEP, Frontend(window=128, hop=64, fft=128)))
    assert "output_waveform" in str(caught.value.hint)


class Closed(StreamingModel):
    """Shows no layers."""

    Params = type(network().params)

    def trace(self, sequence: Tensor) -> Trace:
        return Trace(torch.sigmoid(sequence), sequence[:, 0], ())


@pytest.mark.parametrize("name", FEATURES)
def test_a_network_that_shows_no_layers_is_named(name: str) -> None:
    closed = Closed(FRONTEND, network().params)
    closed.register_parameter("one", torch.nn.Parameter(torch.ones(1)))
    with pytest.raises(ModelError, match="teacher Closed shows none"):
        method(name)(network(), closed)


def test_waveform_matching_by_hand() -> None:
    student, teacher = view(0, [(4, 6, 9)]), view(1, [(4, 6, 9)])
    ours, theirs = (numbers(FRONTEND.signal(v.spectrum, 160)) for v in (student, teacher))
    expected = np.mean(np.abs(ours - theirs)) / np.mean(np.abs(theirs))
    assert loss("output_waveform", student, teacher) == pytest.approx(expected, rel=1e-4)


def test_mask_matching_by_hand() -> None:
    student, teacher = view(0, [(4, 6, 9)]), view(1, [(4, 6, 9)])
    expected = np.mean((numbers(student.output) - numbers(teacher.output)) ** 2)
    assert loss("output_mask", student, teacher) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", [name for name in METHODS if name != "none"])
def test_only_where_better_silences_a_teacher_that_is_worse(name: str) -> None:
    """Nothing reaches the student where the teacher is further from the clean signal, everything where it is nearer."""
    clean = torch.randn(3, 6, 33, dtype=torch.complex64, generator=torch.Generator().manual_seed(4))
    for teacher_error, learns in ((3.0, False), (0.1, True)):
        student, teacher = view(0, [(4, 6, 9)]), view(1, [(4, 6, 9)])
        ours = (clean + 1.0).requires_grad_(True)
        latent, output = (x.clone().requires_grad_(True) for x in (student.latent, student.output))
        student = View(output, ours, latent, student.layers, {}, FRONTEND, 160)
        teacher = View(teacher.output, clean + teacher_error, teacher.latent, teacher.layers, {}, FRONTEND, 160)
        torch.manual_seed(0)
        made = method(name)(network(), network())
        made(*where_better(student, teacher, clean), clean).backward()
        reached = [x.grad for x in (ours, latent, output, *student.layers) if x.grad is not None]
        assert (sum(float(grad.abs().sum()) for grad in reached) > 1e-9) is learns
