"""The fake-quantised reference against LiteRT, and the parity reports that stand on it."""

import numpy as np
import pytest
import torch

from earshot.core.errors import ModelError
from earshot.quantize.export import export_float
from earshot.quantize.graph import Quantization, TensorInfo, load_flatbuffer, pack_flatbuffer, read_graph
from earshot.quantize.integer import INTEGER_PRECISIONS, quantize_graph
from earshot.quantize.metadata import read_description, write_stream_model
from earshot.quantize.parity import IDENTICAL_DB, float_parity, integer_parity, one_stream, snr_db, stream
from earshot.quantize.reference import Grid, Reference


@pytest.fixture
def integer_file(network, tmp_path):
    def make(precision, plan=None):
        path = tmp_path / f"{precision}.tflite"
        content = quantize_graph(network.path, plan or network.plan, precision)
        write_stream_model(path, content, read_description(network.path).for_graph(read_graph(content), precision))
        return path

    return make


def test_the_float_file_computes_what_the_network_computes(network, features):
    parity = float_parity(network.path, network.model, features, 0.5)
    assert parity.max_abs <= 1e-5 and parity.frames == 250


def test_a_wrongly_converted_layer_is_refused(faulty, features, tmp_path):
    """ConvTranspose2d with kernel 3, stride 2, padding 1 converts without a word, to something else."""
    path = tmp_path / "faulty.tflite"
    export_float(faulty, path)
    with pytest.raises(ModelError, match="differ from the network's") as caught:
        float_parity(path, faulty, features, 0.1)
    assert "ConvTranspose2d" in caught.value.hint


def test_another_network_is_refused(lookback, leaky, features):
    with pytest.raises(ModelError, match="differ"):
        float_parity(lookback.path, leaky.model, features, 0.1)


def test_the_reference_agrees_with_litert_on_the_float_graph(network, features):
    masks = Reference(network.graph).run(features[:1])[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(masks, stream(network.path, features[:1].numpy()), atol=1e-6)


def test_clips_together_are_the_clips_one_by_one(network, features):
    reference = Reference(read_graph(quantize_graph(network.path, network.plan, "int8")))
    together = reference.run(features)
    assert together.shape == features.shape
    for clip in range(features.shape[0]):
        torch.testing.assert_close(together[clip], reference.run(features[clip : clip + 1])[0], atol=1 / 250, rtol=0)


@pytest.mark.parametrize("precision", INTEGER_PRECISIONS)
def test_the_integer_file_agrees_with_the_reference(network, integer_file, features, precision):
    parity = integer_parity(integer_file(precision), network.path, features, 0.5)
    assert parity.frames == 250 and parity.unavailable is None
    assert parity.snr_db > 45 and parity.float_snr_db > 25
    assert parity.max_lsb <= (2 if precision == "int8" else 8)


def test_a_file_with_one_changed_weight_does_not(lookback, tmp_path, features):
    """Negative control: the reference of one file against another that differs in a single mask weight."""
    content = quantize_graph(lookback.path, lookback.plan, "int8")
    graph = read_graph(content)
    model = load_flatbuffer(content)
    conv = [operator for operator in graph.operators if operator.name == "CONV_2D"][-1]
    buffer = model.buffers[model.subgraphs[0].tensors[conv.inputs[1]].buffer]
    weights = np.array(buffer.data, np.uint8).view(np.int8).copy()
    weights[np.abs(weights.astype(int)).argmax()] //= 2
    buffer.data = weights.view(np.uint8)
    path = tmp_path / "changed.tflite"
    write_stream_model(path, pack_flatbuffer(model), read_description(lookback.path).for_graph(graph, "int8"))
    wanted = Reference(graph).run(features[:1])[0].permute(1, 2, 0).numpy()
    mask = graph.tensors[graph.outputs["mask"]].quantization
    found = (stream(path, features[:1].numpy()).astype(np.float32) - mask.zero_point) * mask.scale
    assert snr_db(wanted, found) < 40


def test_an_unknown_operator_is_named_with_its_place(lookback):
    from ai_edge_litert import schema_py_generated as schema

    model = load_flatbuffer(lookback.path)
    tanh = next(code for code in model.operatorCodes if code.builtinCode == schema.BuiltinOperator.TANH)
    tanh.builtinCode = tanh.deprecatedBuiltinCode = schema.BuiltinOperator.ELU
    graph = read_graph(pack_flatbuffer(model))
    (place,) = [operator.index for operator in graph.operators if operator.name == "ELU"]
    with pytest.raises(ModelError, match=rf"ELU \(operator {place}\)"):
        Reference(graph)


def test_numbers_are_rounded_to_the_tensors_grid():
    tensor = TensorInfo(0, "t", (3,), "int8", Quantization(np.array([0.5], np.float32), np.array([126])))
    values = torch.tensor([0.26, 0.74, 0.25, 9.0, -200.0])
    assert Grid.of(tensor).round(values).tolist() == [0.5, 0.5, 0.0, 0.5, -127.0]
    assert Grid.of(TensorInfo(0, "t", (3,), "float32")).round(values).tolist() == values.tolist()


def test_one_stream_is_long_enough_and_keeps_the_order():
    from earshot.models.frontend import Frontend

    values = np.arange(2 * 3 * 5, dtype=np.float32).reshape(2, 1, 3, 5)
    joined = one_stream(values, Frontend(window=64, hop=32, fft=64), 0.02)
    assert joined.shape == (1, 1, 10, 5)
    assert joined[0, 0, :6].tolist() == values.reshape(6, 5).tolist()
    assert joined[0, 0, 6:].tolist() == joined[0, 0, :4].tolist()


def test_signal_to_noise_by_hand():
    assert snr_db(np.array([1.0, 1.0]), np.array([1.1, 0.9])) == pytest.approx(20.0)
    assert snr_db(np.array([1.0]), np.array([1.0])) == IDENTICAL_DB
