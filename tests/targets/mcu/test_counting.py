"""Instruction counts against programs whose instructions are counted by hand."""

import numpy as np
import pytest

from earshot.core.errors import DeviceError
from earshot.targets.mcu.emulator import Passings, emulate, plugin_interface
from earshot.targets.mcu.report import count_frames, marks
from earshot.targets.mcu.stack import LIBRARY, deepest_call, read_call_graph

from .conftest import CORES, PLAIN_FRAME, needs_emulator

SOUND = np.arange(3 * 8, dtype="<f4").tobytes()


def naked(body):
    return f'__attribute__((naked)) void model_step(void) {{ __asm__ volatile("{body}"); }}'


def counted(program, board):
    names = marks(program.symbols)
    outcome = emulate(program, board, {"sound.f32": SOUND}, names, 30, "test")
    return count_frames(outcome.passings, names), outcome


@needs_emulator
@pytest.mark.parametrize("core", CORES)
def test_a_loop_counts_what_it_executes(made, core):
    # movs, 1000 times two, bx; and the call of model_synthesise that follows.
    counts, outcome = counted(*made(naked(r"mov r2, #1000\n1: subs r2, #1\n bne 1b\n bx lr"), core))
    assert counts.graph.tolist() == [1 + 2 * 1000 + 1 + 1] * 3
    # Around it: analysis (bx) and the network's call; synthesis (bx), the return, and main's call of hop_done.
    around = counts.frames - counts.graph
    assert around.tolist() == [around[0]] * 3
    assert 5 <= around[0] <= 8
    assert np.array_equal(np.frombuffer(outcome.files["enhanced.f32"], "<f4"), np.frombuffer(SOUND, "<f4"))


@needs_emulator
def test_a_hardware_loop_counts_its_ends(made):
    """push, mov, dls, a hundred times nop and le, pop; and the call that follows."""
    loop = r"push {r3, lr}\n mov r2, #100\n dls lr, r2\n1: nop\n le lr, 1b\n pop {r3, pc}"
    counts, _ = counted(*made(naked(loop), "cortex-m55"))
    assert counts.graph.tolist() == [3 + 2 * 100 + 1 + 1] * 3


@needs_emulator
def test_a_longer_loop_counts_more(made):
    """The count above can differ."""
    counts, _ = counted(*made(naked(r"mov r2, #1001\n1: subs r2, #1\n bne 1b\n bx lr")))
    assert counts.graph.tolist() == [2005] * 3


@needs_emulator
def test_instructions_that_a_condition_skips_count(made):
    """They take a cycle all the same."""
    skipped = r"cmp r0, r0\n itt ne\n addne r1, #1\n addne r1, #1\n bx lr"
    taken = skipped.replace("ne", "eq")
    assert counted(*made(naked(skipped)))[0].graph[0] == counted(*made(naked(taken)))[0].graph[0] == 6


@needs_emulator
def test_operators_are_told_apart_by_marks_that_cost_nothing(made):
    body = r"nop\n nop\n earshot_mark_0_7: nop\n earshot_mark_3_9: nop\n nop\n nop\n earshot_mark_4_1: bx lr"
    counts, _ = counted(*made(naked(body)))
    assert {index: spent.tolist() for index, spent in counts.operators.items()} == {
        0: [2] * 3,
        3: [1] * 3,
        4: [3 + 1 + 1] * 3,  # what follows the last mark is its own: the return, and the call of what comes next
    }
    assert sum(counts.operators.values()).tolist() == counts.graph.tolist()


@needs_emulator
def test_an_operator_that_moves_nothing_takes_nothing_from_the_one_before(made):
    body = r"nop\n nop\n earshot_mark_3_3: earshot_mark_4_4: earshot_mark_4_5: nop\n earshot_mark_5_6: bx lr"
    counts, _ = counted(*made(naked(body)))
    assert {index: spent.tolist() for index, spent in counts.operators.items()} == {3: [2] * 3, 5: [1 + 1 + 1] * 3}


def test_of_two_marks_at_one_address_the_first_operator_s_counts():
    """Whatever order the symbols are listed in; 9 is before 10, and a frame's own marks before all."""
    frame = {"model_analyse": 2, "model_step": 4, "model_synthesise": 20, "hop_done": 30}
    ends = {"earshot_mark_0_1": 4, "earshot_mark_9_8": 16, "earshot_mark_10_7": 16, "earshot_mark_100_2": 16}
    wanted = {2: "model_analyse", 4: "model_step", 16: "earshot_mark_9_8", 20: "model_synthesise", 30: "hop_done"}
    for symbols in (frame | ends, dict(reversed((frame | ends).items()))):
        assert marks(symbols) == wanted


DEEP = """
__attribute__((noipa)) static void leaf(volatile uint8_t *room) { for (int i = 0; i < 400; i++) room[i] = 1; }
__attribute__((noipa)) void model_step(void) { volatile uint8_t room[400]; leaf(room); }
"""


@needs_emulator
@pytest.mark.parametrize("core", CORES)
def test_the_stack_is_what_the_call_graph_says(made, core):
    program, board = made(DEEP, core, PLAIN_FRAME)
    used = int(np.frombuffer(counted(program, board)[1].files["stack"], "<u4")[0])
    # 400 bytes and a few saved registers; registers may be saved that are not needed, so the bound may be higher.
    assert 400 < used <= program.stack_bound <= used + 8
    assert program.stack_bound <= 400 + 5 * 8


@needs_emulator
def test_a_call_through_a_pointer_has_no_bound(made):
    indirect = "void (*volatile later)(void); void model_step(void) { if (later) later(); }"
    assert made(indirect, frame=PLAIN_FRAME)[0].stack_bound is None


GRAPH = """graph: {{ title: "model.c"
node: {{ title: "model_enhance" label: "model_enhance\nmodel.c:5:6\n24 bytes (static)\n0 dynamic objects" }}
node: {{ title: "model.c:inner" label: "inner\nmodel.c:1:6\n100 bytes (static)\n0 dynamic objects" }}
node: {{ title: "shallow" label: "shallow\nmodel.c:2:6\n8 bytes (static)\n0 dynamic objects" }}
node: {{ title: "memcpy" label: "memcpy\n<built-in>" shape : ellipse }}
edge: {{ sourcename: "model_enhance" targetname: "model.c:inner" label: "model.c:6:2" }}
edge: {{ sourcename: "model_enhance" targetname: "shallow" label: "model.c:7:2" }}
edge: {{ sourcename: "model.c:inner" targetname: "{called}" label: "model.c:1:9" }}
}}
"""


@pytest.mark.parametrize(
    ("called", "depth"),
    [("memcpy", 24 + 100 + LIBRARY["memcpy"]), ("shallow", 24 + 100 + 8), ("model_enhance", None), ("unknown", None)],
)
def test_the_deepest_call_is_summed(tmp_path, called, depth):
    (tmp_path / "model.ci").write_text(GRAPH.format(called=called))
    assert deepest_call(read_call_graph(tmp_path.glob("*.ci")), "model_enhance") == depth


def passings(names, order, counts):
    address = {name: place for place, name in names.items()}
    return Passings(np.array([address[name] for name in order]), np.array(counts))


def test_passings_are_sorted_into_frames():
    names = marks({"model_analyse": 1, "model_step": 2, "model_synthesise": 3, "hop_done": 4, "earshot_mark_5_0": 5})
    frame = ["model_analyse", "model_step", "earshot_mark_5_0", "model_synthesise", "hop_done"]
    counts = count_frames(passings(names, frame * 2, [10, 15, 35, 40, 47, 60, 65, 95, 100, 107]), names)
    assert counts.frames.tolist() == [37, 47]
    assert counts.graph.tolist() == [25, 35]
    assert counts.operators[5].tolist() == [25, 35]
    assert counts.worst == 1


@pytest.mark.parametrize(
    "order",
    [
        [],
        ["model_analyse", "hop_done"],
        ["model_step", "model_analyse", "model_synthesise", "hop_done"],
        ["model_analyse", "model_step", "model_synthesise", "hop_done", "model_analyse"],
    ],
)
def test_passings_out_of_order_are_refused(order):
    names = marks({"model_analyse": 1, "model_step": 2, "model_synthesise": 3, "hop_done": 4})
    with pytest.raises(DeviceError, match="marks"):
        count_frames(passings(names, order, range(len(order))), names)


@pytest.mark.parametrize(
    ("said", "interface"),
    [
        ("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)", 1),
        ("QEMU emulator version 8.2.2", 1),
        ("QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)", 2),
    ],
)
def test_the_counter_states_the_interface_its_emulator_wants(said, interface):
    assert plugin_interface(said) == interface
