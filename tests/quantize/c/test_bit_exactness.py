"""Generated C against LiteRT's reference kernels, every tensor, byte for byte."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from earshot.quantize.c import generate

from .builder import Builder
from .harness import MACHINES, NATIVE, differences, inputs, run
from .harness import Truth as LiteRt
from .operators import random_model

ELEMENTS = {"int8": "int8_t", "int16x8": "int16_t"}
NETWORKS = ("unet", "lookback", "leaky", "gated", "mobile")


def compare(path: Path, out: Path, kernels, machine, precision: str, frames: int) -> list[str]:
    generate(path, out)
    program = kernels.program(out, machine, element=ELEMENTS[precision])
    found = differences(path, program, machine, frames, states=True)
    return found + differences(path, program, machine, frames, states=False, seed=1)


@pytest.mark.parametrize("precision", ["int8", "int16x8"])
@pytest.mark.parametrize("network", NETWORKS)
def test_networks_match_from_random_states_and_in_a_stream(network, precision, integer_model, kernels, tmp_path):
    assert compare(integer_model(network, precision), tmp_path, kernels, NATIVE, precision, 30) == []


@pytest.mark.parametrize("precision", ["int8", "int16x8"])
def test_networks_match_on_aarch64(precision, integer_model, kernels, tmp_path):
    for network in NETWORKS:
        path = integer_model(network, precision)
        assert compare(path, tmp_path / network, kernels, MACHINES["aarch64"], precision, 10) == []


@pytest.mark.parametrize("dtype", ["int8", "int16"])
@pytest.mark.parametrize("seed", range(4))
def test_random_graphs_of_all_operators_match(dtype, seed, kernels, tmp_path):
    path = random_model(dtype, seed, tmp_path / "model.tflite")
    assert compare(path, tmp_path / "c", kernels, NATIVE, "int8" if dtype == "int8" else "int16x8", 10) == []


@pytest.mark.parametrize("dtype", ["int8", "int16"])
def test_a_random_graph_matches_on_aarch64(dtype, kernels, tmp_path):
    path = random_model(dtype, 11, tmp_path / "model.tflite")
    precision = "int8" if dtype == "int8" else "int16x8"
    assert compare(path, tmp_path / "c", kernels, MACHINES["aarch64"], precision, 10) == []


@pytest.mark.parametrize("precision", ["int8", "int16x8"])
def test_one_changed_weight_is_found(precision, integer_model, kernels, tmp_path):
    path = integer_model("unet", precision)
    generate(path, tmp_path)
    weights = tmp_path / "model_weights.c"
    text = weights.read_text()
    place = re.search(r"model_weights_5\[\d+\] = \{.*?\n +(-?\d+),", text, re.DOTALL)
    value = int(place[1])
    changed = value + 1 if value < 127 else value - 1
    weights.write_text(text[: place.start(1)] + str(changed) + text[place.end(1) :])
    program = kernels.program(tmp_path, NATIVE, element=ELEMENTS[precision])
    found = differences(path, program, NATIVE, 10, states=True)
    first = found[0].split(": ")[1]
    assert first.startswith("5 CONV_2D"), found[:3]


@pytest.mark.parametrize("precision", ["int8", "int16x8"])
def test_a_shifted_arena_is_found(precision, integer_model, kernels, tmp_path):
    """The comparison sees tensors that overwrite each other: two buffers moved onto one address."""
    path = integer_model("unet", precision)
    generate(path, tmp_path)
    source = tmp_path / "model.c"
    source.write_text(re.sub(r"arena\.bytes \+ \d+", "arena.bytes + 0", source.read_text()))
    program = kernels.program(tmp_path, NATIVE, element=ELEMENTS[precision])
    assert differences(path, program, NATIVE, 3, states=True)


@pytest.mark.parametrize("dtype", ["int8", "int16"])
def test_sums_match_exact_arithmetic(dtype, kernels, tmp_path):
    """SUM stands against integers of any size: LiteRT 2.3's own kernel reads signed numbers as unsigned ones."""
    b = Builder(dtype, 5)
    frame = b.inputs["frame"] = b.activation([1, 3, 7, 5], name="frame")
    sink = b.activation([1, 1, 7, 1], scale=b.scale(frame) * 4)
    b.add("SUM", [frame, b.indices([1, 3])], [sink], "ReducerOptions", keepDims=True)
    b.outputs["mask"] = sink
    path = b.write(tmp_path / "model.tflite")
    generate(path, tmp_path / "c")
    program = kernels.program(tmp_path / "c", NATIVE, element=f"{dtype}_t")
    sound = inputs(LiteRt(path), 10, 3)
    limits, saturated = np.iinfo(dtype), 0
    seen = run(program, NATIVE, b"".join(frame_.tobytes() for frame_ in sound))
    for value, one in zip(sound, seen, strict=True):
        sums = (value.astype(int) - b.zero(frame)).sum((1, 3)).reshape(-1)
        # A quarter is rounded twice: half a sum upwards at a tie, then half of that away from zero.
        halves = [(int(total) + 1) // 2 for total in sums]
        quarters = [(abs(half) + 1) // 2 * (1 if half >= 0 else -1) for half in halves]
        wanted = np.clip(np.asarray(quarters) + b.zero(sink), limits.min, limits.max)
        assert np.array_equal(np.frombuffer(one.mask, dtype), wanted)
        saturated += int(np.isin(wanted, [limits.min, limits.max]).sum())
    assert saturated, "no sum reached the end of the range"


@pytest.mark.parametrize("dtype", ["int8", "int16"])
def test_long_sums_match(dtype, kernels, tmp_path):
    """A layer over 3000 inputs at the rails: int16 sums leave 32 bits."""
    b = Builder(dtype, 6)
    frame = b.inputs["frame"] = b.activation([1, 3000], name="frame")
    weight = b.tensor(
        [6, 3000], "int8", scale=np.full(6, 1e-4), data=b.draw.integers(90, 128, (6, 3000)).astype(np.int8)
    )
    b.outputs["mask"] = b.add(
        "FULLY_CONNECTED", [frame, weight, -1], [b.activation([1, 6])], "FullyConnectedOptions", keepNumDims=True
    )
    path = b.write(tmp_path / "model.tflite")
    assert compare(path, tmp_path / "c", kernels, NATIVE, "int8" if dtype == "int8" else "int16x8", 10) == []
    sums = [weight_sum(LiteRt(path), sound) for sound in inputs(LiteRt(path), 10, 0)]
    assert max(sums) > (1 << 32 if dtype == "int16" else 1 << 20)


def weight_sum(truth: LiteRt, sound: np.ndarray) -> int:
    """The largest sum of a frame over the first layer's weights."""
    operator = truth.graph.operators[0]
    source, weight = (truth.graph.tensors[index] for index in operator.inputs[:2])
    return int(
        np.abs(weight.data.astype(np.int64) @ (sound[0].astype(np.int64) - source.quantization.zero_point)).max()
    )


@pytest.mark.parametrize("dtype", ["int8", "int16"])
def test_frames_and_masks_may_be_float(dtype, kernels, tmp_path):
    b = Builder(dtype, 7)
    frame = b.inputs["frame"] = b.tensor([1, 1, 33, 1], "float32", name="frame")
    value = b.add("QUANTIZE", [frame], [b.activation([1, 1, 33, 1])], "QuantizeOptions")
    scale, zero = (2.0**-8, -128) if dtype == "int8" else (2.0**-15, 0)
    mask = b.add("LOGISTIC", [value], [b.activation([1, 1, 33, 1], scale=scale, zero=zero)])
    b.outputs["mask"] = b.add("DEQUANTIZE", [mask], [b.tensor([1, 1, 33, 1], "float32")], "DequantizeOptions")
    path = b.write(tmp_path / "model.tflite")
    generate(path, tmp_path / "c")
    program = kernels.program(tmp_path / "c", NATIVE, element="float")
    assert differences(path, program, NATIVE, 10, states=False) == []


def test_names_from_the_model_cannot_break_the_code(kernels, tmp_path):
    b = Builder("int8", 8)
    frame = b.inputs["frame"] = b.activation([1, 4], name="frame")
    sink = b.activation([1, 4], name="ends */ here\\")
    b.outputs["mask"] = b.add("RELU", [frame], [sink])
    for name in ("state_double", "state_2nd", "state_a.b"):
        entry = b.inputs[name] = b.activation([1, 4], name=name)
        leaving = b.like(entry, [1, 4])
        b.outputs[name] = b.add("ADD", [entry, sink], [leaving], "AddOptions", fusedActivationFunction=0)
    path = b.write(tmp_path / "model.tflite")
    generate(path, tmp_path / "c")
    program = kernels.program(tmp_path / "c", NATIVE, element="int8_t")
    assert differences(path, program, NATIVE, 5, states=True) == []


def test_a_reset_starts_the_stream_again(integer_model, kernels, tmp_path):
    path = integer_model("unet", "int8")
    generate(path, tmp_path)
    program = kernels.program(tmp_path, NATIVE, element="int8_t")
    sound = inputs(LiteRt(path), 1, 2)[0].tobytes() * 3
    streamed, restarted = (
        [one.mask for one in run(program, NATIVE, sound, *arguments)] for arguments in ([], ["reset"])
    )
    assert streamed[0] == restarted[0] == restarted[1] == restarted[2]
    assert streamed[1] != streamed[0], "a stream that remembers nothing shows no reset"


def test_two_models_live_in_one_program(integer_model, kernels, tmp_path):
    """Names keep models apart: the other one's symbols do not meet these."""
    path = integer_model("lookback", "int8")
    generate(path, tmp_path)
    generate(integer_model("gated", "int8"), tmp_path, name="other")
    program = kernels.program(tmp_path, NATIVE, element="int8_t")
    assert differences(path, program, NATIVE, 5, states=True) == []


@pytest.mark.parametrize("machine", MACHINES)
def test_inverse_roots_are_rounded_as_ieee_arithmetic_rounds_them(machine, kernels, tmp_path):
    """Positive floats of every exponent, denormal ones among them, against numpy's root and division."""
    b = Builder("int16", 9)
    frame = b.inputs["frame"] = b.tensor([1, 4096], "float32", name="frame")
    b.outputs["mask"] = b.add("RSQRT", [frame], [b.tensor([1, 4096], "float32")])
    generate(b.write(tmp_path / "model.tflite"), tmp_path / "c")
    program = kernels.program(tmp_path / "c", MACHINES[machine], element="float")
    bits = np.random.default_rng(3).integers(1, 0x7F800000, (8, 4096)).astype(np.uint32)
    bits[0, :6] = 1, 0x7FFFFF, 0x800000, 0x7F7FFFFF, 0x3F7FFFFF, 0x3F800001
    sound = bits.view(np.float32)
    found = [np.frombuffer(one.mask, np.float32) for one in run(program, MACHINES[machine], sound.tobytes())]
    wanted = np.float32(1) / np.sqrt(sound)
    assert np.concatenate(found).tobytes() == wanted.tobytes()
    assert np.isfinite(wanted).all() and np.unique(wanted).size > 30000
