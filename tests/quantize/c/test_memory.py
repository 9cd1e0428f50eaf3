"""The arena: buffers that are live at once never overlap, and no memory is wasted."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from earshot.quantize.c import generate
from earshot.quantize.c.lowering import lower
from earshot.quantize.c.memory import Buffer, _Planner, arrange, lay_out, lower_bound
from earshot.quantize.graph import read_graph

from .liveness import largest_live_set
from .operators import random_model

spans = st.tuples(st.integers(1, 500), st.integers(0, 20), st.integers(0, 6))


def buffers_of(values) -> list[Buffer]:
    return [Buffer(name, size, first, first + length) for name, (size, first, length) in enumerate(values)]


def overlaps(buffers, offsets) -> list[tuple[int, int]]:
    return [
        (a.name, b.name)
        for k, a in enumerate(buffers)
        for b in buffers[:k]
        if a.meets(b) and offsets[a.name] < offsets[b.name] + b.size and offsets[b.name] < offsets[a.name] + a.size
    ]


@given(st.lists(spans, max_size=25))
def test_no_two_live_buffers_overlap_and_the_size_is_that_of_the_highest(values):
    buffers = buffers_of(values)
    offsets, size = arrange(buffers)
    assert overlaps(buffers, offsets) == []
    assert size == max((offsets[buffer.name] + buffer.size for buffer in buffers), default=0)
    assert size >= lower_bound(buffers)


def test_the_check_for_overlaps_finds_one():
    buffers = buffers_of([(10, 0, 3), (10, 2, 3)])
    assert overlaps(buffers, {0: 0, 1: 9}) == [(1, 0)]
    assert overlaps(buffers, {0: 0, 1: 10}) == []


def test_lower_bound_by_hand():
    #  step    0   1   2   3
    #  A=100   x   x
    #  B=30        x   x
    #  C=80            x   x
    assert lower_bound(buffers_of([(100, 0, 1), (30, 1, 1), (80, 2, 1)])) == 130
    assert lower_bound([]) == 0


def test_the_search_beats_a_greedy_that_wastes():
    """By size alone C, A, B take 100 bytes; 80 are enough."""
    values = [(30, 0, 1), (20, 1, 1), (50, 2, 1), (30, 3, 1), (40, 0, 0), (30, 1, 2), (50, 4, 0)]
    buffers = buffers_of(values)
    assert arrange(buffers)[1] == lower_bound(buffers)


def test_buffers_are_arranged_alike_whatever_the_order_they_come_in():
    buffers = buffers_of([(random.Random(3).randrange(1, 300), k % 7, k % 4) for k in range(20)])
    shuffled = list(buffers)
    random.Random(1).shuffle(shuffled)
    assert arrange(shuffled) == arrange(buffers)


PRECISIONS, NETWORKS = ("int8", "int16x8"), ("unet", "lookback", "leaky", "gated")


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("network", NETWORKS)
def test_networks_need_what_is_live_at_once_to_a_tenth(network, precision, integer_model, tmp_path):
    path = integer_model(network, precision)
    live = largest_live_set(read_graph(path))
    assert 0.95 * live <= generate(path, tmp_path).arena_bytes <= 1.1 * live


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("network", NETWORKS)
def test_one_buffer_that_lives_too_long_is_found(network, precision, integer_model, tmp_path, monkeypatch):
    """The largest buffer of the first half is held to the end, so that nothing is laid over it."""
    buffers_found = _Planner._buffers

    def held(planner):
        found = buffers_found(planner)
        early = (buffer for buffer in found if buffer.last < len(planner.steps) / 2)
        largest = max(early, key=lambda buffer: buffer.size)
        return [replace(buffer, last=len(planner.steps)) if buffer is largest else buffer for buffer in found]

    monkeypatch.setattr(_Planner, "_buffers", held)
    path = integer_model(network, precision)
    assert generate(path, tmp_path).arena_bytes > 1.1 * largest_live_set(read_graph(path))


@pytest.mark.parametrize("seed", range(6))
def test_every_read_finds_what_was_written_last(seed, tmp_path):
    """An account of its own, byte by byte: nothing is overwritten while it is still read."""
    path = random_model("int8", seed + 20, tmp_path / "model.tflite")
    assert stale_reads(path, shift=0) == []


def test_an_arena_of_one_address_is_found_stale(tmp_path):
    path = random_model("int8", 20, tmp_path / "model.tflite")
    assert stale_reads(path, shift=1)


def stale_reads(path, shift: int) -> list[str]:
    """Reads that find bytes of an unrelated tensor; with `shift` all of the arena is one address."""
    graph = read_graph(path)
    steps = lower(graph)
    states = {name: (graph.inputs[name], graph.outputs[name]) for name in graph.state_pairs}
    layout = lay_out(graph, steps, graph.inputs["frame"], graph.outputs["mask"], states)
    related: dict[int, int] = {}

    def family(tensor: int) -> int:
        """Tensors that are parts of one another hold the same bytes where they meet."""
        while tensor in related:
            tensor = related[tensor]
        return tensor

    for step in steps:
        for part in step.parts:
            if family(part.tensor) != family(part.whole):
                related[family(part.tensor)] = family(part.whole)

    def cells(tensor: int) -> list[tuple[str, int]]:
        place = layout.places[tensor]
        start = 0 if shift and place.storage == "arena" else place.offset
        return [(place.storage, start + byte) for byte in range(math.prod(graph.tensors[tensor].shape))]

    memory: dict[tuple[str, int], int] = {}
    for tensor in (graph.inputs["frame"], *(entry for entry, _ in states.values())):
        memory |= dict.fromkeys(cells(tensor), family(tensor))
    found = []
    for number, step in enumerate(steps):
        for tensor in step.reads:
            if any(memory[cell] != family(tensor) for cell in cells(tensor)):
                found.append(f"step {number} reads {tensor}")
        for tensor in step.writes:
            memory |= dict.fromkeys(cells(tensor), family(tensor))
        for commit in layout.commits:
            if commit.step == number:
                if any(memory[cell] != family(commit.tensor) for cell in cells(commit.tensor)):
                    found.append(f"commit of {commit.state}")
                memory |= dict.fromkeys(cells(states[commit.state][0]), family(commit.tensor))
    return found
