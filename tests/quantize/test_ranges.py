"""Range tying on graphs small enough to group by hand."""

import math

import numpy as np
import pytest

from earshot.quantize.calibration import Range
from earshot.quantize.graph import Graph, Operator, TensorInfo
from earshot.quantize.ranges import LARGEST_BIAS, LARGEST_FACTOR, tie, widened


def graph_of(*operators: tuple[str, tuple[int, ...], int], inputs: dict[str, int], outputs: dict[str, int]) -> Graph:
    count = 1 + max(index for _, ins, out in operators for index in (*ins, out))
    tensors = tuple(TensorInfo(index, f"t{index}", (1, 4), "float32") for index in range(count))
    nodes = tuple(Operator(place, name, ins, (out,)) for place, (name, ins, out) in enumerate(operators))
    return Graph("by hand", tensors, nodes, inputs, outputs, {})


# frame 0, state 1 -> concat 2 -> slice 3 (next state);  2 -> conv 4 -> sigmoid 5 (mask)
BUFFER = graph_of(
    ("CONCATENATION", (1, 0), 2),
    ("SLICE", (2,), 3),
    ("CONV_2D", (2,), 4),
    ("LOGISTIC", (4,), 5),
    inputs={"frame": 0, "state_a": 1},
    outputs={"mask": 5, "state_a": 3},
)
MEASURED = {0: Range(0, 3), 1: Range(0, 2), 2: Range(0, 3), 3: Range(-1, 2), 4: Range(-9, 8), 5: Range(0.1, 0.9)}


def test_states_and_moves_share_the_widest_range():
    plan = tie(BUFFER, MEASURED)
    assert plan.groups == ((0, 1, 2, 3),)
    assert all(plan.ranges[index] == Range(-1, 3) for index in (0, 1, 2, 3))
    assert plan.ranges[4] == Range(-9, 8)


def test_a_computing_operator_ties_nothing():
    graph = graph_of(("ADD", (0, 1), 2), inputs={"frame": 0, "state_a": 1}, outputs={"mask": 2, "state_a": 2})
    plan = tie(graph, {0: Range(0, 9), 1: Range(0, 1), 2: Range(0, 2)})
    assert plan.groups == ((1, 2),)
    assert plan.ranges[0] == Range(0, 9)


def test_chains_of_states_are_one_group():
    graph = graph_of(
        ("RESHAPE", (0,), 3),
        ("RESHAPE", (1,), 4),
        ("ADD", (0, 2), 5),
        inputs={"frame": 0, "state_a": 1, "state_b": 2},
        outputs={"mask": 5, "state_a": 3, "state_b": 4},
    )
    assert tie(graph, dict.fromkeys(range(6), Range(0, 1))).groups == ((0, 1, 2, 3, 4),)


def test_a_tanh_state_takes_the_scale_the_kernel_prescribes():
    graph = graph_of(
        ("ADD", (0, 1), 2), ("TANH", (2,), 3), inputs={"frame": 0, "state_a": 1}, outputs={"mask": 2, "state_a": 3}
    )
    plan = tie(graph, {0: Range(0, 1), 1: Range(-0.3, 0.4), 2: Range(-3, 3), 3: Range(-0.3, 0.4)})
    assert plan.groups == ((1, 3),)
    low_8, high_8 = plan.at("int8")[1].low, plan.at("int8")[1].high
    assert (high_8 - low_8) / 255 == 1 / 128 and plan.at("int8")[3] == plan.at("int8")[1]
    assert plan.at("int16x8")[1].high / 32767 == 1 / 32768
    assert plan.at("int16x8")[2] == Range(-3, 3)


def test_a_prescribed_output_that_its_group_outgrows_stays_apart():
    graph = graph_of(
        ("LOGISTIC", (0,), 2),
        ("CONCATENATION", (1, 2), 3),
        ("SLICE", (3,), 4),
        inputs={"frame": 0, "state_a": 1},
        outputs={"mask": 3, "state_a": 4},
    )
    plan = tie(graph, {0: Range(0, 1), 1: Range(-5, 5), 2: Range(0, 1), 3: Range(-5, 5), 4: Range(-5, 5)})
    assert plan.groups == ((1, 3, 4),)
    assert plan.at("int8")[3] == Range(-5, 5)
    assert plan.at("int8")[2].high == 255 / 256


@pytest.mark.parametrize("seed", range(20))
def test_groups_partition_and_hold_every_member(seed):
    """On random graphs: no tensor in two groups, every moving operator inside one, ranges hold all members."""
    import random

    pick = random.Random(seed)
    operators = [
        (pick.choice(("CONV_2D", "ADD", "SLICE", "RESHAPE", "PAD")), (pick.randrange(index),), index)
        for index in range(3, 25)
    ]
    graph = graph_of(
        *operators, inputs={"frame": 0, "state_a": 1, "state_b": 2}, outputs={"mask": 24, "state_a": 20, "state_b": 22}
    )
    measured = {index: Range(-pick.random(), pick.random()) for index in range(25)}
    plan = tie(graph, measured)
    members = [index for group in plan.groups for index in group]
    assert len(members) == len(set(members))
    for name, (source,), sink in operators:
        alike = plan.ranges[source] == plan.ranges[sink]
        assert alike if name in ("SLICE", "RESHAPE", "PAD") else True
    assert plan.ranges[1] == plan.ranges[20] and plan.ranges[2] == plan.ranges[22]
    for group in plan.groups:
        assert math.isclose(plan.ranges[group[0]].low, min(measured[index].low for index in group))
        assert math.isclose(plan.ranges[group[0]].high, max(measured[index].high for index in group))
    for index in set(range(25)) - set(members):
        assert plan.ranges[index] == measured[index]


def test_an_output_that_stayed_at_zero_gets_a_range_that_kernels_can_compute():
    """In by 1, out by 1e-9: the factor between both scales would be a thousand million; kernels take 256."""
    graph = graph_of(
        ("RELU", (0,), 1), ("MUL", (0, 1), 2), ("ADD", (0, 2), 3), inputs={"frame": 0}, outputs={"mask": 3}
    )
    dead = Range(0, 1e-9)
    measured = {0: Range(-0.5, 0.5), 1: dead, 2: dead, 3: Range(-0.5, 0.5)}
    ranges = tie(graph, measured).ranges
    assert ranges[1].high == pytest.approx(1 / LARGEST_FACTOR)
    assert ranges[2].high == pytest.approx(ranges[1].high / 255 / LARGEST_FACTOR)
    assert ranges[3] == measured[3] and ranges[0] == measured[0]
    usual = {**measured, 1: Range(0, 0.5), 2: Range(0, 0.2)}
    assert widened(graph, usual) == usual


@pytest.mark.parametrize("layer", ["CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV"])
def test_an_input_that_stayed_at_zero_gets_a_range_in_which_biases_are_32_bits(layer):
    """A bias of 0.25 in steps of 1e-9 / 32767 times 0.02 / 127 would be 5e16; beside it a channel without weights."""
    shapes = {"CONV_2D": (3, 1, 2, 4), "DEPTHWISE_CONV_2D": (1, 2, 4, 3), "FULLY_CONNECTED": (3, 8)}
    weight = np.full(shapes.get(layer, (3, 1, 2, 4)), 0.01, np.float32)
    rows = np.moveaxis(weight, -1 if layer == "DEPTHWISE_CONV_2D" else 0, 0)
    rows[1], rows[2] = 0.02, 0
    bias = np.array([0.01, 0.25, 9.0], np.float32)
    shape = TensorInfo(4, "shape", (4,), "int32", data=np.array([1, 1, 8, 3], np.int32))
    tensors = (
        TensorInfo(0, "frame", (1, 1, 8, 4), "float32"),
        TensorInfo(1, "weight", weight.shape, "float32", data=weight),
        TensorInfo(2, "bias", (3,), "float32", data=bias),
        TensorInfo(3, "mask", (1, 1, 8, 3), "float32"),
        shape,
    )
    inputs = (4, 1, 0, 2) if layer == "TRANSPOSE_CONV" else (0, 1, 2)
    graph = Graph("by hand", tensors, (Operator(0, layer, inputs, (3,)),), {"frame": 0}, {"mask": 3}, {})
    ranges = tie(graph, {0: Range(0, 1e-9), 3: Range(0, 1)}).ranges
    steps = 0.25 / (ranges[0].high / 32767 * 0.02 / 127)
    assert steps == pytest.approx(LARGEST_BIAS)
    usual = {0: Range(0, 1), 3: Range(0, 1)}
    assert widened(graph, usual) == usual
