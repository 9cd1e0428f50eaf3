"""Integer files: precisions, tied states, repaired signatures, and the traps of the quantizer."""

from dataclasses import replace

import numpy as np
import pytest

from earshot.core.errors import ModelError
from earshot.quantize import integer
from earshot.quantize.calibration import Range
from earshot.quantize.graph import load_flatbuffer, pack_flatbuffer, read_graph
from earshot.quantize.integer import INTEGER_PRECISIONS, quantize_graph
from earshot.quantize.metadata import MASK
from earshot.quantize.precision import float_operators, precision_report
from earshot.quantize.ranges import RangePlan
from earshot.quantize.runner import StreamRunner, to_integer, to_real


def states_keep_their_scale(graph) -> bool:
    ends = [(graph.tensors[graph.inputs[a]], graph.tensors[graph.outputs[b]]) for a, b in graph.state_pairs.items()]
    return all(entry.quantization.same_as(leaving.quantization) for entry, leaving in ends)


@pytest.mark.parametrize("precision", INTEGER_PRECISIONS)
def test_states_leave_with_the_scale_they_enter_with(network, precision):
    assert states_keep_their_scale(read_graph(quantize_graph(network.path, network.plan, precision)))


def apart(network) -> RangePlan:
    """Every tensor for itself, and a last frame that took the states further than they ever came in."""
    leaving = [network.graph.outputs[name] for name in network.graph.state_pairs]
    further = {index: Range(network.measured[index].low, 1.5 * network.measured[index].high + 0.1) for index in leaving}
    return RangePlan({**network.measured, **further}, ())


def test_untied_states_would_not(lookback):
    """Negative control for the test above: without tying, scales differ and QUANTIZE operators appear."""
    untied = read_graph(quantize_graph(lookback.path, apart(lookback), "int8"))
    assert not states_keep_their_scale(untied)
    assert any(operator.name == "QUANTIZE" for operator in untied.operators)


@pytest.mark.parametrize("precision", INTEGER_PRECISIONS)
@pytest.mark.parametrize("name", ["lookback", "gated"])
def test_every_operator_is_integer(request, name, precision):
    network = request.getfixturevalue(name)
    graph = read_graph(quantize_graph(network.path, network.plan, precision))
    assert {tensor.dtype for tensor in graph.tensors} <= {"int8", "int16", "int32", "int64"}
    assert not any(operator.name in ("QUANTIZE", "DEQUANTIZE") for operator in graph.operators)
    report = precision_report(graph, precision)
    assert len(report) == len(graph.operators) and not float_operators(report)
    assert all(line.reason for line in report)


def test_leaky_relu_is_listed_as_float_with_the_way_out(leaky):
    report = precision_report(read_graph(quantize_graph(leaky.path, leaky.plan, "int8")), "int8")
    (line,) = float_operators(report)
    assert line.operator == "LEAKY_RELU"
    assert "no integer form" in line.reason and "torch.maximum" in line.reason
    borders = [line for line in report if line.operator in ("QUANTIZE", "DEQUANTIZE")]
    assert borders and all("float part" in line.reason for line in borders)


def test_an_operator_is_kept_float_on_request(lookback):
    graph = read_graph(quantize_graph(lookback.path, lookback.plan, "int8", ["^TANH$"]))
    (line,) = float_operators(precision_report(graph, "int8", ["^TANH$"]))
    assert (line.operator, line.reason) == ("TANH", "kept by quantize.keep_float: ^TANH$")


def test_an_operator_whose_name_is_part_of_anothers_is_kept_alone(lookback, tmp_path):
    model = load_flatbuffer(lookback.path.read_bytes())
    graph = lookback.graph
    tanh = next(operator for operator in graph.operators if operator.name == "TANH")
    other = next(operator for operator in graph.operators if operator.index > tanh.index)
    tensors = model.subgraphs[0].tensors
    tensors[other.outputs[0]].name = b"layer/" + tensors[tanh.outputs[0]].name + b"/beyond"
    path = tmp_path / "renamed.tflite"
    path.write_bytes(pack_flatbuffer(model))
    report = precision_report(read_graph(quantize_graph(path, lookback.plan, "int8", ["^TANH$"])), "int8", ["^TANH$"])
    assert [line.operator for line in float_operators(report)] == ["TANH"]


def stale_outputs(graph, content: bytes) -> list[str]:
    given = {int(index) for index in load_flatbuffer(content).subgraphs[0].outputs}
    return [name for name, index in graph.outputs.items() if index not in given]


def test_the_signature_names_the_tensors_the_graph_gives_out(lookback, monkeypatch):
    """Untied states make the quantizer add QUANTIZE before outputs; without the repair its signature goes stale."""
    repaired = quantize_graph(lookback.path, apart(lookback), "int8")
    assert stale_outputs(read_graph(repaired), repaired) == []
    monkeypatch.setattr(integer, "repair", lambda before, after: after)
    raw = quantize_graph(lookback.path, apart(lookback), "int8")
    assert stale_outputs(read_graph(raw), raw) != []


def test_int16_subtractions_prepare_with_scales_at_powers_of_two(gated, monkeypatch):
    """1/4096 - 1/8192 -> 1/8192: the kernel's old path wants shifts it does not get; the repair avoids it."""
    subtraction = [operator for operator in gated.graph.operators if operator.name == "SUB"][-1]
    inputs = [index for index in subtraction.inputs if gated.graph.is_activation(index)]
    scales = zip((*inputs, *subtraction.outputs), (4096, 8192, 8192), strict=True)
    powers = {index: Range(-32767 / inverse, 32767 / inverse) for index, inverse in scales}
    plan = RangePlan({**gated.plan.ranges, **powers}, ())
    repaired = quantize_graph(gated.path, plan, "int16x8")
    StreamRunner(read_graph(repaired), repaired, observe=True).step(np.ones((1, 1, 33, 1), np.float32))
    monkeypatch.setattr(integer, "repair", lambda before, after: after)
    raw = quantize_graph(gated.path, plan, "int16x8")
    with pytest.raises(ModelError, match=r"SUB.*failed to prepare"):
        StreamRunner(read_graph(raw), raw, observe=True)


@pytest.mark.parametrize("precision", INTEGER_PRECISIONS)
def test_an_integer_stream_follows_the_float_stream(network, precision, frames):
    """At least 25 dB between masks on calibration sound: a wrong scale or a lost state gives a few dB."""
    content = quantize_graph(network.path, network.plan, precision)
    graph = read_graph(content)
    sequence = frames[0].transpose(1, 2, 0)[:, None, None]
    quantization = graph.tensors[graph.outputs[MASK]].quantization
    masks = [to_real(mask, quantization) for mask in StreamRunner(graph, content).run(sequence)]
    wanted = list(StreamRunner(network.graph, network.path.read_bytes()).run(sequence))
    noise = np.square(np.stack(masks) - np.stack(wanted)).sum()
    assert 10 * np.log10(np.square(np.stack(wanted)).sum() / noise) > 25


def test_the_same_input_gives_the_same_bytes(network):
    for precision in INTEGER_PRECISIONS:
        assert quantize_graph(network.path, network.plan, precision) == quantize_graph(
            network.path, network.plan, precision
        )


def test_other_ranges_give_other_bytes(lookback):
    wider = {index: Range(found.low, found.high * 1.5) for index, found in lookback.plan.ranges.items()}
    other = replace(lookback.plan, ranges=wider, prescribed=frozenset())
    assert quantize_graph(lookback.path, other, "int8") != quantize_graph(lookback.path, lookback.plan, "int8")


def test_rounding_is_half_to_even_and_clipped():
    from earshot.quantize.graph import Quantization

    half = Quantization(np.array([0.5], np.float32), np.array([-2]))
    values = np.array([0.25, 0.75, -0.25, 1.0, 1e6, -1e6], np.float32)
    assert to_integer(values, half, "int8").tolist() == [-2, 0, -2, 0, 127, -128]
    assert to_real(np.array([0, -2], np.int8), half).tolist() == [1.0, 0.0]
