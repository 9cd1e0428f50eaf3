"""Wide strides replaced: the same integers come out of LiteRT's reference kernels, frame after frame."""

import numpy as np
import pytest

from earshot.core.errors import ModelError
from earshot.quantize.graph import load_flatbuffer, operator_name, pack_flatbuffer, read_graph
from earshot.targets.npu.strides import narrow_strides


def frames(content: bytes, count: int = 20) -> list[dict[str, np.ndarray]]:
    """What random frames and states become."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(model_content=content, experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
    runner, draw = interpreter.get_signature_runner(), np.random.default_rng(0)
    left = []
    for _ in range(count):
        limits = {name: (np.iinfo(port["dtype"]), port["shape"]) for name, port in runner.get_input_details().items()}
        given = {
            name: draw.integers(kind.min, kind.max, shape, kind.dtype, endpoint=True)
            for name, (kind, shape) in limits.items()
        }
        left.append({name: values.copy() for name, values in runner(**given).items()})
    return left


def differing(left: list[dict[str, np.ndarray]], right: list[dict[str, np.ndarray]]) -> int:
    return sum(int((a[name] != b[name]).sum()) for a, b in zip(left, right, strict=True) for name in a)


@pytest.mark.parametrize("precision", ["int8", "int16x8"])
def test_not_one_integer_changes(wide, precision):
    narrowed = narrow_strides(wide[precision])
    before, after = read_graph(wide[precision]), read_graph(narrowed.content)
    strides = {operator.options["strideW"] for operator in after.operators if "strideW" in operator.options}
    assert strides == {1}
    assert "TRANSPOSE_CONV" not in {operator.name for operator in after.operators}
    assert len(narrowed.tensors) == 4
    assert narrowed.tensors <= {before.tensors[operator.outputs[0]].name for operator in before.operators}
    was = frames(wide[precision].read_bytes())
    assert len({values.tobytes() for values in (frame["mask"] for frame in was)}) == len(was)
    assert differing(was, frames(narrowed.content)) == 0


def test_a_changed_weight_would_be_found(wide):
    narrowed = narrow_strides(wide["int8"])
    model = load_flatbuffer(narrowed.content)
    graph = model.subgraphs[0]
    first = next(operator for operator in graph.operators if operator_name(model, operator) == "CONV_2D")
    buffer = model.buffers[graph.tensors[first.inputs[1]].buffer]
    weights = np.array(buffer.data, np.uint8)
    weights[0] ^= 0x40
    buffer.data = weights
    assert differing(frames(wide["int8"].read_bytes()), frames(pack_flatbuffer(model))) > 0


def test_a_network_without_wide_strides_stays_as_it_is(narrow):
    for path in narrow.values():
        narrowed = narrow_strides(path)
        assert narrowed.content == path.read_bytes()
        assert narrowed.tensors == frozenset()


def test_float_networks_stay_as_they_are(wide):
    assert narrow_strides(wide["float32"]).content == wide["float32"].read_bytes()


def test_a_file_that_is_none_is_named(tmp_path):
    path = tmp_path / "text.tflite"
    path.write_text("no network")
    with pytest.raises(ModelError, match=r"text\.tflite"):
        narrow_strides(path)
