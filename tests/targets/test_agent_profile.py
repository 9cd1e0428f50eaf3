"""The agent's command line and the figures it prints."""

import json
import subprocess
import sys

import numpy as np
import pytest

from earshot.targets import agent


def run_agent(*arguments, stdin=None):
    command = [sys.executable, "-P", agent.__file__, "profile", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, input=stdin, timeout=120)
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


def test_a_profile_is_json_lines_and_its_figures_agree(tiny):
    code, events = run_agent(tiny(), "--frames", 40, "--repeats", 3, "--warmup", 5)
    assert code == 0
    assert [event["event"] for event in events] == ["start", "repeat", "repeat", "repeat", "result"]
    result = events[-1]
    assert result["frames"] == 120
    assert result["hop_us"] == pytest.approx(32 / 16000 * 1e6)
    for times in (result["graph_us"], result["path_us"]):
        assert 0 < times["p50"] <= times["p95"] <= times["p99"] <= times["max"]
    assert result["graph_us"]["p50"] < result["path_us"]["p50"]
    assert 0 < result["graph_rtf"] < result["hop_rtf"]
    assert result["rtf"] > 0
    assert result["rtf"] == pytest.approx(np.median([event["rtf"] for event in events[1:4]]))
    assert sum(result["histogram"]["counts"]) == 120
    assert len(result["histogram"]["edges_us"]) == len(result["histogram"]["counts"]) + 1
    assert result["delegate_coverage"] == 1.0
    assert 0 < result["base_rss_bytes"] < result["peak_rss_bytes"] < 500e6
    assert {"runtime", "runtime_version", "cpu", "cores", "system"} <= set(result["environment"])


def test_pinning_delegate_and_own_sound(tiny, tmp_path):
    sound = tmp_path / "s.raw"
    np.zeros(100, "<f4").tofile(sound)
    options = ("--core", 0, "--no-delegate", "--audio", sound, "--frames", 5, "--repeats", 1)
    code, events = run_agent(tiny(), *options)
    assert code == 0
    assert events[-1]["environment"]["cores"] == [0]
    assert events[-1]["delegate_coverage"] == 0


@pytest.fixture
def cores(monkeypatch):
    """A process that may use six of eight cores; what it was pinned to last stands under `pinned`."""
    found = {"pinned": {0, 2, 3, 5, 6, 7}}
    monkeypatch.setattr(agent.os, "sched_getaffinity", lambda _: set(found["pinned"]))
    monkeypatch.setattr(agent.os, "sched_setaffinity", lambda _, wanted: found.update(pinned=set(wanted)))
    return found


@pytest.mark.parametrize(
    ("core", "threads", "pinned"),
    [("last", 1, {7}), ("last", 4, {3, 5, 6, 7}), ("last", 6, {0, 2, 3, 5, 6, 7}), ("2", 1, {2})],
)
def test_every_thread_has_a_core(cores, core, threads, pinned):
    agent.pin(core, threads)
    assert cores["pinned"] == pinned


@pytest.mark.parametrize(
    ("core", "threads", "code", "message"),
    [("2", 2, 2, "2 threads were asked for on one core, 2"), ("last", 7, 3, "7 threads need as many cores")],
)
def test_threads_that_would_share_a_core_are_refused(cores, core, threads, code, message):
    before = set(cores["pinned"])
    with pytest.raises(agent.AgentError, match=message) as caught:
        agent.pin(core, threads)
    assert caught.value.exit_code == code and caught.value.hint
    assert cores["pinned"] == before


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["/nowhere/m.tflite"], 2, "cannot be read"),
        ([agent.__file__], 2, "not a .tflite file"),
        (["MODEL", "--frames", "0"], 2, "at least 1"),
        (["MODEL", "--core", "4096"], 2, "core 4096 cannot be used"),
        (["MODEL", "--core", "0", "--threads", "2"], 2, "2 threads were asked for on one core, 0"),
        (["MODEL", "--core", "last", "--threads", "4096"], 3, "4096 threads need as many cores"),
        (["MODEL", "--audio", "/nowhere/s.raw"], 2, "s.raw: cannot be read"),
        (["MODEL", "--audio", "/dev/null"], 2, "no finite float32 samples"),
    ],
)
def test_a_mistake_is_one_line_and_an_exit_code(tiny, arguments, code, message):
    model = str(tiny())
    ended, events = run_agent(*[model if item == "MODEL" else item for item in arguments])
    assert ended == code
    assert events[-1]["event"] == "error"
    assert message in events[-1]["message"]
    assert "result" not in [event["event"] for event in events]


def test_no_runtime_is_the_machines_fault(tiny, monkeypatch, capsys):
    monkeypatch.setattr(agent, "RUNTIMES", {"no_such_runtime": "no-such-runtime"})
    assert agent.main(["profile", str(tiny())]) == 3
    assert "pip install" in json.loads(capsys.readouterr().out)["hint"]


def test_paced_repeats_wait_for_a_line(tiny):
    options = ("--frames", "5", "--repeats", "2", "--warmup", "0", "--paced")
    command = [sys.executable, "-P", agent.__file__, "profile", str(tiny()), *options]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert json.loads(process.stdout.readline())["event"] == "start"
        for _ in range(2):
            process.stdin.write("\n")
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["event"] == "repeat"
        assert json.loads(process.stdout.readline())["event"] == "result"


def test_deadline_misses_are_frames_slower_than_their_sound():
    hop = 0.016
    assert agent.deadline_misses([15_999_999, 16_000_000, 16_000_001, 40_000_000], hop) == 2
    assert agent.deadline_misses([1, 2, 3], hop) == 0


def test_spread_in_microseconds():
    times = [1000 * value for value in range(1, 102)]
    assert agent.spread(times) == {"min": 1.0, "p50": 51.0, "p95": 96.0, "p99": 100.0, "max": 101.0, "mean": 51.0}


def test_histogram_counts_every_frame_in_its_bin():
    times = [1_000, 1_050, 2_000, 64_000]
    found = agent.histogram(times)
    for low, high, count in zip(found["edges_us"], found["edges_us"][1:], found["counts"], strict=False):
        assert count == sum(low <= time / 1e3 < high for time in times)
    assert sum(found["counts"]) == 4


def test_peak_memory_is_the_process_own_and_not_its_parents(tiny):
    ballast = np.ones(60_000_000)  # 480 MB: getrusage of a child would report it
    code, events = run_agent(tiny(), "--frames", 5, "--repeats", 1)
    assert code == 0
    assert events[-1]["peak_rss_bytes"] < ballast.nbytes / 2
