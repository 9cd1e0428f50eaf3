"""Races: two models by turns in one process, round after round."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from earshot.core.errors import DeviceError, ModelError
from earshot.targets import agent
from earshot.targets.base import ProfileConfig, Racing
from earshot.targets.host import HostTarget
from earshot.targets.registry import open_target

METRICS = {"frame_p50_us", "frame_p95_us", "frame_p99_us", "hop_rtf", "rtf"}


def test_every_round_gives_both_models_figures(tiny):
    with HostTarget().race(tiny(), tiny(integer=True), ProfileConfig()) as race:
        assert race.environment["threads"] == 1
        for _ in range(3):
            base, candidate = race.round()
            assert set(base) == set(candidate) == METRICS
            assert all(value > 0 for value in (*base.values(), *candidate.values()))
            assert base["frame_p50_us"] <= base["frame_p95_us"] <= base["frame_p99_us"]


def test_turns_are_taken_forth_and_back_and_rounds_begin_with_the_other(tiny, monkeypatch):
    order, opened = [], []

    class Noted(agent.Runner):
        def __init__(self, path, threads, delegate):
            super().__init__(path, threads, delegate)
            self.path = path
            opened.append(path)

        def turn(self, start, count, spent):
            order.append((self.path, start, count))
            super().turn(start, count, spent)

    monkeypatch.setattr(agent, "Runner", Noted)
    monkeypatch.setattr(agent, "turn_length", lambda runners, frames: 10)
    asked = iter(("\n", "\n", ""))
    events = []
    a, b = (str(tiny()), str(tiny(integer=True)))
    agent.race([a, b], frames=40, emit=events.append, asked=lambda: next(asked))
    assert opened == [a, b, b, a]
    assert [path for path, *_ in order] == [a, b, b, a, a, b, b, a, b, a, a, b, b, a, a, b]
    # Both hear the same sound at every turn.
    assert [(start, count) for _, start, count in order[:8]] == [(number // 2 * 10, 10) for number in range(8)]
    assert [event["index"] for event in events] == [0, 1]


def test_figures_are_of_timed_hops_only_and_by_the_model_they_belong_to(tiny, monkeypatch):
    """A clock that says what each call takes: 2 s a turn of hops, 3 s a block of as many."""
    ticks = iter([0.0, 2.0, 10.0, 13.0])
    runner = agent.Runner(str(tiny()), 1, True)
    runner.turn(0, 20, lambda: next(ticks))
    assert len(runner.kept) == 20
    hop = runner.enhancer.hop / runner.enhancer.rate
    figures = runner.figures()
    assert figures["hop_rtf"] == pytest.approx(2.0 / (20 * hop))
    assert figures["rtf"] == pytest.approx(3.0 / (20 * hop))


class Counted:
    """Sounds that a model was given, by their number of hops."""

    def __init__(self, runner):
        self.sizes, self._process = [], runner.enhancer.process
        self.hop = runner.enhancer.hop

    def __call__(self, sound):
        self.sizes.append(len(sound) // self.hop)
        return self._process(sound)


@pytest.mark.parametrize(
    ("count", "run"),
    [(1, [1, 1, 2]), (2, [1] * 4 + [2]), (20, [1] * 23 + [20]), (100, [1] * 103 + [agent.BLOCK_HOPS])],
)
def test_a_turn_runs_no_more_than_it_times(tiny, monkeypatch, count, run):
    """Where a hop takes a millisecond, the 64 of a block would take a turn as long as a scheduler's slice."""
    runner = agent.Runner(str(tiny()), 1, True)
    counted = Counted(runner)
    monkeypatch.setattr(runner.enhancer, "process", counted)
    runner.turn(0, count, agent.time.thread_time)
    assert counted.sizes == run
    assert (runner.hops, runner.block_hops, len(runner.kept)) == (count, run[-1], count)


def test_rounds_of_slow_models_are_short_and_every_turn_has_its_return(tiny, monkeypatch):
    """A clock that says every turn takes 0.3 s: the round ends with the first pair of turns after the fewest."""
    turns = []
    now = iter(number * 0.3 for number in range(1000))
    monkeypatch.setattr(agent.Runner, "turn", lambda self, start, count, spent: turns.append(start))
    monkeypatch.setattr(agent.Runner, "figures", lambda self: {})
    monkeypatch.setattr(agent, "turn_length", lambda runners, frames: 1)
    monkeypatch.setattr(agent.time, "perf_counter", lambda: next(now))
    asked = iter(("\n", ""))
    agent.race([str(tiny()), str(tiny())], frames=256, asked=lambda: next(asked))
    assert len(turns) == 2 * agent.RACE_FEWEST_TURNS
    turns.clear()
    monkeypatch.setattr(agent.time, "perf_counter", lambda: 0.0)
    asked = iter(("\n", ""))
    agent.race([str(tiny()), str(tiny())], frames=256, asked=lambda: next(asked))
    assert len(turns) == 2 * 256


def test_a_turn_is_about_a_millisecond_of_the_slower_model(tiny, monkeypatch):
    times = iter(number * 1e-4 for number in range(100))
    monkeypatch.setattr(agent.time, "perf_counter", lambda: next(times))
    runners = [agent.Runner(str(tiny()), 1, True)]
    assert agent.turn_length(runners, 256) == 9  # 1 ms of hops of 0.1 ms each, rounding down
    times = iter(number * 1e-4 for number in range(100))
    assert agent.turn_length(runners, 4) == 4
    times = iter(number * 1e-1 for number in range(100))
    assert agent.turn_length(runners, 256) == 1


def test_the_agent_ends_with_its_input_and_refuses_what_is_no_model(tiny, tmp_path):
    command = [sys.executable, "-P", agent.__file__, "race", str(tiny())]
    done = subprocess.run([*command, str(tiny(integer=True))], input="\n\n", capture_output=True, text=True, check=True)
    assert [json.loads(line)["event"] for line in done.stdout.splitlines()] == ["start", "round", "round"]
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(b"no model")
    refused = subprocess.run([*command, str(broken)], input="\n", capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert json.loads(refused.stdout.splitlines()[-1])["event"] == "error"


def test_a_refused_model_and_a_time_that_is_up_are_errors(tiny, tmp_path):
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(b"no model")
    with HostTarget().race(tiny(), broken, ProfileConfig()) as race, pytest.raises(ModelError, match=r"broken\.tflite"):
        race.round()
    late = ProfileConfig(timeout_seconds=0.05)
    with (
        pytest.raises(DeviceError, match=r"longer than 0\.05 s"),
        HostTarget().race(tiny(), tiny(), late) as race,
    ):
        for _ in range(1000):
            race.round()


def test_which_targets_can_race():
    assert isinstance(open_target("host"), Racing)
    assert not isinstance(open_target("cortex-m4"), Racing)


def test_a_profile_keeps_the_figures_of_every_repeat(tiny):
    result = agent.profile(str(tiny()), frames=30, repeats=3, warmup=2)
    assert len(result["by_repeat"]) == 3
    assert {key for one in result["by_repeat"] for key in one} == METRICS | {"graph_rtf"}
    assert sorted(one["rtf"] for one in result["by_repeat"])[1] == result["rtf"]
    assert Path(result["model"]).suffix == ".tflite"
