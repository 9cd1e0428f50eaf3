"""The phone target against a test double of adbd, through the real adb client and server."""

import os
import re
import signal
import subprocess
import sys
import threading
import time

import pytest

from earshot.ci.budget import Budget
from earshot.ci.gate import judge
from earshot.ci.run_file import Row
from earshot.ci.verdict import Status
from earshot.core.errors import ConfigError, DeviceError, ModelError
from earshot.core.measurement import Provenance
from earshot.pipeline.progress import Silent
from earshot.targets.base import ProfileConfig

QUICK = ProfileConfig(frames=20, repeats=2, warmup=2, timeout_seconds=60)
WARM = "Thermal Status: 2\nCurrent temperatures from HAL:\n\tTemperature{mValue=71.0, mType=0, mName=c, mStatus=2}\n"


class Notes(Silent):
    """Keeps what was reported, in order."""

    def __init__(self):
        self.seen, self.total = [], None

    def start(self, task, total):
        self.total = total

    def advance(self, steps=1, note=""):
        self.seen.append(note)


def found(result):
    return {measurement.metric: measurement for measurement in result.measurements}


def judged(result):
    row = Row(row="convert:int8", stage="convert", measurements=result.measurements)
    budget = Budget(metric="graph_rtf", target="phone", max=1e9, allow="estimated")
    (verdict,) = judge([budget], [row])
    return verdict


def eventually(condition, seconds=15):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.1)
    return bool(condition())


def test_models_alternate_and_the_figures_are_the_tools(bench, tiny):
    phone = bench.plug()
    models, notes = {"float32": tiny(), "int8": tiny(integer=True)}, Notes()
    results = bench.target().profile(models, QUICK, notes)
    order = [note.split()[0] for note in notes.seen]
    assert order == ["float32", "int8", "float32", "int8", "float32", "int8"] and notes.total == 6
    assert [result.variant for result in results] == ["float32", "int8"]
    assert [path.rsplit("/", 1)[1] for path in phone.pushed] == ["benchmark_model", "0.tflite", "1.tflite"]
    for result in results:
        values = found(result)
        assert set(values) == {
            "graph_rtf", "frame_p50_us", "frame_p95_us", "frame_max_us", "memory_footprint_bytes", "delegate_coverage",
            "temperature_c",
        }  # fmt: skip
        logs = result.raw["logs"]
        assert len(logs) == 3  # two repeats, and one for the operators
        averages = [float(re.search(r"Inference \(avg\): (\S+)", log)[1]) for log in logs[:2]]
        hop_us = 32 / 16000 * 1e6
        assert values["graph_rtf"].value == pytest.approx(sum(averages) / 2 / hop_us)
        highest = max(int(re.findall(r"\bmax=(\d+)", log)[-1]) for log in logs[:2])
        assert values["frame_max_us"].value == highest and values["frame_p50_us"].n == 40
        assert values["delegate_coverage"].value == 1 and values["delegate_coverage"].n == 4
        assert values["temperature_c"].value == 41.5
        assert all(m.target == "phone" and m.flags == () for m in result.measurements)
        assert [(op.name, op.unit, op.placement) for op in result.operators] == [
            ("TfLiteXNNPackDelegate", "us", "xnnpack")
        ]
        assert result.environment["phone"]["ro.product.model"] == "Double 1"
        assert result.environment["cores"] == [0]
    assert bench.left_behind() == []


def test_a_doubles_figures_are_named_so_and_no_gate_takes_them(bench, tiny):
    bench.plug()
    (result,) = bench.target().profile({"int8": tiny(integer=True)}, QUICK, Silent())
    assert {measurement.provenance for measurement in result.measurements} == {Provenance.TEST_DOUBLE}
    verdict = judged(result)
    assert verdict.status is Status.FAIL and "stand-in" in verdict.reason


def test_what_does_not_say_it_is_a_double_counts_as_measured(bench, tiny):
    """The negative control: the mark, and nothing else, makes the difference."""
    bench.plug(double=False)
    (result,) = bench.target().profile({"int8": tiny(integer=True)}, QUICK, Silent())
    assert {measurement.provenance for measurement in result.measurements} == {Provenance.MEASURED}
    assert judged(result).status is Status.PASS


def test_the_tool_is_pinned(bench, tiny, tmp_path):
    bench.plug()
    tool = bench.folder / "pinned"
    tool.write_text(f'#!/bin/sh\ngrep Cpus_allowed_list /proc/self/status >{tmp_path}/seen\nexec {bench.tool()} "$@"\n')
    bench.target(tool).profile({"m": tiny()}, QUICK, Silent())
    assert (tmp_path / "seen").read_text().split() == ["Cpus_allowed_list:", "0"]
    with pytest.raises(DeviceError, match="no core 63, it has "):
        bench.target(tool, cores=(63,)).profile({"m": tiny()}, QUICK, Silent())


def test_a_phone_that_grew_too_warm_marks_its_times(bench, tiny):
    bench.plug(later=WARM)
    (result,) = bench.target().profile({"int8": tiny(integer=True)}, QUICK, Silent())
    values = found(result)
    assert values["graph_rtf"].flags == values["frame_p50_us"].flags == ("throttled",)
    assert values["delegate_coverage"].flags == () and values["temperature_c"].value == 71
    assert [look["status"] for look in result.environment["thermal"]] == ["none", "moderate"]


@pytest.mark.parametrize("accelerator", ["gpu", "nnapi"])
def test_an_accelerator_that_silently_did_not_apply_is_marked(bench, tiny, accelerator):
    bench.plug()
    (result,) = bench.target(accelerator=accelerator).profile({"int8": tiny(integer=True)}, QUICK, Silent())
    values = found(result)
    assert values["graph_rtf"].flags == ("delegate-missing",) and values["delegate_coverage"].value == 0
    # Every operator ran on the processor, and is listed there.
    assert [op.name for op in result.operators] == ["MUL", "MUL", "ADD", "LOGISTIC"]
    assert {op.placement for op in result.operators} == {"cpu"}


def test_plain_kernels_that_were_asked_for_miss_nothing(bench, tiny):
    bench.plug()
    config = QUICK.model_copy(update={"delegate": False})
    (result,) = bench.target().profile({"int8": tiny(integer=True)}, config, Silent())
    assert found(result)["graph_rtf"].flags == () and result.environment["accelerator"] == "none"


def test_an_old_tool_leaves_percentiles_unmeasured(bench, tiny):
    bench.plug()
    (result,) = bench.target(bench.tool(DOUBLE_OLD=1)).profile({"m": tiny()}, QUICK, Silent())
    values = found(result)
    assert values["frame_p50_us"].value is None and "no percentiles" in values["frame_p50_us"].reason
    assert values["graph_rtf"].value > 0 and values["delegate_coverage"].value == 1


# ---- which phone


def refused(target, model):
    with pytest.raises(DeviceError) as caught:
        target.profile({"m": model}, QUICK, Silent())
    assert caught.value.exit_code == 3
    assert target.availability().reason == caught.value.message
    return caught.value


def test_no_phone(bench, tiny):
    error = refused(bench.target(), tiny())
    assert error.message == "no phone is connected" and "USB debugging" in error.hint


def test_several_phones_and_the_one_that_is_named(bench, tiny):
    first, second = bench.plug(), bench.plug()
    error = refused(bench.target(), tiny())
    assert first.serial in error.message and second.serial in error.message and "serial" in error.hint
    (result,) = bench.target(serial=second.serial).profile({"m": tiny()}, QUICK, Silent())
    assert result.environment["serial"] == second.serial
    assert second.pushed and not first.pushed


def test_a_phone_that_is_not_there(bench, tiny):
    phone = bench.plug()
    error = refused(bench.target(serial="R58M12ABCDE"), tiny())
    assert error.message == f"phone R58M12ABCDE is not connected (connected: {phone.serial})"


@pytest.mark.parametrize(
    ("state", "hint"), [("unauthorized", "accept the debugging prompt"), ("offline", "plug it in")]
)
def test_a_phone_that_is_not_ready(bench, tiny, state, hint):
    phone = bench.plug(state=state)
    error = refused(bench.target(), tiny())
    assert error.message == f"phone {phone.serial} is {state}" and hint in error.hint
    other = bench.plug()  # one that is ready goes before one that is not
    assert bench.target().availability().ok and bench.target()._adb.choose(None).serial == other.serial


def test_availability_starts_nothing_and_names_what_is_missing(bench):
    target = bench.target()
    bench.plug()
    assert target.availability().ok
    bench.adb("kill-server")
    assert target.availability().enable == "adb start-server"
    assert not target._adb.server_running()  # it was not started by asking
    assert "not installed" in bench.target(adb="no-such-adb").availability().reason
    assert "no such file" in bench.target("/nowhere/benchmark_model").availability().reason
    with pytest.raises(ConfigError, match="accelerator"):
        bench.target(accelerator="npu")


# ---- what goes wrong on the way


def says(bench, *lines):
    """A tool that prints these errors and fails."""
    said = "\n".join(f"ERROR: {line}" for line in lines)
    tool = bench.folder / "old_tool"
    tool.write_text(f"#!/bin/sh\ncat >&2 <<'END'\n{said}\nEND\nexit 1\n")
    return tool


UNPREPARED = "Node number 57 (BATCH_MATMUL) failed to prepare."


def test_a_model_the_runtime_refuses(bench, tiny, tmp_path):
    bench.plug()
    with pytest.raises(
        ModelError, match=r"tiny\.tflite: refused on phone \(Node number 57 .* failed to prepare"
    ) as caught:
        bench.target(says(bench, UNPREPARED)).profile({"m": tiny()}, QUICK, Silent())
    assert "newer" in caught.value.hint and caught.value.exit_code == 2
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(b"nothing")
    with pytest.raises(ModelError, match=r"not a \.tflite"):
        bench.target().profile({"m": broken}, QUICK, Silent())
    assert bench.left_behind() == []


@pytest.mark.parametrize(
    "lack", ["Didn't find op for builtin opcode 'ADD' version '9'.", "Encountered unresolved custom op: Mystery."]
)
def test_a_tool_that_lacks_an_operator_is_too_old_and_the_model_is_not_to_blame(bench, tiny, lack):
    """The runtime then refuses the model as well: in the same words as one that cannot run anywhere."""
    bench.plug()
    tool = says(bench, lack, UNPREPARED, "Failed to initialize the interpreter")
    with pytest.raises(DeviceError, match=r"tiny\.tflite: old_tool on phone lacks one of its operators") as caught:
        bench.target(tool).profile({"m": tiny()}, QUICK, Silent())
    assert lack in caught.value.message and "use a newer old_tool" in caught.value.hint
    assert caught.value.exit_code == 3
    assert bench.left_behind() == []


@pytest.mark.parametrize(
    ("script", "message", "hint"),
    [
        ("kill -SEGV $$", "ended with code 139", "11 is the number of the signal"),
        ("exit 7", r"ended with code 7 \(it said nothing\)", "another build of fails"),
        ("exit 126", "ended with code 126", "ro.product.cpu.abi"),
        ("echo 'ERROR: Failed to apply GPU delegate.'; exit 1", "Failed to apply GPU delegate", "accelerator"),
        ("echo hello", "printed what cannot be read .*ended with: hello", "benchmark_model"),
    ],
)
def test_a_tool_that_fails(bench, tiny, script, message, hint):
    bench.plug()
    tool = bench.folder / "fails"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    with pytest.raises(DeviceError, match=message) as caught:
        bench.target(tool).profile({"m": tiny()}, QUICK, Silent())
    assert hint in caught.value.hint
    assert bench.left_behind() == []


def test_a_full_phone(bench, tiny):
    phone = bench.plug(disk_bytes=100)
    with pytest.raises(DeviceError, match="is full: tool does not fit") as caught:
        bench.target().profile({"m": tiny()}, QUICK, Silent())
    assert "make room" in caught.value.hint and phone.pushed == []
    assert bench.left_behind() == []


def test_a_folder_that_cannot_be_made(bench, tiny):
    bench.plug()
    with pytest.raises(DeviceError, match="no folder can be made in /proc/nowhere") as caught:
        bench.target(folder="/proc/nowhere").profile({"m": tiny()}, QUICK, Silent())
    assert "option folder" in caught.value.hint


SLOW = QUICK.model_copy(update={"frames": 1_000_000_000})


def test_a_run_that_takes_too_long_is_killed_on_the_phone(bench, tiny):
    bench.plug()
    config = SLOW.model_copy(update={"timeout_seconds": 2})
    with pytest.raises(DeviceError, match=r"tiny\.tflite: .* took longer than 2 s"):
        bench.target().profile({"m": tiny()}, config, Silent())
    assert eventually(lambda: bench.left_behind() == [])


def test_a_phone_that_goes_away_in_the_middle(bench, tiny):
    phone = bench.plug()
    unplug = threading.Timer(3, phone.vanish)
    unplug.start()
    with pytest.raises(DeviceError, match="went away") as caught:
        bench.target().profile({"m": tiny()}, SLOW, Silent())
    unplug.join()
    assert "cable" in caught.value.hint
    assert eventually(lambda: bench.left_behind() == [])  # the phone's own shell cleaned up


KILLED = """
import sys
from pathlib import Path
from earshot.pipeline.progress import Silent
from earshot.targets.adb.target import PhoneOptions, PhoneTarget
from earshot.targets.base import ProfileConfig
options = PhoneOptions.model_validate_json(sys.argv[1])
PhoneTarget("phone", options).profile({"m": Path(sys.argv[2])}, ProfileConfig(frames=10**9), Silent())
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_the_phone_is_clean_after_earshot_was_killed(bench, tiny, how):
    bench.plug()
    options = bench.target().options.model_dump_json()
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, options, str(tiny())], stderr=subprocess.DEVNULL, env=dict(os.environ)
    ) as process:
        assert eventually(lambda: any("--graph=0.tflite" in line for line in bench.left_behind()))
        process.send_signal(how)
        process.wait(20)
    assert eventually(lambda: bench.left_behind() == [])
