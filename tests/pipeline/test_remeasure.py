"""Races as `compare` and `gate` ask for them: which, how long, and what is left as it was stored."""

from __future__ import annotations

import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from earshot.ci.budget import Budget
from earshot.ci.difference import Pair, Race
from earshot.ci.evidence import Evidence
from earshot.ci.run_file import Row
from earshot.core.errors import DeviceError, UsageError
from earshot.core.measurement import Measurement, Provenance
from earshot.pipeline import remeasure as module
from earshot.pipeline.progress import Silent
from earshot.pipeline.remeasure import (
    LOOKS,
    Model,
    decided_by,
    heats_of_budgets,
    heats_of_rows,
    remeasure,
    take_turns,
)
from earshot.targets.base import Availability, ProfileConfig

INT8, FLOAT = "convert:int8", "convert:float32"
SAME = {"frame_p50_us": (10.0, 10.0)}


class Track:
    """A target that can race: rounds of so many seconds, in which the candidate takes `ratio` times as long."""

    def __init__(self, ratios=(1.0,), seconds=0.0, dies_after=None):
        self.ratios, self.seconds, self.dies_after, self.rounds = ratios, seconds, dies_after, 0

    def availability(self):
        return Availability(True)

    @contextmanager
    def race(self, base, candidate, config):
        yield self

    def round(self):
        if self.rounds == self.dies_after:
            raise DeviceError("track: the cable was cut")
        time.sleep(self.seconds)
        ratio = self.ratios[self.rounds % len(self.ratios)]
        self.rounds += 1
        return {"frame_p50_us": 10.0}, {"frame_p50_us": 10.0 * ratio}


class Counter:
    """A target that cannot race."""

    def availability(self):
        return Availability(True)


@pytest.fixture
def targets(monkeypatch):
    """Targets by name, in place of the registry's."""
    known = {}
    monkeypatch.setattr(module, "open_target", known.__getitem__)
    monkeypatch.setattr(module, "model_of", lambda evidence, row, store: Model(row.row, Path("none")))
    return known


def evidence(*measured, rows=(INT8,), provenance=Provenance.MEASURED):
    """A run timed on targets: (target, metric), ...; the same in every row."""
    found = tuple(Measurement(metric, 10.0, "us" if metric.endswith("us") else "1", 100, provenance, target)
                  for target, metric in measured)  # fmt: skip
    return Evidence(name="run", run="run", rows=tuple(Row(row=row, measurements=found) for row in rows))


def pair_of(*measured, **more):
    return Pair(evidence(*measured, **more), evidence(*measured, **more))


def budget(metric="frame_p50_us", **more):
    return Budget(**{"metric": metric, "relative_to": "baseline", "max_loss_percent": 5, **more})


def run(track, decided=lambda race: False, timeout=60.0):
    module_open = {"track": track}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "open_target", module_open.__getitem__)
        model = Model(INT8, Path("none"))
        return remeasure("track", model, model, ProfileConfig(timeout_seconds=timeout), decided, Silent())


def test_a_race_ends_with_its_last_look_or_when_it_is_decided():
    whole = run(Track())
    assert (len(whole.rounds), whole.ended) == (LOOKS[-1], "")
    assert len(run(Track(), lambda race: True).rounds) == LOOKS[0]
    assert len(run(Track(), lambda race: len(race.rounds) >= LOOKS[1]).rounds) == LOOKS[1]


def test_at_its_time_limit_a_race_gives_the_rounds_it_has():
    found = run(Track(seconds=0.05), timeout=0.3)
    assert 2 <= len(found.rounds) < LOOKS[0]
    assert found.ended == "the 0.3 s of a race were up"


def test_an_agent_that_is_ended_at_the_limit_loses_no_round():
    class Late(Track):
        def round(self):
            if self.rounds == 3:
                time.sleep(0.3)
                raise DeviceError("the race took longer than 0.25 s")
            return super().round()

    found = run(Late(), timeout=0.25)
    assert (len(found.rounds), found.ended) == (3, "the 0.25 s of a race were up")


def test_a_failure_before_the_limit_is_a_failure():
    with pytest.raises(DeviceError, match="the cable was cut"):
        run(Track(dies_after=3))


def races(pair, budgets, targets_, ask=None):
    known = {name: Track(ratios) for name, ratios in targets_.items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "open_target", known.__getitem__)
        patch.setattr(module, "model_of", lambda evidence, row, store: Model(row.row, Path("none")))
        heats = ask or heats_of_budgets(pair, budgets)[0]
        done = take_turns(pair, heats, budgets, None, Silent())
    return {(race.target, race.row): len(race.rounds) for race in done.races}


NOISY = (0.8, 1.25, 1.0)  # no limit of 5 % is decided by these
CLEAR = (2.0,)


def test_a_target_that_fails_does_not_end_another_ones_race():
    """The budget names no target: the host misses it at once, the board is still open after 12 rounds."""
    pair = pair_of(("host", "frame_p50_us"), ("pi", "frame_p50_us"))
    found = races(pair, [budget()], {"host": CLEAR, "pi": NOISY})
    assert found == {("host", INT8): LOOKS[0], ("pi", INT8): LOOKS[-1]}
    found = races(pair, [budget()], {"host": NOISY, "pi": CLEAR})
    assert found == {("host", INT8): LOOKS[-1], ("pi", INT8): LOOKS[0]}


def test_a_race_goes_on_until_every_budget_on_its_target_is_decided():
    pair = pair_of(("host", "frame_p50_us"), ("pi", "frame_p50_us"))
    near, far = budget(target="host", max_loss_percent=5), budget(target="host", max_loss_percent=500)
    assert races(pair, [far], {"host": NOISY, "pi": NOISY}) == {("host", INT8): LOOKS[0]}
    assert races(pair, [far, near], {"host": NOISY, "pi": NOISY}) == {("host", INT8): LOOKS[-1]}
    # What another target's budget asks for does not matter here, nor what noise may hide.
    assert races(pair, [far, budget(target="pi")], {"host": NOISY, "pi": CLEAR}) == {
        ("host", INT8): LOOKS[0], ("pi", INT8): LOOKS[0],
    }  # fmt: skip
    lenient = budget(target="host", undecided="warn")
    assert races(pair, [lenient], {"host": NOISY}) == {("host", INT8): LOOKS[-1]}


def test_a_row_that_does_not_ship_is_not_judged_by_the_budget_of_the_one_that_does():
    pair = pair_of(("host", "frame_p50_us"), rows=(FLOAT, INT8))
    heats = heats_of_rows(pair, [FLOAT], ["host"])
    decided = decided_by(pair, [budget()])
    wide = tuple({"frame_p50_us": (10.0, 10.0 * ratio)} for ratio in NOISY * 4)
    assert not decided(Race("host", INT8, INT8, wide))
    assert races(pair, [budget(max_loss_percent=500)], {"host": NOISY}, heats) == {("host", FLOAT): LOOKS[-1]}
    assert races(pair, [budget(max_loss_percent=500, stage=FLOAT)], {"host": NOISY}, heats) == {("host", FLOAT): 12}


def test_without_a_budget_a_race_ends_when_the_median_is_known():
    pair = pair_of(("host", "frame_p50_us"))
    heats = heats_of_rows(pair, [None], ["host"])
    assert races(pair, [], {"host": CLEAR}, heats) == {("host", INT8): LOOKS[0]}
    assert races(pair, [], {"host": NOISY}, heats) == {("host", INT8): LOOKS[-1]}


def test_what_no_race_can_tell_is_left_as_stored_and_said(targets):
    targets |= {"host": Track(), "phone": Counter()}
    pair = pair_of(("host", "graph_rtf"), ("host", "frame_p50_us"), ("phone", "frame_p50_us"))
    heats, stored = heats_of_budgets(pair, [budget("graph_rtf", target="host"), budget(), budget(max_loss=3)])
    assert [(heat.row.row, heat.target) for heat in heats] == [(INT8, "host")]
    assert stored == [
        "graph_rtf on host: models by turns do not tell it",
        "frame_p50_us on phone: it cannot run two models by turns",
    ]
    assert heats_of_budgets(pair, [budget("model_bytes")]) == ([], [])
    assert heats_of_budgets(pair, [budget(stage="distill")]) == ([], [])


def test_modelled_times_compare_exactly_and_need_no_race(targets):
    targets["cortex-m4"] = Counter()
    pair = pair_of(("cortex-m4", "rtf"), provenance=Provenance.ESTIMATED)
    assert heats_of_budgets(pair, [budget("rtf", target="cortex-m4", allow="estimated")]) == ([], [])
    with pytest.raises(UsageError, match="can run two models by turns"):
        heats_of_rows(pair, [None])


def test_a_row_named_twice_runs_once(targets):
    targets["host"] = Track()
    pair = pair_of(("host", "frame_p50_us"), ("host", "rtf"))
    heats, _ = heats_of_budgets(pair, [budget(), budget("rtf"), budget(stage=INT8, target="host")])
    assert len(heats) == 1
    assert len(heats_of_rows(pair, [None, INT8])) == 1
