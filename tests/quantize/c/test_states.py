"""States whose next value no operator computes, or that others share: byte for byte what LiteRT makes of them."""

from __future__ import annotations

import re

import numpy as np
import pytest

from earshot.core.errors import ModelError
from earshot.quantize.c import generate

from .builder import Builder
from .harness import NATIVE, differences, run
from .test_bit_exactness import compare

PRECISIONS = {"int8": "int8", "int16": "int16x8"}
# name -> where its next value comes from: the frame, a state's old value, or what an operator computes:
# `sum` of the frame and all states, or `double` of the frame.
CASES = {
    "the frame of before": {"previous": "frame"},
    "the two frames before": {"older": "previous", "previous": "frame"},
    "named the other way": {"a": "frame", "b": "a", "c": "b"},
    "unchanged": {"fixed": "fixed"},
    "unchanged, and another takes it": {"taker": "fixed", "fixed": "fixed"},
    "an old value that is overwritten in place": {"taker": "running", "running": "sum"},
    "an old value that is overwritten first": {"taker": "early", "early": "double"},
    "two take one": {"a": "running", "b": "running", "running": "sum"},
    "one value for two": {"a": "sum", "b": "sum"},
    "exchanged": {"a": "b", "b": "a"},
    "in a circle": {"x": "frame", "a": "b", "b": "c", "c": "a"},
    "two circles": {"a": "b", "b": "a", "x": "c", "c": "d", "d": "c", "y": "x"},
    "the mask": {"a": "mask", "b": "a"},
}


def add(b: Builder, one: int, other: int) -> int:
    return b.add(
        "ADD", [one, other], [b.like(one, b.shape(one))], "AddOptions", fusedActivationFunction=0, potScaleInt16=False
    )


def stateful(dtype: str, nexts: dict[str, str], *, mask_first: bool) -> Builder:
    """A graph of one scale whose states take what `nexts` says; read before anything else is computed, or last."""
    b = Builder(dtype, 9)
    tensors = {"frame": b.activation([1, 6], scale=0.02, zero=3 if dtype == "int8" else 0, name="frame")}
    b.inputs["frame"] = tensors["frame"]
    for name in nexts:
        tensors[name] = b.inputs[f"state_{name}"] = b.like(tensors["frame"], [1, 6])
    if not mask_first:
        tensors["double"] = add(b, tensors["frame"], tensors["frame"])
    tensors["sum"] = tensors["frame"]
    for name in nexts:
        tensors["sum"] = add(b, tensors["sum"], tensors[name])
    if mask_first:
        tensors["double"] = add(b, tensors["frame"], tensors["frame"])
    tensors["mask"] = b.outputs["mask"] = add(b, tensors["sum"], tensors["double"])
    for name, source in nexts.items():
        b.outputs[f"state_{name}"] = tensors[source]
    return b


@pytest.mark.parametrize("mask_first", [True, False])
@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("case", CASES)
def test_states_match(case, dtype, mask_first, kernels, tmp_path):
    path = stateful(dtype, CASES[case], mask_first=mask_first).write(tmp_path / "model.tflite")
    assert compare(path, tmp_path / "c", kernels, NATIVE, PRECISIONS[dtype], 8) == []


def test_copies_in_another_order_are_found(kernels, tmp_path):
    """The comparison above sees a state that is overwritten before it is copied."""
    path = stateful("int8", CASES["named the other way"], mask_first=True).write(tmp_path / "model.tflite")
    generate(path, tmp_path)
    source = tmp_path / "model.c"
    text = source.read_text()
    copies = re.findall(r"^    memcpy\(model_state\.\w+, .*\n", text, re.MULTILINE)
    assert [re.search(r"state\.(\w+)", copy)[1] for copy in copies] == ["c", "b", "a"]
    for copy in copies:
        text = text.replace(copy, "")
    source.write_text(text.rstrip().removesuffix("}") + "".join(reversed(copies)) + "}\n")
    program = kernels.program(tmp_path, NATIVE, element="int8_t")
    assert differences(path, program, NATIVE, 4, states=True)


def test_a_value_is_kept_until_it_is_copied(kernels, tmp_path):
    """What is copied after a step is not overwritten by that step, though no later step reads it."""
    b = Builder("int8", 9)
    frame = b.inputs["frame"] = b.activation([1, 6], scale=0.02, zero=3, name="frame")
    entry = b.inputs["state_s"] = b.like(frame, [1, 6])
    leaving = b.outputs["state_s"] = add(b, frame, frame)
    total = add(b, leaving, entry)
    b.outputs["mask"] = add(b, total, frame)
    path = b.write(tmp_path / "model.tflite")
    assert compare(path, tmp_path / "c", kernels, NATIVE, "int8", 8) == []


@pytest.mark.parametrize("case", ["exchanged", "in a circle", "two circles"])
def test_an_exchange_takes_one_copy_a_circle(case, tmp_path):
    """And without it a value is lost: with the copy made of the new value instead, the comparison above fails."""
    path = stateful("int8", CASES[case], mask_first=True).write(tmp_path / "model.tflite")
    generate(path, tmp_path / "c")
    assert (tmp_path / "c" / "model.c").read_text().count("_copy [") == (2 if case == "two circles" else 1)


def test_an_exchange_without_its_copy_is_found(kernels, tmp_path):
    path = stateful("int8", CASES["exchanged"], mask_first=True).write(tmp_path / "model.tflite")
    generate(path, tmp_path)
    source = tmp_path / "model.c"
    found = re.search(r"^    memcpy\((arena\.bytes \+ \d+), model_state\.\w+, 6\);\n", source.read_text(), re.MULTILINE)
    source.write_text(source.read_text().replace(found[0], ""))
    program = kernels.program(tmp_path, NATIVE, element="int8_t")
    assert differences(path, program, NATIVE, 4, states=True)


def test_constants_and_masks_that_nothing_computes_are_refused(tmp_path):
    b = stateful("int8", {"s": "frame"}, mask_first=True)
    frame = b.inputs["frame"]
    data = np.full([1, 6], 3, np.int8)
    b.outputs["state_s"] = b.tensor([1, 6], scale=b.scale(frame), zero=b.zero(frame), data=data)
    with pytest.raises(ModelError, match="state s becomes a constant"):
        generate(b.write(tmp_path / "model.tflite"), tmp_path / "c")
    b = stateful("int8", {"s": "frame"}, mask_first=True)
    b.outputs["mask"] = b.inputs["frame"]
    with pytest.raises(ModelError, match="no operator computes mask"):
        generate(b.write(tmp_path / "model.tflite"), tmp_path / "c")


@pytest.mark.parametrize(("dtype", "zero"), [("int8", -7), ("int16", 5), ("int16", -300), ("int16", 0)])
def test_a_stream_starts_at_the_zero_point(dtype, zero, kernels, tmp_path):
    """The mask is the state: what the first frame shows is what a stream starts from."""
    b = Builder(dtype, 9)
    frame = b.inputs["frame"] = b.activation([1, 6], scale=0.02, zero=zero, name="frame")
    entry = b.inputs["state_s"] = b.like(frame, [1, 6])
    b.outputs["state_s"] = frame
    b.outputs["mask"] = b.copy(entry, b.like(frame, [1, 1, 6]))
    path = b.write(tmp_path / "model.tflite")
    assert compare(path, tmp_path / "c", kernels, NATIVE, PRECISIONS[dtype], 5) == []
    program = kernels.program(tmp_path / "c", NATIVE, element=f"{dtype}_t")
    (first,) = run(program, NATIVE, np.zeros(6, dtype).tobytes())
    assert np.frombuffer(first.mask, dtype).tolist() == [zero] * 6
