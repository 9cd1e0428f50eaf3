"""States that 8 bits do not hold: which operators go wide with them, what the file looks like, and that it matters."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from earshot.core.errors import ModelError
from earshot.models.frontend import Frontend
from earshot.models.registry import build
from earshot.models.streaming import State, StreamingModel, Trace
from earshot.quantize.calibration import calibrate, channels_last
from earshot.quantize.entry import EntryConfig, quantize_tflite
from earshot.quantize.export import export_float
from earshot.quantize.graph import Graph, load_flatbuffer, pack_flatbuffer, read_graph
from earshot.quantize.integer import quantize_graph
from earshot.quantize.metadata import description_of, embed, write_stream_model
from earshot.quantize.parity import integer_parity, snr_db
from earshot.quantize.precision import float_operators, precision_report
from earshot.quantize.ranges import PRESCRIBED, WEIGHTED, RangePlan, tie
from earshot.quantize.runner import StreamRunner, to_real
from earshot.quantize.wide import wide_operators
from earshot.targets.agent import StreamGraph

from .conftest import FRONTEND, Exported, Params, export

PACE = 1 / 256
FRAMES = 1900  # of 16 ms: 30.4 s


class MeanNet(StreamingModel):
    """Subtracts a running mean from its features; a layer reads the old mean as well, another state the new one."""

    Params = Params

    def __init__(self, frontend: Frontend, params: Params) -> None:
        super().__init__(frontend, params)
        self.deep = nn.Conv2d(1, params.channels, (1, 3), padding=(0, 1))
        self.known = nn.Linear(params.channels, params.channels)
        self.mask = nn.Conv2d(params.channels, 1, 1)

    def initial_state(self, batch: int = 1) -> State:
        zeros = torch.zeros(batch, self.params.channels)
        return {"mean": zeros, "before": zeros.clone()}

    def wide_states(self) -> frozenset[str]:
        return frozenset({"mean"})

    def step(self, frame: Tensor, state: State) -> tuple[Tensor, State]:
        deep = torch.relu(self.deep(frame))
        mean = state["mean"] + PACE * (deep.mean((2, 3)) - state["mean"])
        level = torch.tanh(self.known(state["mean"])) + state["before"]
        centred = deep - mean[:, :, None, None]
        mask = torch.sigmoid(self.mask(centred + level[:, :, None, None]))
        return mask, {"mean": mean, "before": 0.5 * state["before"] + 0.1 * mean}

    def trace(self, sequence: Tensor) -> Trace:
        mask = self.stream(sequence)
        return Trace(mask, mask[:, 0], ())

    def prepare_for_export(self) -> MeanNet:
        return copy.deepcopy(self).eval()


@pytest.fixture(scope="module")
def mean(tmp_path_factory: pytest.TempPathFactory, features: Tensor) -> Exported:
    torch.manual_seed(4)
    return export(MeanNet(FRONTEND, Params()).eval(), tmp_path_factory.mktemp("mean"), features)


def states(graph: Graph) -> dict[str, tuple[str, str]]:
    """State -> types in and out."""
    return {
        name: (graph.tensors[graph.inputs[name]].dtype, graph.tensors[graph.outputs[name]].dtype)
        for name in graph.state_pairs
    }


def test_only_the_wide_state_has_16_bits_at_both_ends(mean, tmp_path):
    graph = read_graph(quantize_graph(mean.path, mean.plan, "int8"))
    assert states(graph) == {"state_mean": ("int16", "int16"), "state_before": ("int8", "int8")}
    ends = [graph.tensors[side["state_mean"]].quantization for side in (graph.inputs, graph.outputs)]
    assert ends[0].same_as(ends[1]) and ends[0].zero_point == 0
    path = tmp_path / "model.tflite"
    content = quantize_graph(mean.path, mean.plan, "int8")
    write_stream_model(path, content, description_of(mean.graph).for_graph(graph, "int8"))
    written = {state.name: state.dtype for state in description_of(read_graph(path)).states}
    assert written == {"mean": "int16", "before": "int8"}


def test_all_of_int16x8_is_wide_already(mean):
    graph = read_graph(quantize_graph(mean.path, mean.plan, "int16x8"))
    assert set(states(graph).values()) == {("int16", "int16")}


def test_borders_stand_where_layers_and_other_states_begin(mean):
    """By hand: the mean's way and the differences from it are wide; layers, gates and the other state are not."""
    graph = mean.graph
    wide, named = wide_operators(graph), {operator.index: operator.name for operator in graph.operators}
    layers = {index for index, name in named.items() if name in WEIGHTED | PRESCRIBED.keys()}
    assert len(layers) == 5 and not layers & wide
    ends = {graph.inputs["state_before"], graph.outputs["state_before"]}
    at_before = {operator.index for operator in graph.operators if ends & {*operator.inputs, *operator.outputs}}
    assert at_before and not at_before & wide
    # The features' mean; its difference from the running one and the sum with a share of it; the features less that.
    assert sorted(named[index] for index in wide if named[index] in ("MEAN", "SUB", "ADD")) == [
        "ADD", "MEAN", "SUB", "SUB",
    ]  # fmt: skip


def test_the_report_says_which_operators_are_wide_and_why(mean):
    graph = read_graph(quantize_graph(mean.path, mean.plan, "int8"))
    lines = precision_report(graph, "int8")
    assert float_operators(lines) == ()
    wide = [line for line in lines if line.precision == "int16x8"]
    assert {"MEAN", "SUB", "ADD"} <= {line.operator for line in wide}
    assert all("round to nothing" in line.reason for line in wide)
    borders = [line for line in lines if line.operator == "QUANTIZE" and "8 and 16 bits" in line.reason]
    assert borders and {line.precision for line in borders} == {"int8"}


def test_runners_on_the_host_and_on_devices_carry_it(mean, features, tmp_path):
    """The reference, LiteRT by the host's runner and by the agent's: the same file, the same masks."""
    path = tmp_path / "model.tflite"
    content = quantize_graph(mean.path, mean.plan, "int8")
    write_stream_model(path, content, description_of(mean.graph).for_graph(read_graph(content), "int8"))
    parity = integer_parity(path, mean.path, features, 0.5)
    assert parity.unavailable is None and parity.max_lsb <= 2 and parity.float_snr_db > 30
    runner = StreamRunner(read_graph(path), content)
    frames = channels_last(features)[0]
    mask = read_graph(path).tensors[read_graph(path).outputs["mask"]].quantization
    wanted = np.stack([to_real(one, mask).reshape(-1) for one in runner.run(frames)])
    for views in (True, False):
        graph = StreamGraph(path, views=views)
        np.testing.assert_array_equal(graph.run(frames.reshape(len(frames), -1)), wanted)


def test_a_state_that_is_not_there_is_named(mean, tmp_path):
    wrong = description_of(mean.graph).model_copy(update={"wide_states": ("means",)})
    path = tmp_path / "model.tflite"
    path.write_bytes(embed(mean.path.read_bytes(), wrong))
    with pytest.raises(ModelError, match=r"no state 'means'") as caught:
        quantize_graph(path, mean.plan, "int8")
    assert "mean, before" in caught.value.hint or "before, mean" in caught.value.hint


def test_the_users_own_file_may_have_one(mean, features, tmp_path):
    """A file that says nothing about itself; `entry` says it."""
    model = load_flatbuffer(mean.path)
    model.metadata = None
    for item in (*model.signatureDefs[0].inputs, *model.signatureDefs[0].outputs):
        item.name = item.name.removeprefix(b"state_")
    (tmp_path / "own.tflite").write_bytes(pack_flatbuffer(model))
    for name, wanted in (("mean", {"state_mean": ("int16", "int16"), "state_before": ("int8", "int8")}), (None, None)):
        entry = EntryConfig(frontend=FRONTEND, wide_states=(name,) if name else ())
        out = tmp_path / str(name)
        plan = quantize_tflite(tmp_path / "own.tflite", features, out, entry=entry)
        found = states(read_graph(quantize_graph(plan.float_path, plan.ranges, "int8")))
        assert found == (wanted or dict.fromkeys(found, ("int8", "int8")))


def test_networks_without_wide_states_say_nothing_of_them(lookback):
    description = description_of(lookback.graph)
    assert "wide_states" not in description.to_json()
    assert wide_operators(lookback.graph) == frozenset()


@dataclass(frozen=True)
class Streamed:
    """30 s through one form of a network: masks `[frames, bins]`, running moments after every frame."""

    masks: np.ndarray
    moments: np.ndarray


def narrowed(path: Path) -> Path:
    """The same file, of which nobody says that states are wide."""
    found = path.with_name("narrow.tflite")
    plain = description_of(read_graph(path)).model_copy(update={"wide_states": ()})
    found.write_bytes(embed(path.read_bytes(), plain))
    return found


def drifting(seconds: float, seed: int) -> Tensor:
    """Pink noise with syllables and a level that drifts by 24 dB, 16 kHz."""
    draw, samples = np.random.default_rng(seed), int(seconds * 16000)
    spectrum = np.fft.rfft(draw.normal(size=samples))
    noise = np.fft.irfft(spectrum / np.sqrt(1 + (np.arange(spectrum.size) / seconds / 300) ** 2), samples)
    time = np.arange(samples) / 16000
    level = -30 + 12 * np.sin(2 * np.pi * time / 11 + seed) + 8 * np.sin(2 * np.pi * 3.1 * time)
    return torch.tensor(noise / noise.std() * 10 ** (level / 20), dtype=torch.float32)[None]


def streamed(content: bytes, plan: RangePlan, sound: np.ndarray) -> Streamed:
    graph = read_graph(content)
    runner, masks, moments = StreamRunner(graph, content), [], []
    names = [name for name in graph.state_pairs if name.endswith(("_mean", "_square"))]
    for frame in channels_last(sound)[0]:
        masks.append(to_real(runner.step(frame), graph.tensors[graph.outputs["mask"]].quantization).reshape(-1))
        moments.append(np.concatenate([runner.state(name).reshape(-1) for name in names]))
    return Streamed(np.stack(masks), np.stack(moments))


@pytest.fixture(scope="module")
def forms(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Streamed]:
    """mobile_unet as float, as int8 with moments of 16 bits, and with moments of 8, over 30 s."""
    torch.manual_seed(0)
    frontend = Frontend(rate=16000, window=512, hop=256, fft=512)
    sizes = {"channels": [8, 12], "strides": [8, 4], "hidden": 12, "mask_hidden": 6, "forget": PACE}
    model = build("mobile_unet", frontend, sizes).eval()
    path = tmp_path_factory.mktemp("moments") / "float32.tflite"
    export_float(model, path)
    sound = frontend.analyse(drifting(FRAMES * 0.016, 9)).sequence.numpy()
    plan = tie(
        read_graph(path), calibrate(path, frontend.analyse(torch.cat([drifting(8, 1), drifting(8, 2)])).sequence)
    )
    contents = {
        "float": path.read_bytes(),
        "wide": quantize_graph(path, plan, "int8"),
        "narrow": quantize_graph(narrowed(path), plan, "int8"),
    }
    return {name: streamed(content, plan, sound) for name, content in contents.items()}


@pytest.mark.slow
def test_moments_of_8_bits_stand_still_and_those_of_16_follow(forms):
    assert forms["float"].masks.shape[0] * 0.016 >= 30
    # After a second the running mean of float moves with every frame: 8 bits take no share of 1/256 of a difference.
    moved = {name: (np.diff(form.moments[100:], axis=0) != 0).mean() for name, form in forms.items()}
    assert moved["narrow"] < 0.05 < 0.5 < moved["wide"]
    found = {name: snr_db(forms["float"].moments, form.moments) for name, form in forms.items()}
    assert found["wide"] > 12 and found["wide"] > found["narrow"] + 8


@pytest.mark.slow
def test_the_output_is_nearer_to_float_with_moments_of_16_bits(forms):
    found = {name: snr_db(forms["float"].masks, form.masks) for name, form in forms.items()}
    assert found["wide"] > found["narrow"] + 5
