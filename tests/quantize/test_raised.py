"""Layers on 16 bits in an int8 file: what goes with them, where they end, and that it is worth something."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from earshot.pipeline.recipe import QuantizeSection
from earshot.quantize import integer
from earshot.quantize.calibration import Range, channels_last
from earshot.quantize.graph import Graph, read_graph
from earshot.quantize.integer import quantize_graph
from earshot.quantize.metadata import MASK, description_of, write_stream_model
from earshot.quantize.parity import integer_parity
from earshot.quantize.plan import QuantizeConfig, read_plan, settle
from earshot.quantize.precision import precision_report
from earshot.quantize.raised import matching, raised
from earshot.quantize.raising import build_raised, measure, pattern_of, simulated_snrs
from earshot.quantize.reference import Grid
from earshot.quantize.sensitivity import Model, Power, layer_noise, masks

SPOILT = 64  # times its range


def only(graph: Graph, kind: str, place: int = 0) -> str:
    """The name of what one operator of a kind puts out."""
    found = [operator for operator in graph.operators if operator.name == kind]
    return graph.tensors[found[place].outputs[0]].name


def types(content: bytes) -> dict[str, tuple[str, str]]:
    graph = read_graph(content)
    return {
        name: (graph.tensors[graph.inputs[name]].dtype, graph.tensors[graph.outputs[name]].dtype)
        for name in graph.state_pairs
    }


def test_what_reads_a_raised_layer_goes_with_it_and_a_state_that_keeps_it_too(lookback):
    graph = lookback.graph
    first = only(graph, "DEPTHWISE_CONV_2D")
    found = raised(graph, [pattern_of(first)])
    named = {graph.operators[index].name for index in found.operators}
    # By hand: relu(down(...)) is kept in `held`, joined with what was kept, read by the next layer and by a sum.
    assert found.states == {"state_held"}
    assert named == {"DEPTHWISE_CONV_2D", "CONCATENATION", "PAD", "ADD"}
    assert all(pattern == pattern_of(first) for pattern in found.operators.values())
    assert raised(graph, ["no such layer"]).operators == {}
    assert list(matching(graph, [pattern_of(first)])) == [
        one.index for one in graph.operators if first in {graph.tensors[i].name for i in one.outputs}
    ]


def test_the_file_has_16_bits_there_and_8_elsewhere(lookback, tmp_path, frames):
    first = only(lookback.graph, "DEPTHWISE_CONV_2D")
    content = quantize_graph(lookback.path, lookback.plan, "int8", keep_wide=[pattern_of(first)])
    graph = read_graph(content)
    tensors = {tensor.name: tensor for tensor in graph.tensors}
    assert tensors[first].dtype == "int16"
    assert types(content) == {
        "state_seen": ("int8", "int8"), "state_held": ("int16", "int16"), "state_memory": ("int8", "int8"),
    }  # fmt: skip
    mask = graph.tensors[graph.outputs[MASK]]
    assert mask.dtype == "int8" and mask.quantization.scale == 1 / 256 and mask.quantization.zero_point == -128
    ends = [graph.tensors[side["state_held"]].quantization for side in (graph.inputs, graph.outputs)]
    assert ends[0].same_as(ends[1])
    path = tmp_path / "model.tflite"
    write_stream_model(path, content, description_of(lookback.graph).for_graph(graph, "int8"))
    assert integer_parity(path, lookback.path, frames, 1.0).snr_db > 30  # LiteRT and the reference agree on the file
    report = {line.output: line for line in precision_report(graph, "int8", keep_wide=[pattern_of(first)])}
    assert report[first].precision == "int16x8" and "quantize.keep_wide" in report[first].reason
    assert all(line.precision != "float32" for line in report.values())


def test_a_sigmoid_that_reads_a_raised_layer_leaves_the_mask_its_steps(lookback, monkeypatch):
    last = only(lookback.graph, "CONV_2D", -1)
    steps = []
    for content in (
        quantize_graph(lookback.path, lookback.plan, "int8", keep_wide=[pattern_of(last)]),
        monkeypatch.setattr(integer, "settle_outputs", lambda content, narrow: content)
        or quantize_graph(lookback.path, lookback.plan, "int8", keep_wide=[pattern_of(last)]),
    ):
        graph = read_graph(content)
        tensor = graph.tensors[graph.outputs[MASK]]
        assert tensor.dtype == "int8"
        steps.append(tensor.quantization.scale)
    assert steps[0] == 1 / 256 and steps[1] > 1.9 / 256  # without it half of the mask's steps would be lost


def test_without_patterns_nothing_changes(lookback, tmp_path, frames):
    plain = quantize_graph(lookback.path, lookback.plan, "int8")
    assert types(plain)["state_held"] == ("int8", "int8")
    assert quantize_graph(lookback.path, lookback.plan, "int16x8", keep_wide=[".*"]) == quantize_graph(
        lookback.path, lookback.plan, "int16x8"
    )
    assert "keep_wide" not in QuantizeSection().settings()
    assert QuantizeSection(keep_wide=("CONV",)).settings()["keep_wide"] == ["CONV"]
    (tmp_path / "float32.tflite").write_bytes(lookback.path.read_bytes())
    settle(tmp_path, frames, QuantizeConfig(), None)
    assert "keep_wide" not in (tmp_path / "precision.json").read_text()
    settle(tmp_path, frames, QuantizeConfig(keep_wide=("CONV_2D",)), None)
    assert read_plan(tmp_path).precisions.keep_wide == ("CONV_2D",)


def test_rounding_a_uniform_signal_to_8_bits_costs_what_theory_says():
    """Uniform over the whole range of 255 steps: 20 log10(255) = 48.13 dB, 6.02 dB a bit less a step."""
    import torch

    signal = np.random.default_rng(1).uniform(-1, 1, 400_000).astype(np.float32)
    grid, power = Grid(2 / 255, -128, 127), Power()
    for part in np.split(signal, 4):
        power.add(part, grid.round(torch.from_numpy(part)).numpy())
    assert power.db == pytest.approx(20 * np.log10(255), abs=0.05)
    exact = Power()
    exact.add(signal, signal)
    assert exact.db == 200


@pytest.fixture
def spoilt(lookback, frames):
    """One layer's range is far too wide: which one, the plan, the files, and what the float file gives out."""
    location = only(lookback.graph, "TRANSPOSE_CONV")
    index = next(tensor.index for tensor in lookback.graph.tensors if tensor.name == location)
    group = next((group for group in lookback.plan.groups if index in group), (index,))
    ranges = dict(lookback.plan.ranges)
    for member in group:
        ranges[member] = Range(ranges[member].low * SPOILT, ranges[member].high * SPOILT)
    plan = dataclasses.replace(lookback.plan, ranges=ranges)
    content = quantize_graph(lookback.path, plan, "int8")
    floating = Model(lookback.graph, lookback.path.read_bytes())
    stream = channels_last(frames)[0]
    return location, plan, floating, Model(read_graph(content), content), stream, masks(floating, stream)


def test_a_layer_whose_range_was_spoilt_comes_out_lowest_and_gains_most(lookback, spoilt):
    location, plan, floating, rounded, stream, wanted = spoilt
    noise = layer_noise(floating, rounded, stream)
    own = {one.location: one.own_sqnr_db for one in noise.layers}
    assert min(own, key=own.get) == location
    # The range is 64 times as wide: 36 dB less than the same layer in the file as it should be.
    content = quantize_graph(lookback.path, lookback.plan, "int8")
    sound = layer_noise(floating, Model(read_graph(content), content), stream)
    before = next(one.own_sqnr_db for one in sound.layers if one.location == location)
    assert before - own[location] == pytest.approx(20 * np.log10(SPOILT), abs=4)
    assert min(sound.layers, key=lambda one: one.own_sqnr_db).location != location
    assert noise.mask_snr_db < sound.mask_snr_db - 10

    plain, gains = simulated_snrs(floating.graph, rounded.graph, list(own), wanted, stream)
    assert max(gains, key=gains.get) == location
    real = measure(rounded, wanted, stream)
    assert plain == pytest.approx(real.snr_db, abs=1.5)  # the reference against LiteRT
    raised_content = quantize_graph(lookback.path, plan, "int8", keep_wide=[pattern_of(location)])
    mended = measure(Model(read_graph(raised_content), raised_content), wanted, stream)
    assert mended.snr_db > real.snr_db + 10
    assert gains[location] - plain == pytest.approx(mended.snr_db - real.snr_db, abs=3)
    assert mended.bytes > real.bytes


def test_raising_from_a_plan_is_what_the_recipe_key_makes(lookback, tmp_path, frames):
    (tmp_path / "float32.tflite").write_bytes(lookback.path.read_bytes())
    made = settle(tmp_path, frames, QuantizeConfig(), None)
    stream = channels_last(frames)[0]
    wanted = masks(Model(lookback.graph, lookback.path.read_bytes()), stream)
    location = only(lookback.graph, "DEPTHWISE_CONV_2D")
    built = build_raised(made, [pattern_of(location)], wanted, stream)
    content = quantize_graph(made.float_path, made.ranges, "int8", (), (pattern_of(location),))
    assert built == measure(Model(read_graph(content), content), wanted, stream)
    plain = quantize_graph(made.float_path, made.ranges, "int8")
    held = lookback.graph.tensors[lookback.graph.inputs["state_held"]].size
    assert built.state_bytes - measure(Model(read_graph(plain), plain), wanted, stream).state_bytes == held


@pytest.mark.parametrize("pattern", ["^CONV_2D$|^FULLY_CONNECTED$", "^TANH$|^LOGISTIC$", "^ADD$", "."])
def test_states_leave_as_they_enter_whatever_is_raised(network, pattern):
    """A raised layer may read what also leaves as a state: on 8 bits that state still leaves on 8 bits."""
    graph = read_graph(quantize_graph(network.path, network.plan, "int8", keep_wide=[pattern]))
    for name in graph.state_pairs:
        ends = [graph.tensors[side[name]] for side in (graph.inputs, graph.outputs)]
        assert ends[0].dtype == ends[1].dtype and ends[0].quantization.same_as(ends[1].quantization), name
    plain = read_graph(quantize_graph(network.path, network.plan, "int8"))
    masks_of = [one.tensors[one.outputs[MASK]] for one in (graph, plain)]
    assert masks_of[0].dtype == "int8" and masks_of[0].quantization.same_as(masks_of[1].quantization)
