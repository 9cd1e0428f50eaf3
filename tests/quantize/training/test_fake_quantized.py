"""Networks that round as their int8 files do, held to the files: their integers, and what they put out."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from earshot.core.errors import DataError, ModelError, ToolError
from earshot.models.frontend import Frontend
from earshot.models.registry import build
from earshot.models.streaming import StreamingModel, Trace
from earshot.quantize.calibration import calibrate, channels_last
from earshot.quantize.export import export_float
from earshot.quantize.graph import Graph, read_graph
from earshot.quantize.integer import quantize_graph
from earshot.quantize.ranges import WEIGHTED, tie
from earshot.quantize.runner import StreamRunner, to_real
from earshot.quantize.training.model import FakeQuantized
from earshot.quantize.training.ranges import Rounding, Survey

sys.path.insert(0, str(Path(__file__).parents[1]))
from test_networks_convert import STREAMS

QUICK = ("dae_unet", "wave_unet")
FORETOLD = ("dae_unet", "metricgan", "rt_senet", "wave_unet")  # too few roundings in a row for chance to take over
SLOW = tuple(name for name in STREAMS if name not in QUICK)
NETWORKS = [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]


def network(name: str) -> tuple[StreamingModel, Tensor]:
    """A network of random weights, norms included, and some noise that it is calibrated on."""
    frontend, params, _ = STREAMS[name]
    torch.manual_seed(0)
    model = build(name, frontend, params).eval()
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_var.uniform_(0.5, 2)
            part.running_mean.uniform_(-0.1, 0.1)
            nn.init.uniform_(part.weight, 0.5, 2)
    return model, frontend.analyse(0.1 * torch.randn(2, frontend.rate // 10)).sequence


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("files")


def int8_file(name: str, folder: Path) -> bytes:
    """The network's int8 file, written once."""
    path, made = folder / f"{name}.tflite", folder / f"{name}.int8.tflite"
    if not made.exists():
        model, features = network(name)
        export_float(model, path)
        made.write_bytes(quantize_graph(path, tie(read_graph(path), calibrate(path, features.numpy())), "int8"))
    return made.read_bytes()


def streamed(content: bytes, features: Tensor) -> np.ndarray:
    """What the int8 file puts out, `[clips, outputs, frames, bins]`."""
    graph = read_graph(content)
    runner, mask = StreamRunner(graph, content), graph.tensors[graph.outputs["mask"]]
    clips = [
        [to_real(frame, mask.quantization)[0, 0].T.copy() for frame in runner.run(clip)]
        for clip in channels_last(features.numpy())
    ]
    return np.asarray(clips).transpose(0, 2, 1, 3)


def power_db(values: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(np.square(values))))


def rows_of(graph: Graph) -> Counter[tuple[int, ...]]:
    """Rows of integers that share a scale, of every layer of an int8 file; how a row lies in memory does not count."""
    found: Counter[tuple[int, ...]] = Counter()
    weights = {index for operator in graph.operators if operator.name in WEIGHTED for index in operator.inputs}
    for index in weights:
        tensor = graph.tensors[index]
        if tensor.data is not None and tensor.dtype == "int8" and tensor.quantization is not None:
            rows = np.moveaxis(tensor.data, tensor.quantization.axis, 0).reshape(tensor.quantization.scales.size, -1)
            found.update(tuple(sorted(row.tolist())) for row in rows)
    return found


class Watched(Rounding):
    """Keeps the rows of integers that weights are rounded to."""

    rows: ClassVar[Counter[tuple[int, ...]]] = Counter()

    def weights(self, weights: Tensor, rows: tuple[int, ...]) -> Tensor:
        rounded = super().weights(weights, rows)
        moved = rounded.detach().movedim(rows, tuple(range(len(rows)))).flatten(0, len(rows) - 1).flatten(1)
        for row in moved:
            integers = (row / row.abs().max() * 127).round().to(int)
            type(self).rows[tuple(sorted(integers.tolist()))] += 1
        return rounded


@pytest.mark.parametrize("name", NETWORKS)
def test_weights_are_rounded_to_the_integers_of_the_file(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folded BatchNorm scales rows, and may turn a tie of half a step to the other side: hence not quite all."""
    model, features = network(name)
    content = int8_file(name, folder)
    monkeypatch.setattr("earshot.quantize.training.model.Rounding", Watched)
    monkeypatch.setattr(Watched, "rows", Counter())
    with torch.no_grad():
        FakeQuantized(model, features).eval().trace(features[:1])
    written = set(rows_of(read_graph(content)))
    assert len(written) > 10
    missing = written - set(Watched.rows)
    assert len(missing) <= 0.03 * len(written)
    with torch.no_grad():
        for part in model.parameters():
            part.add_(0.05 * torch.rand_like(part))
    Watched.rows.clear()
    with torch.no_grad():
        FakeQuantized(model, features).eval().trace(features[:1])
    assert len(written - set(Watched.rows)) > 0.5 * len(written)


@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_are_those_of_the_file(name: str, folder: Path) -> None:
    """The file's error is foreseen: as large as it is, and in networks that are not too deep, that very error."""
    model, features = network(name)
    plain = model.trace(features).output.detach().numpy()
    with torch.no_grad():
        foreseen = FakeQuantized(model, features).eval().trace(features).output.numpy()
    made = streamed(int8_file(name, folder), features)
    error, foretold, missed = (power_db(a - b) for a, b in ((made, plain), (foreseen, plain), (made, foreseen)))
    assert abs(error - foretold) < 2
    assert missed < error + (-3 if name in FORETOLD else 0.5)


@pytest.mark.parametrize("name", NETWORKS)
def test_without_rounding_nothing_changes(name: str) -> None:
    """Layers walked frame by frame compute what the fused ones do, and gradients reach the same weights."""
    model, features = network(name)
    rounding = FakeQuantized(model, features)
    with torch.no_grad():
        passed = rounding._through(features, Survey())[0].output
    assert torch.allclose(passed, model.trace(features).output, atol=1e-5)
    reached = []
    for trained in (model, rounding):
        model.zero_grad(set_to_none=True)
        trained.train().trace(features).output.square().mean().backward()
        reached.append({key for key, value in model.named_parameters() if value.grad is not None})
    assert reached[0] == reached[1] != set()


def test_any_length_has_the_ranges_that_were_measured() -> None:
    """Modules that work frame by frame, or chunk by chunk, have as many places in a short sound as in a long one."""
    for name in ("dae_unet", "wave_unet"):
        model, features = network(name)
        rounding = FakeQuantized(model, features).eval()
        with torch.no_grad():
            short, long = (rounding.trace(features[:, :, :frames]).output for frames in (7, 50))
        assert torch.allclose(long[:, :, :7], short, atol=1e-6), "what is causal stays causal"


def test_evaluation_leaves_the_ranges_alone_and_training_moves_them() -> None:
    model, features = network("dae_unet")
    rounding = FakeQuantized(model, features)
    before = rounding.ranges.high.clone()
    rounding.eval().trace(10 * features)
    assert torch.equal(rounding.ranges.high, before)
    rounding.train().trace(10 * features)
    assert float((rounding.ranges.high / before).max()) > 3


FRONTEND = Frontend(window=64, hop=32, fft=64)


class Called(StreamingModel):
    """Calls functions as they can be called: by position, or with every argument's name."""

    Params = type(build("dae_unet", FRONTEND, {"channels": [4], "strides": [4]}).params)

    def __init__(self, *, named: bool) -> None:
        super().__init__(FRONTEND, self.Params())
        self.named = named
        self.wide, self.deep = nn.Parameter(torch.randn(4, 1, 1, 3)), nn.Parameter(torch.randn(33, 31))
        self.slope = nn.Parameter(torch.tensor([0.3]))

    def trace(self, sequence: Tensor) -> Trace:
        if self.named:
            value = functional.conv2d(input=sequence, weight=self.wide, bias=None)
            value = torch.relu(input=value)
            value = torch.cat(tensors=[value, torch.maximum(input=value, other=0.5 * value)], dim=1)
            value = functional.prelu(input=functional.linear(input=value, weight=self.deep), weight=self.slope)
            value = torch.where(condition=torch.gt(value, other=0.1), input=value, other=torch.neg(input=value))
        else:
            value = functional.conv2d(sequence, self.wide, None)
            value = torch.relu(value)
            value = torch.cat([value, torch.maximum(value, 0.5 * value)], 1)
            value = functional.prelu(functional.linear(value, self.deep), self.slope)
            value = torch.where(torch.gt(value, 0.1), value, torch.neg(value))
        return Trace(torch.sigmoid(value.mean(1, keepdim=True)), value[:, 0], ())


def test_arguments_given_by_name_round_as_those_given_by_place() -> None:
    found = []
    for named in (False, True):
        torch.manual_seed(2)
        rounding = FakeQuantized(Called(named=named), features())
        output = rounding.trace(features()).output
        output.sum().backward()
        found.append((output, rounding.network.wide.grad, rounding.ranges.low, rounding.ranges.high))
        assert not torch.equal(output, rounding.network.trace(features()).output)
    assert all(torch.equal(*pair) for pair in zip(*found, strict=True))


class Endless(StreamingModel):
    """A layer whose values are not finite, behind which all is again."""

    Params = type(build("dae_unet", FRONTEND, {"channels": [4], "strides": [4]}).params)

    def __init__(self) -> None:
        super().__init__(FRONTEND, self.Params())
        self.early, self.late = nn.Linear(33, 33), nn.Linear(33, 33)

    def trace(self, sequence: Tensor) -> Trace:
        mask = torch.sigmoid(self.late(torch.sigmoid(self.early(sequence))))
        return Trace(mask, mask[:, 0], ())


@pytest.mark.parametrize("value", [torch.inf, -torch.inf, torch.nan])
def test_values_that_are_not_finite_are_refused_where_they_are_made(value: float) -> None:
    model = Endless()
    with torch.no_grad():
        model.early.bias[3] = value
    with pytest.raises(ModelError, match=r"values at early#1 do not stay finite on the calibration sound") as caught:
        FakeQuantized(model, features())
    assert "learning_rate" in str(caught.value.hint)


def test_values_that_stop_being_finite_in_training_end_it() -> None:
    rounding = FakeQuantized(Endless(), features()).train()
    rounding.trace(features())
    with torch.no_grad():
        rounding.network.late.bias[0] = torch.inf
    with pytest.raises(ToolError, match=r"values at late#1 are finite no more"):
        rounding.trace(features())
    rounding.eval().trace(features())


def test_calibration_sound_that_is_not_finite_is_refused() -> None:
    damaged = features()
    damaged[1, 0, 3, 4] = torch.nan
    with pytest.raises(DataError, match="NaN or infinity"):
        FakeQuantized(Endless(), damaged)


class Own(StreamingModel):
    """What a user may write: `how` says what it does wrong, or unusual."""

    Params = type(build("dae_unet", FRONTEND, {"channels": [4], "strides": [4]}).params)

    def __init__(self, how: str) -> None:
        super().__init__(FRONTEND, self.Params())
        self.how, self.calls = how, 0
        self.layer = nn.Linear(33, 33)
        self.cell = nn.LSTM(33, 8, num_layers=2)
        self.back = nn.Linear(8, 33)

    def trace(self, sequence: Tensor) -> Trace:
        value = self.layer(sequence)
        if self.how == "writes":
            value.mul_(2)
        if self.how == "moody":
            self.calls += 1
            value = value + 1 if self.calls > 20 else value
        if self.how == "frames":
            value = torch.stack([self.layer(frame) for frame in value.unbind(2)], 2)
        if self.how == "layers":
            value = self.back(self.cell(value[:, 0].transpose(0, 1))[0].transpose(0, 1))[:, None]
        return Trace(torch.sigmoid(value), value[:, 0], ())


def features(frames: int = 40) -> Tensor:
    return torch.rand(2, 1, frames, 33, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("how", ["frames", "layers"])
def test_unusual_networks_round_too(how: str) -> None:
    torch.manual_seed(1)
    model = Own(how).eval()
    rounding = FakeQuantized(model, features()).eval()
    with torch.no_grad():
        assert torch.allclose(rounding._through(features(), Survey())[0].output, model.trace(features()).output)
        plain, rounded = model.trace(features(55)).output.numpy(), rounding.trace(features(55)).output.numpy()
    assert 25 < power_db(plain) - power_db(rounded - plain) < 60


def test_a_network_that_writes_into_its_values_is_refused() -> None:
    with pytest.raises(ModelError, match="network#1: mul_ writes"):
        FakeQuantized(Own("writes"), features())


def test_a_network_that_changes_its_way_is_refused() -> None:
    rounding = FakeQuantized(Own("moody"), features())
    with pytest.raises(ModelError, match="no operator"):
        for _ in range(20):
            rounding.trace(features())


def test_clips_too_short_to_measure_on_are_refused() -> None:
    with pytest.raises(DataError, match="20 frames"):
        FakeQuantized(Own("frames"), features(20))


def test_a_state_has_the_range_that_calibration_finds(folder: Path) -> None:
    """h' = n + z (h - n): one range for what leaves a frame and what the next one hears."""
    model, sound = network("dae_unet")
    rounding = FakeQuantized(model, sound)
    int8_file("dae_unet", folder)
    path = folder / "dae_unet.tflite"
    graph, measured = read_graph(path), calibrate(path, sound.numpy())
    plan = tie(graph, measured)
    found = {
        (round(float(low), 5), round(float(high), 5))
        for low, high in zip(rounding.ranges.low, rounding.ranges.high, strict=True)
    }
    for name in ("gru", "enc0", "dec0"):
        state = plan.ranges[graph.inputs[f"state_{name}"]]
        assert state == plan.ranges[graph.outputs[f"state_{name}"]]
        assert (round(state.low, 5), round(state.high, 5)) in found


def test_running_maxima_round_only_what_they_put_out() -> None:
    """They take logarithms while they train, which of silence are infinite; the file has none, and 16 bits."""
    model, sound = network("manner_causal")
    sound = torch.cat([torch.zeros_like(sound[:, :, :8]), sound], 2)[:1]
    rounding = FakeQuantized(model, sound).eval()
    assert bool(torch.isfinite(torch.cat([rounding.ranges.low, rounding.ranges.high])).all())
    with torch.no_grad():
        plain, rounded = model.trace(sound).output.numpy(), rounding.trace(sound).output.numpy()
    assert power_db(plain) - power_db(rounded - plain) > 20
