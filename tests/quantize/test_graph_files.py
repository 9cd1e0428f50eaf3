"""Reading .tflite files: what is in them, and what damaged or foreign ones get."""

import json

import numpy as np
import pytest

from earshot.core.errors import ModelError
from earshot.quantize.graph import load_flatbuffer, pack_flatbuffer, read_graph
from earshot.quantize.metadata import description_of, embed, read_description, write_stream_model


def test_the_graph_agrees_with_the_interpreter(lookback):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(lookback.path))
    signature = interpreter._get_full_signature_list()["serving_default"]
    assert dict(lookback.graph.inputs) == signature["inputs"]
    assert dict(lookback.graph.outputs) == signature["outputs"]
    for detail in interpreter.get_tensor_details()[: len(lookback.graph.tensors)]:
        tensor = lookback.graph.tensors[detail["index"]]
        assert (tensor.name, tensor.shape) == (detail["name"], tuple(detail["shape"]))
        assert np.dtype(tensor.dtype) == detail["dtype"]
    assert [op.name for op in lookback.graph.operators] == [op["op_name"] for op in interpreter._get_ops_details()][
        : len(lookback.graph.operators)
    ]


def test_a_constant_is_dequantised_along_its_axis(lookback):
    from earshot.quantize.graph import Quantization, TensorInfo

    data = np.array([[1, -2], [3, 4]], np.int8)
    scales = Quantization(np.array([0.5, 2.0], np.float32), np.array([0, 1]), axis=1)
    assert TensorInfo(0, "w", (2, 2), "int8", scales, data).real().tolist() == [[0.5, -6.0], [1.5, 6.0]]


@pytest.mark.parametrize("share", [0, 0.0003, 0.01, 0.3, 0.6, 0.9, 0.99, 0.9999])
def test_a_truncated_file_is_refused_with_its_name(lookback, tmp_path, share):
    content = lookback.path.read_bytes()
    short = tmp_path / "short.tflite"
    short.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ModelError, match=r"short\.tflite"):
        read_graph(short)


@pytest.mark.parametrize("content", [b"", b"not a model at all", b"PK\x03\x04" + bytes(100), b"\x1c\0\0\0TFL3"])
def test_other_files_are_refused(tmp_path, content):
    other = tmp_path / "other.tflite"
    other.write_bytes(content)
    with pytest.raises(ModelError, match=r"other\.tflite"):
        read_graph(other)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ModelError, match=r"absent\.tflite: no such file"):
        read_graph(tmp_path / "absent.tflite")


def test_a_graph_without_signature_is_refused(lookback):
    model = load_flatbuffer(lookback.path)
    model.signatureDefs = None
    with pytest.raises(ModelError, match="no signature"):
        read_graph(pack_flatbuffer(model))


def test_an_index_out_of_range_is_refused(lookback):
    model = load_flatbuffer(lookback.path)
    model.signatureDefs[0].outputs[0].tensorIndex = 10_000
    with pytest.raises(ModelError, match="damaged"):
        read_graph(pack_flatbuffer(model))


def test_the_description_says_what_the_architecture_page_says(lookback):
    text = lookback.graph.metadata["earshot"]
    sidecar = json.loads(lookback.path.with_suffix(".json").read_text())
    assert json.loads(text) == sidecar
    assert sidecar["schema"] == "earshot.stream/1"
    assert sidecar["frontend"] == lookback.model.frontend.model_dump(mode="json")
    assert (sidecar["input"], sidecar["output"], sidecar["precision"]) == ("frame", "mask", "float32")
    assert sidecar["states"] == [
        {"name": "seen", "input": "state_seen", "output": "state_seen", "shape": [1, 1, 33, 1], "dtype": "float32"},
        {"name": "held", "input": "state_held", "output": "state_held", "shape": [1, 1, 17, 4], "dtype": "float32"},
        {"name": "memory", "input": "state_memory", "output": "state_memory", "shape": [1, 6], "dtype": "float32"},
    ]
    assert read_description(lookback.path).to_json() == sidecar


def test_describing_anew_replaces_the_description(lookback):
    description = read_description(lookback.path)
    content = lookback.path.read_bytes()
    assert embed(content, description) == content
    renamed = embed(content, description.model_copy(update={"network": "other"}))
    assert description_of(read_graph(renamed)).network == "other"
    assert len(load_flatbuffer(renamed).metadata) == len(load_flatbuffer(content).metadata)


def test_a_foreign_model_is_refused(lookback, tmp_path):
    model = load_flatbuffer(lookback.path)
    model.metadata = [entry for entry in model.metadata if entry.name != b"earshot"]
    foreign = tmp_path / "foreign.tflite"
    foreign.write_bytes(pack_flatbuffer(model))
    with pytest.raises(ModelError, match=r"foreign\.tflite: not an earshot stream model") as caught:
        read_description(foreign)
    assert caught.value.hint


@pytest.mark.parametrize("damage", [lambda d: d.update(schema="earshot.stream/9"), lambda d: d.update(bogus=1)])
def test_a_description_of_another_kind_is_refused(lookback, damage):
    model = load_flatbuffer(lookback.path)
    entry = next(entry for entry in model.metadata if entry.name == b"earshot")
    content = json.loads(bytes(model.buffers[entry.buffer].data))
    damage(content)
    model.buffers[entry.buffer].data = np.frombuffer(json.dumps(content).encode(), np.uint8)
    with pytest.raises(ModelError):
        description_of(read_graph(pack_flatbuffer(model)))


def test_a_description_of_another_signature_is_refused(lookback):
    model = load_flatbuffer(lookback.path)
    model.signatureDefs[0].inputs[0].name = b"sound"
    with pytest.raises(ModelError, match="other inputs and outputs"):
        description_of(read_graph(pack_flatbuffer(model)))


def test_what_is_written_is_read_back(lookback, tmp_path):
    path = tmp_path / "copy.tflite"
    written = write_stream_model(path, lookback.path.read_bytes(), read_description(lookback.path))
    assert path.read_bytes() == lookback.path.read_bytes()
    assert written.inputs == read_graph(path).inputs
