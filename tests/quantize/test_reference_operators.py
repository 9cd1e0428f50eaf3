"""Operators of the fake-quantised reference on every integer there is, against LiteRT's reference kernels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from earshot.core.errors import ModelError
from earshot.quantize.graph import Operator, read_graph
from earshot.quantize.kernels import Call
from earshot.quantize.reference import Reference
from earshot.quantize.runner import to_integer, to_real

from .c.builder import Builder


def both(b: Builder, sink: int, folder: Path, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The integers that the reference and LiteRT make of integers in the shape of the frame."""
    b.outputs["mask"] = sink
    path = b.write(folder / "model.tflite")
    graph = read_graph(path)
    source, out = graph.tensors[graph.inputs["frame"]], graph.tensors[sink]
    interpreter = Interpreter(str(path), experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
    interpreter.allocate_tensors()
    interpreter.set_tensor(source.index, values.reshape(source.shape))
    interpreter.invoke()
    real = torch.from_numpy(to_real(values.reshape(source.shape), source.quantization))[None]
    made, _ = Reference(graph).step(real, {})
    return to_integer(made[0].numpy(), out.quantization, out.dtype).astype(int), interpreter.get_tensor(sink).astype(
        int
    )


def every(dtype: str) -> np.ndarray:
    limits = np.iinfo(dtype)
    return np.arange(limits.min, limits.max + 1).astype(dtype)


@pytest.mark.parametrize(("scale", "zero", "step"), [(0.02, -128, 0.03), (3.0, -128, 0.05), (1e-4, -100, 0.1)])
def test_logarithms_are_those_of_its_table(scale, zero, step, tmp_path):
    b = Builder("int8", 1)
    frame = b.inputs["frame"] = b.activation([1, 1, 256, 1], scale=scale, zero=zero, name="frame")
    sink = b.add("LOG", [frame], [b.activation([1, 1, 256, 1], scale=step, zero=40)])
    found, wanted = both(b, sink, tmp_path, every("int8"))
    positive = every("int8") > zero  # of the others, LiteRT's logarithm is undefined in integers
    np.testing.assert_array_equal(found.reshape(-1)[positive], wanted.reshape(-1)[positive])
    assert np.unique(wanted.reshape(-1)[positive]).size > 5
    assert found.min() == found.reshape(-1)[0] == -128


@pytest.mark.parametrize("dtype", ["int8", "int16"])
@pytest.mark.parametrize("flipped", [False, True], ids=["over a constant", "of a constant"])
def test_quotients_are_within_a_step_of_its_fixed_point(dtype, flipped, tmp_path):
    values = every(dtype)[:: 1 if dtype == "int8" else 7]
    values = values[values != 3 if dtype == "int8" else values != 0]
    b = Builder(dtype, 2)
    shape, zero = [1, 1, values.size, 1], 3 if dtype == "int8" else 0
    scale = 0.02 if dtype == "int8" else 1e-4
    frame = b.inputs["frame"] = b.activation(shape, scale=scale, zero=zero, name="frame")
    number = b.tensor([1], scale=scale, zero=zero, data=np.array([101 if dtype == "int8" else 9001], dtype))
    operands = [number, frame] if flipped else [frame, number]
    sink = b.add("DIV", operands, [b.activation(shape, scale=scale, zero=-5 if dtype == "int8" else 0)], "DivOptions",
                 fusedActivationFunction=0)  # fmt: skip
    found, wanted = both(b, sink, tmp_path, values)
    assert np.abs(found - wanted).max() <= 1 and (found == wanted).mean() > 0.98
    assert np.unique(wanted).size > 50
    turned = (found.max() + found.min() - found).reshape(-1)
    assert np.abs(turned - wanted.reshape(-1)).max() > 20, "the same comparison sees a wrong sign"


def test_a_quotient_by_zero_is_the_end_of_the_range(tmp_path):
    """LiteRT refuses to divide by zero; generated C does not, and gives the same."""
    b = Builder("int8", 3)
    frame = b.inputs["frame"] = b.activation([1, 1, 3, 1], scale=0.02, zero=0, name="frame")
    number = b.tensor([1], scale=0.02, zero=7, data=np.array([7], np.int8))
    b.outputs["mask"] = b.add(
        "DIV", [frame, number], [b.activation([1, 1, 3, 1], scale=0.02, zero=0)], "DivOptions",
        fusedActivationFunction=0,
    )  # fmt: skip
    graph = read_graph(b.write(tmp_path / "model.tflite"))
    made, _ = Reference(graph).step(torch.tensor([-1.0, 0.0, 1.0]).reshape(1, 1, 1, 3, 1), {})
    np.testing.assert_allclose(made.reshape(-1), [-128 * 0.02, 127 * 0.02, 127 * 0.02], rtol=1e-6)


@pytest.mark.parametrize("dtype", ["int8", "int16"])
@pytest.mark.parametrize("axes", [[1], [2], [-1], [1, 2]], ids=str)
def test_reversals_are_its_reversals(dtype, axes, tmp_path):
    b = Builder(dtype, 4)
    frame = b.inputs["frame"] = b.activation([1, 4, 8, 3], name="frame")
    sink = b.add("REVERSE_V2", [frame, b.indices(axes)], [b.like(frame, [1, 4, 8, 3])], "ReverseV2Options")
    values = b.draw.choice(every(dtype), 96, replace=False)
    found, wanted = both(b, sink, tmp_path, values)
    np.testing.assert_array_equal(found, wanted)
    assert not np.array_equal(np.flip(found, 1), wanted), "reversed once more they are others"


def test_minima_and_inverse_roots_are_its_own(tmp_path):
    b = Builder("int8", 5)
    frame = b.inputs["frame"] = b.activation([1, 1, 256, 1], scale=0.02, zero=-128, name="frame")
    bound = b.tensor([1], scale=0.02, zero=-128, data=np.array([50], np.int8))
    low = b.add("MINIMUM", [frame, bound], [b.like(frame, [1, 1, 256, 1])], "MaximumMinimumOptions")
    sink = b.add("RSQRT", [low], [b.activation([1, 1, 256, 1], scale=0.03, zero=-128)])
    found, wanted = both(b, sink, tmp_path, every("int8"))
    np.testing.assert_array_equal(found, wanted)
    assert np.unique(wanted).size > 30


@pytest.mark.parametrize("values", [(), (None,)], ids=["too few", "absent"])
def test_an_input_that_a_damaged_graph_lacks_is_named(values) -> None:
    call = Call(Operator(7, "PAD", (-1,), (0,)), values, values, ())
    with pytest.raises(ModelError, match="operator 7 PAD lacks input 0"):
        call.value(0)
    with pytest.raises(ModelError, match="operator 7 PAD lacks input 0, a constant"):
        call.index(0)
