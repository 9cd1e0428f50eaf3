"""Stream models on emulated Cortex-M cores: outputs against the reference kernels, figures against the program."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from earshot.core.errors import DeviceError
from earshot.core.measurement import Provenance
from earshot.pipeline.progress import Silent
from earshot.quantize.graph import load_flatbuffer, pack_flatbuffer, read_graph
from earshot.quantize.metadata import read_description
from earshot.targets.agent import swinging_noise
from earshot.targets.base import ProfileConfig, load_profile
from earshot.targets.mcu import target as target_module
from earshot.targets.mcu.dump import dump, first_difference
from earshot.targets.mcu.emulator import emulate
from earshot.targets.mcu.reference import Comparison, compare, enhance_on_host
from earshot.targets.mcu.report import count_frames, marks
from earshot.targets.mcu.target import OPERATOR_MARKS, CortexMTarget, linked
from earshot.targets.registry import device_budgets

from .conftest import CORES, needs_emulator

pytestmark = needs_emulator
FRAMES = ProfileConfig(frames=12)


def open_core(core, **options):
    profile = load_profile(core)
    return CortexMTarget.open(core, profile.model_copy(update={"options": {**profile.options, **options}}))


def values(result):
    return {item.metric: item.value for item in result.measurements}


@pytest.fixture(scope="module", params=list(CORES))
def profiled(request, students):
    """The quickstart's student, profiled on each core with the profile as it ships."""
    target = open_core(request.param)
    (result,) = target.profile({"int8": students["int8"]}, FRAMES, Silent())
    return target, result


def test_the_quickstart_student_fits_a_hearing_aid(profiled, students):
    target, result = profiled
    found = values(result)
    profile = load_profile(target.name)
    assert found["ram_bytes"] <= profile.ram_bytes == 320_000
    assert found["flash_bytes"] <= profile.flash_bytes == 512_000
    # More than what must be there: constants in flash; arena, states, frontend and stack in RAM.
    constants = sum(t.data.nbytes for t in read_graph(students["int8"]).tensors if t.data is not None)
    assert found["flash_bytes"] > constants * 0.9
    frontend = 4 * (257 * 2 + 256 * 2 + 256 * 2)
    assert found["ram_bytes"] > found["arena_bytes"] + found["state_bytes"] + found["stack_bytes"] + frontend
    assert 200 < found["stack_bytes"] < 8000


def test_figures_follow_from_instructions_cpi_and_clock(profiled):
    target, result = profiled
    found, hop = values(result), 256 / 16000
    assert found["cycles_per_frame"] == pytest.approx(found["instructions_per_frame"] * target.config.cpi)
    assert found["realtime_clock_mhz"] == pytest.approx(found["cycles_per_frame"] / hop / 1e6)
    assert found["rtf"] == pytest.approx(found["realtime_clock_mhz"] / target.clock_mhz)
    assert found["instructions_per_mac"] == pytest.approx(found["graph_instructions_per_frame"] / result.raw["macs"])
    assert found["graph_instructions_per_frame"] < found["instructions_per_frame"]
    # Operators are the graph, to the instruction.
    assert sum(operator.value for operator in result.operators) == found["graph_instructions_per_frame"]
    assert {operator.unit for operator in result.operators} == {"instructions"}
    assert len(result.operators) > 20


def test_every_number_says_how_it_came_to_be(profiled):
    target, result = profiled
    kinds = {item.metric: item.provenance for item in result.measurements}
    assert {metric for metric, kind in kinds.items() if kind is Provenance.ESTIMATED} == {
        "cycles_per_frame", "rtf", "graph_rtf", "realtime_clock_mhz",
    }  # fmt: skip
    assert kinds["instructions_per_frame"] is kinds["stack_bytes"] is kinds["ram_bytes"] is Provenance.EMULATED
    assert kinds["flash_bytes"] is kinds["arena_bytes"] is Provenance.MEASURED
    assert {item.target for item in result.measurements} == {target.name}
    assert set(load_profile(target.name).metrics) <= set(kinds)
    for key in ("emulator", "compiler", "flags", "cpi", "cpi_source", "not_modelled"):
        assert result.environment[key]


def test_the_network_is_the_reference_kernels_to_the_bit(profiled, students, speech):
    target, _ = profiled
    frames = dump(target, students["int8"], speech[: 6 * 256])
    assert len(frames) == 6 and all(len(frame.tensors) > 30 for frame in frames)
    assert first_difference(students["int8"], frames) is None


@pytest.mark.parametrize("core", CORES)
def test_plain_c_and_16_bit_activations_are_exact_too(core, students, speech):
    for precision, fast in (("int8", False), ("int16x8", True)):
        frames = dump(open_core(core, fast=fast), students[precision], speech[: 3 * 256])
        assert first_difference(students[precision], frames) is None, (precision, fast)


def test_one_changed_weight_is_found(students, speech, tmp_path):
    model = load_flatbuffer(students["int8"])
    graph = read_graph(students["int8"])
    convolution = next(operator for operator in graph.operators if operator.name == "CONV_2D")
    buffer = model.buffers[model.subgraphs[0].tensors[convolution.inputs[1]].buffer]
    changed = np.array(buffer.data, np.uint8)
    changed[-1] ^= 0x40
    buffer.data = changed
    other = tmp_path / "other.tflite"
    other.write_bytes(pack_flatbuffer(model))
    frames = dump(open_core("cortex-m4"), other, speech[: 8 * 256])
    assert first_difference(other, frames) is None
    found = first_difference(students["int8"], frames)
    assert found is not None and found.elements > 0
    assert graph.tensors[found.tensor].name == found.name


@pytest.mark.parametrize("core", CORES)
def test_speech_comes_out_as_on_the_host(core, students, speech):
    target = open_core(core)
    _, program = linked(students["int8"], target.board, (*target.kernel_flags, *OPERATOR_MARKS))
    outcome = emulate(program, target.board, {"sound.f32": speech.tobytes()}, (), 120, core)
    enhanced = np.frombuffer(outcome.files["enhanced.f32"], "<f4")
    expected = enhance_on_host(students["int8"], speech)
    assert np.abs(enhanced - expected).max() < 1e-3
    # Neither silence nor the input.
    assert np.abs(expected).max() > 0.01
    assert np.abs(enhanced[256:] - speech[:-256]).max() > 0.01


def test_counts_are_the_same_in_two_runs(students):
    target = open_core("cortex-m4")
    first, second = (target.profile({"m": students["int8"]}, FRAMES, Silent())[0] for _ in range(2))
    assert first == second
    assert first.raw["frames"][0] > 0


def test_identity_follows_tools_and_sources(monkeypatch, tmp_path):
    target = open_core("cortex-m4")
    before = target.identity()
    assert {"c", "arm-none-eabi-gcc", "qemu-system-arm"} == set(before) and all(before.values())
    copies = []
    for root in target_module.SOURCES:
        copies.append(tmp_path / root.relative_to(root.parents[1]))
        shutil.copytree(root, copies[-1], ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(target_module, "SOURCES", tuple(copies))
    assert target.identity() == before
    generator, here = copies
    for changed in (
        generator / "kernels" / "plain.c", generator / "stft" / "frontend.c", generator / "memory.py",
        here / "bare" / "main.c", here / "bare" / "board.ld", here / "plugin" / "count.c", here / "report.py",
    ):  # fmt: skip
        content = changed.read_text()
        changed.write_text(content + "\n")
        assert target.identity()["c"] != before["c"], changed
        changed.write_text(content)
        assert target.identity() == before
    (here / "notes.txt").write_text("nothing that is counted")
    assert target.identity() == before


def test_marks_of_operators_cost_nothing(students):
    """They are symbols, but code does not move across them: a handful of instructions a frame more or less."""
    target, counts = open_core("cortex-m4"), []
    sound = swinging_noise(3 * 256, 16000).tobytes()
    for flags in ((), OPERATOR_MARKS):
        _, program = linked(students["int8"], target.board, (*target.kernel_flags, *flags))
        frame = marks({name: place for name, place in program.symbols.items() if not name.startswith("earshot_mark")})
        outcome = emulate(program, target.board, {"sound.f32": sound}, frame, 60, "test")
        counts.append(count_frames(outcome.passings, frame).frames)
    assert np.abs(counts[0] - counts[1]).max() <= 20
    assert counts[0].min() > 100_000


def test_a_run_that_is_not_the_host_s_is_refused(students, speech):
    """Frontend, network and sound each have a control: what is changed is what is complained of."""
    target = open_core("cortex-m4")
    _, program = linked(students["int8"], target.board, (*target.kernel_flags, *OPERATOR_MARKS))
    sound = speech[: 20 * 256]
    files = emulate(program, target.board, {"sound.f32": sound.tobytes()}, (), 60, "test").files
    frames, enhanced = files["frames"], files["enhanced.f32"]
    right = compare(students["int8"], sound, frames, enhanced)
    assert right.complaint() == ""
    assert (right.frame_steps <= 1, right.masks, right.sound < 1e-6) == (True, 0, True)

    values = np.frombuffer(frames, np.int8).reshape(20, 2, 257).copy()
    values[7, 1, 100] ^= 1
    assert compare(students["int8"], sound, values.tobytes(), enhanced).masks == 1
    assert "1 values of the masks" in compare(students["int8"], sound, values.tobytes(), enhanced).complaint()
    other = compare(students["int8"], sound * np.float32(1.5), frames, enhanced)
    assert other.frame_steps > 1 and "frontend" in other.complaint()
    louder = (np.frombuffer(enhanced, "<f4") * np.float32(1.5)).tobytes()
    assert "of full scale" in compare(students["int8"], sound, frames, louder).complaint()
    for cut in (enhanced[:-4], b"", np.full(20 * 256, np.nan, "<f4").tobytes()):
        assert compare(students["int8"], sound, frames, cut).sound == float("inf")


def test_what_comparison_finds_ends_the_profile(students, monkeypatch):
    found = Comparison(0, 3, 0.0)
    monkeypatch.setattr(target_module, "compare", lambda *_: found)
    with pytest.raises(DeviceError, match=r"cortex-m4: .*int8\.tflite: 3 values of the masks"):
        open_core("cortex-m4").profile({"int8": students["int8"]}, FRAMES, Silent())


def test_a_network_of_another_size(tiny):
    """Sizes that are nowhere near the student's: 33 bins at 8 kHz."""
    path = tiny(integer=True, rate=8000)
    (result,) = open_core("cortex-m33").profile({"int8": path}, FRAMES, Silent())
    found = values(result)
    assert found["state_bytes"] == 33
    assert found["realtime_clock_mhz"] == pytest.approx(found["cycles_per_frame"] / (32 / 8000) / 1e6)
    assert read_description(path).frontend.bins == 33
    assert {operator.name for operator in result.operators} == {"MUL", "ADD", "LOGISTIC"}


def test_the_guide_s_bare_metal_example_builds_and_runs(students, speech, tmp_path):
    """Every command of docs/targets/cortex-m.md, as it stands there: codegen, compile, link, run on sound."""
    guide = (Path(__file__).parents[3] / "docs" / "targets" / "cortex-m.md").read_text()
    (commands,) = re.findall(r"```sh\n(.*?)```", guide, re.DOTALL)
    shutil.copy(students["int8"], tmp_path / "student.int8.tflite")
    soundfile.write(tmp_path / "noisy.wav", speech, 16000, subtype="FLOAT")
    here = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    ran = subprocess.run(
        ["bash", "-euc", commands], cwd=tmp_path, env=here, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr[-1500:]
    enhanced, rate = soundfile.read(tmp_path / "enhanced.wav", dtype="float32")
    assert rate == 16000
    assert np.abs(enhanced - enhance_on_host(students["int8"], speech)).max() < 1e-3
    assert np.abs(enhanced).max() > 0.01


@pytest.mark.parametrize("core", CORES)
def test_a_profile_s_budgets_are_its_memory(core):
    profile = load_profile(core)
    limits = {budget["metric"]: budget["max"] for budget in device_budgets(core) if "max" in budget}
    assert (limits["ram_bytes"], limits["flash_bytes"]) == (profile.ram_bytes, profile.flash_bytes)
    assert limits["rtf"] < 1
