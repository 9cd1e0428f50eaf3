"""The host target: fair order, clean ends, and agent results as measurements."""

import os
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from earshot.core.config import parse
from earshot.core.errors import ConfigError, DeviceError, ModelError, UsageError
from earshot.core.measurement import Provenance
from earshot.pipeline.progress import Silent
from earshot.targets.base import ProfileConfig, load_profile
from earshot.targets.host import HostTarget
from earshot.targets.registry import builtin_profiles, open_target
from earshot.targets.stream import open_stream

QUICK = ProfileConfig(frames=20, repeats=3, warmup=2)


class Notes(Silent):
    """Keeps the order in which repeats were reported."""

    def __init__(self):
        self.seen, self.total = [], None

    def start(self, task, total):
        self.total = total

    def advance(self, steps=1, note=""):
        self.seen += [note.split()[0]] * steps


def children():
    return {
        entry.name
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and f"PPid:\t{os.getpid()}\n" in _status(entry)
    }


def _status(entry):
    try:
        return (entry / "status").read_text()
    except OSError:
        return ""


@pytest.fixture
def nothing_stays_behind():
    """Processes that were there before may stay: other tests start multiprocessing's resource tracker."""
    before = children()
    yield
    assert children() <= before


def test_a_process_that_stays_behind_would_be_noticed():
    before = children()
    with subprocess.Popen(["sleep", "60"]) as process:
        assert children() - before == {str(process.pid)}
        process.kill()
    assert children() <= before


@pytest.mark.usefixtures("nothing_stays_behind")
def test_models_alternate_and_every_metric_comes_back(tiny):
    notes = Notes()
    results = HostTarget().profile({"float32": tiny(), "int8": tiny(integer=True)}, QUICK, notes)
    assert notes.seen == ["float32", "int8"] * 3
    assert notes.total == 6
    assert [result.variant for result in results] == ["float32", "int8"]
    for result in results:
        found = {measurement.metric: measurement for measurement in result.measurements}
        assert set(found) - {"temperature_c"} == {
            "rtf", "hop_rtf", "graph_rtf", "frame_p50_us", "frame_p95_us", "frame_p99_us", "frame_max_us",
            "deadline_misses", "peak_rss_bytes", "arena_bytes", "delegate_coverage",
        }  # fmt: skip
        assert all(m.target == "host" and m.provenance is Provenance.MEASURED for m in found.values())
        assert found["frame_p99_us"].n == 60
        assert found["hop_rtf"].value == result.raw["hop_rtf"] != found["rtf"].value
        assert found["frame_p50_us"].value == result.raw["graph_us"]["p50"]
        assert result.histogram is not None and sum(result.histogram.counts) == 60
        assert len(result.environment["cores"]) == 1


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="this process may use one core only")
def test_threads_get_a_core_each_the_last_ones(tiny):
    for threads in (1, 2):
        (result,) = HostTarget().profile({"m": tiny()}, QUICK.model_copy(update={"threads": threads}), Silent())
        assert result.environment["cores"] == sorted(os.sched_getaffinity(0))[-threads:]


def test_more_threads_than_cores_are_refused(tiny):
    with pytest.raises(DeviceError, match="4096 threads need as many cores"):
        HostTarget().profile({"m": tiny()}, QUICK.model_copy(update={"threads": 4096}), Silent())
    with pytest.raises(ConfigError, match="4 threads cannot share core 1"):
        parse(ProfileConfig, {"threads": 4, "core": 1}, "r.yaml")
    assert parse(ProfileConfig, {"threads": 1, "core": 1}, "r.yaml").core == 1


@pytest.mark.usefixtures("nothing_stays_behind")
def test_a_bad_model_among_good_ones_is_named(tiny, tmp_path):
    bad = tmp_path / "bad.tflite"
    bad.write_bytes(b"nothing")
    with pytest.raises(ModelError, match=r"bad\.tflite: not a \.tflite"):
        HostTarget().profile({"good": tiny(), "bad": bad}, QUICK, Silent())


@pytest.mark.usefixtures("nothing_stays_behind")
def test_too_slow_is_a_device_error(tiny):
    slow = ProfileConfig(frames=200_000, repeats=1, timeout_seconds=2)
    started = time.monotonic()
    with pytest.raises(DeviceError, match="longer than 2 s"):
        HostTarget().profile({"m": tiny()}, slow, Silent())
    assert time.monotonic() - started < 20


def test_a_dying_agent_is_a_device_error(tiny, tmp_path):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho last words >&2\nkill -SEGV $$\n")
    python.chmod(0o755)
    with pytest.raises(DeviceError, match=r"killed by signal SEGV \(last words\)"):
        HostTarget(str(python)).profile({"m": tiny()}, QUICK, Silent())
    with pytest.raises(DeviceError, match="cannot be started") as caught:
        HostTarget(str(tmp_path / "absent")).profile({"m": tiny()}, QUICK, Silent())
    assert "option python" in caught.value.hint


# Starts an agent and lets it begin a repeat of several seconds; the flags named are not given to it.
BEGINS = """
    import sys, time
    from pathlib import Path
    from earshot.targets.base import ProfileConfig
    from earshot.targets.host import AgentProcess
    agent = AgentProcess(sys.executable, Path(sys.argv[1]), ProfileConfig(frames=400_000, repeats=1, warmup=0))
    agent._command = [part for part in agent._command if part not in sys.argv[2:]]
    with agent:
        while "start" not in agent.readline():
            pass
        agent.write("\\n")
        print(agent._process.pid, flush=True)
        time.sleep(600)
"""


def runs_after_the_kill(model, *flags_left_out, seconds):
    """Whether the agent still runs so long after earshot was killed in the middle of a repeat."""
    command = [sys.executable, "-c", textwrap.dedent(BEGINS), str(model), *flags_left_out]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as earshot:
        agent = psutil.Process(int(earshot.stdout.readline()))
        before = sum(agent.cpu_times()[:2])
        while sum(agent.cpu_times()[:2]) < before + 0.2:  # it works, so it reads no standard input that could end it
            time.sleep(0.02)
        earshot.kill()
    try:
        agent.wait(seconds)
    except psutil.TimeoutExpired:
        if agent.status() == psutil.STATUS_ZOMBIE:
            return False
        agent.kill()
        return True
    return False


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process of its parent's death")
def test_the_agent_dies_with_earshot_in_the_middle_of_a_repeat(tiny):
    assert not runs_after_the_kill(tiny(), seconds=5)
    assert runs_after_the_kill(tiny(), "--die-with-parent", seconds=0.5)  # negative control


def interpreter(path, script):
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_the_runtime_is_looked_for_where_the_agent_runs(tmp_path):
    same = interpreter(tmp_path / "same", f'exec {sys.executable} "$@"')
    bare = interpreter(tmp_path / "bare", f'exec {sys.executable} -S "$@"')  # without site-packages
    assert HostTarget(same).availability().ok
    state = HostTarget(bare).availability()
    assert (state.ok, state.reason) == (False, f"{bare}: no TFLite runtime is installed")
    assert state.enable == f"{bare} -m pip install ai-edge-litert"


@pytest.mark.parametrize(
    ("script", "reason"),
    [("exit 1", "no interpreter"), ("echo no such option >&2; exit 2", "(no such option)"), (None, "cannot be")],
)
def test_what_is_no_interpreter_is_no_ready_target(tmp_path, script, reason):
    python = interpreter(tmp_path / "python", script) if script else str(tmp_path / "absent")
    state = HostTarget(python).availability()
    assert not state.ok and reason in state.reason and python in state.reason
    assert "option python" in state.enable


def test_registry():
    assert open_target("host").availability().ok
    assert all(name == open_target(name).name for name in builtin_profiles())
    with pytest.raises(UsageError) as caught:
        open_target("hots")
    assert caught.value.hint == "did you mean 'host'?"
    assert isinstance(open_target("earshot.targets.host:HostTarget"), HostTarget)
    with pytest.raises(UsageError, match="no attribute 'Absent'"):
        open_target("earshot.targets.host:Absent")


def test_profiles_are_typed():
    assert load_profile("host").kind == "host"


def test_open_stream_speaks_earshots_errors_and_no_chatter(tiny, tmp_path, capfd):
    assert open_stream(tiny()).rate == 16000
    assert capfd.readouterr().err == ""
    with pytest.raises(ModelError, match="cannot be read"):
        open_stream(tmp_path / "absent.tflite")


def test_streams_opened_side_by_side_leave_standard_error_as_it_was(tiny, capfd):
    model = tiny()
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(open_stream, [model] * 40))
    os.write(2, b"still heard")
    assert capfd.readouterr().err == "still heard"
