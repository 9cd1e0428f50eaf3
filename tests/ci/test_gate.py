"""The gate's rules, each with a case that passes and the smallest change that does not."""

import math

import pytest

from earshot.ci.budget import Budget
from earshot.ci.budget_set import BudgetSet
from earshot.ci.gate import gate, judge, recipe_budgets, shipped_row
from earshot.ci.run_file import Row, Run
from earshot.ci.verdict import Status, exit_code
from earshot.core.errors import ConfigError
from earshot.core.measurement import Measurement, Provenance


def quality(pesq, stoi=0.9, si_sdr=10.0, n=30, **more):
    return (
        Measurement("pesq_wb", pesq, "MOS", n, **more),
        Measurement("stoi", stoi, "1", n),
        Measurement("si_sdr", si_sdr, "dB", n),
    )


def row(name, *measurements):
    return Row(row=name, stage=name.split(":")[0], measurements=measurements)


ROWS = (
    row("noisy", *quality(1.5, 0.8, 3.0)),
    row("teacher", *quality(2.5)),
    row("distill", *quality(2.4)),
    row("convert:float32", *quality(2.3)),
    row("convert:int8", *quality(2.28), Measurement("frame_p99_us", 20.0, "us", 1000, target="host")),
)


def one(rows=ROWS, **budget):
    (verdict,) = judge([Budget(**budget)], rows)
    return verdict


def with_int8(*measurements):
    return (*ROWS[:-1], row("convert:int8", *measurements))


@pytest.mark.parametrize(
    ("budget", "status", "value", "margin"),
    [
        ({"metric": "pesq_wb", "min": 2.28}, "pass", 2.28, 0.0),
        ({"metric": "pesq_wb", "min": 2.29}, "fail", 2.28, -0.01),
        ({"metric": "pesq_wb", "max": 2.28}, "pass", 2.28, 0.0),
        ({"metric": "pesq_wb", "max": 2.27}, "fail", 2.28, -0.01),
        ({"metric": "pesq_wb", "min": 2.0, "max": 2.3}, "pass", 2.28, 0.02),
        ({"metric": "pesq_wb", "min": 2.0, "max": 2.2}, "fail", 2.28, -0.08),
        ({"metric": "pesq_wb", "min": 2.39, "stage": "distill"}, "pass", 2.4, 0.01),
        ({"metric": "pesq_wb", "min": 2.41, "stage": "distill"}, "fail", 2.4, -0.01),
        # 2.3 - 2.28 is 0.02000000000000018 in binary: the limit is a decimal and holds.
        ({"metric": "pesq_wb", "relative_to": "float", "max_loss": 0.02}, "pass", 2.28, 0.0),
        ({"metric": "pesq_wb", "relative_to": "float", "max_loss": 0.019}, "fail", 2.28, -0.001),
        ({"metric": "pesq_wb", "relative_to": "noisy", "min_gain": 0.78}, "pass", 2.28, 0.0),
        ({"metric": "pesq_wb", "relative_to": "noisy", "min_gain": 0.79}, "fail", 2.28, -0.01),
        ({"metric": "pesq_wb", "relative_to": "teacher", "max_loss": 0}, "fail", 2.28, -0.22),
        ({"metric": "frame_p99_us", "target": "host", "max": 20}, "pass", 20.0, 0.0),
        ({"metric": "frame_p99_us", "target": "host", "max": 19.9}, "fail", 20.0, -0.1),
    ],
)
def test_limits(budget, status, value, margin):
    verdict = one(**budget)
    assert verdict.status == status
    assert verdict.value == value
    assert verdict.margin == pytest.approx(margin, abs=1e-12)


def test_lower_is_better_turns_the_sense_of_relative_limits():
    rows = (
        row("convert:float32", Measurement("model_bytes", 1000.0, "bytes")),
        row("convert:int8", Measurement("model_bytes", 300.0, "bytes")),
    )
    assert one(rows, metric="model_bytes", relative_to="float", min_gain=700).status is Status.PASS
    assert one(rows, metric="model_bytes", relative_to="float", min_gain=701).status is Status.FAIL
    assert one(rows[::-1], metric="model_bytes", relative_to="float", max_loss=0).status is Status.PASS
    assert one(rows, metric="model_bytes", stage="float", relative_to="convert:int8", max_loss=0).status is Status.FAIL


def test_the_row_that_ships_is_never_compared_with_itself():
    """It would always pass `max_loss: 0`."""
    verdict = one(ROWS[:-1], metric="pesq_wb", relative_to="float", max_loss=0)
    assert verdict.status is Status.FAIL
    assert "compared with itself" in verdict.reason


def test_own_metrics_judge_by_their_own_sense():
    rows = (row("noisy", Measurement("noise", 5.0, "dB")), row("convert:int8", Measurement("noise", 3.0, "dB")))
    own = {"metric": "noise", "unit": "dB", "relative_to": "noisy", "max_loss": 0}
    assert one(rows, **own, better="lower").status is Status.PASS
    assert one(rows, **own, better="higher").status is Status.FAIL


@pytest.mark.parametrize(
    ("measurement", "reason"),
    [
        (None, "was not measured in row 'convert:int8'"),
        (Measurement("pesq_wb", None, "MOS", reason="no worker"), "no worker"),
        (Measurement("pesq_wb", math.nan, "MOS", 30), "the value is nan"),
        (Measurement("pesq_wb", math.inf, "MOS", 30), "the value is inf"),
        (Measurement("pesq_wb", 2.3, "MOS", 30, Provenance.UNAVAILABLE), "could not be measured"),
        (Measurement("pesq_wb", 2.3, "MOS", 30, Provenance.TEST_DOUBLE), "stand-in"),
        (Measurement("pesq_wb", 2.3, "MOS", 30, Provenance.ESTIMATED), "allow: estimated"),
        (Measurement("pesq_wb", 2.3, "dB", 30), "measured in dB, the budget is in MOS"),
        (Measurement("pesq_wb", 2.3, "MOS", 30, failed=1, reason="a.wav: silent"), "a.wav: silent"),
        (Measurement("pesq_wb", 2.3, "MOS", 29), "stands on 29 samples, at least 30"),
    ],
)
def test_what_cannot_be_trusted_fails_with_the_reason(measurement, reason):
    budget = {"metric": "pesq_wb", "min": 1, "min_n": 30}
    assert one(**budget).status is Status.PASS
    verdict = one(with_int8(*([measurement] if measurement else [])), **budget)
    assert verdict.status is Status.FAIL
    assert reason in verdict.reason
    assert verdict.margin is None


@pytest.mark.parametrize("flag", ["throttled", "lower-bound"])
def test_a_marked_value_passes_only_where_the_budget_allows_its_mark(flag):
    rows = with_int8(Measurement("rtf", 0.1, "1", 5, target="pi", flags=(flag,)))
    budget = {"metric": "rtf", "max": 1}
    assert one(rows, **budget, allow_flags=(flag,)).status is Status.PASS
    assert one(rows, **budget, allow_flags=("another",)).status is Status.FAIL
    verdict = one(rows, **budget)
    assert verdict.status is Status.FAIL
    assert flag in verdict.reason


@pytest.mark.parametrize(
    ("provenance", "passes"),
    [
        (Provenance.MEASURED, {"measured", "emulated", "estimated"}),
        (Provenance.EMULATED, {"emulated", "estimated"}),
        (Provenance.ESTIMATED, {"estimated"}),
        (Provenance.TEST_DOUBLE, set()),
        (Provenance.UNAVAILABLE, set()),
    ],
)
def test_allow_names_the_weakest_provenance_that_passes(provenance, passes):
    rows = with_int8(Measurement("rtf", 0.1, "1", 9, provenance, "pi"))
    for allow in ("measured", "emulated", "estimated"):
        assert (one(rows, metric="rtf", max=1, allow=allow).status is Status.PASS) == (allow in passes)


def test_failed_clips_pass_up_to_max_failed():
    rows = with_int8(Measurement("pesq_wb", 2.3, "MOS", 28, failed=2))
    assert one(rows, metric="pesq_wb", min=2, max_failed=2).status is Status.PASS
    assert one(rows, metric="pesq_wb", min=2, max_failed=1).status is Status.FAIL


def test_the_reference_must_be_there_trusted_and_comparable():
    budget = {"metric": "pesq_wb", "relative_to": "noisy", "max_loss": 0}

    def against(*noisy):
        return one((row("noisy", *noisy), ROWS[-1]), **budget)

    assert against(*quality(1.5)).status is Status.PASS
    assert "no row 'noisy'" in one(ROWS[-1:], **budget).reason
    for noisy, reason in (
        ((), "not at all"),
        ((*quality(1.5), *quality(1.4)), "more than once"),
        (quality(None), "could not be measured"),
        (quality(1.5, n=29), "not comparable: 30 clips here, 29"),
        (quality(1.5, failed=1), "could not be scored"),
    ):
        verdict = against(*noisy)
        assert verdict.status is Status.FAIL
        assert reason in verdict.reason


def test_references_are_taken_on_the_same_target():
    def timed(name, host, pi):
        return row(name, Measurement("rtf", host, "1", 9, target="host"), Measurement("rtf", pi, "1", 9, target="pi"))

    rows = (timed("convert:float32", 0.2, 0.8), timed("convert:int8", 0.1, 0.5))
    assert one(rows, metric="rtf", relative_to="float", max_loss=0).status is Status.PASS
    slower = (rows[0], timed("convert:int8", 0.3, 0.5))  # slower on the host, yet faster than float on the Pi
    verdict = one(slower, metric="rtf", relative_to="float", max_loss=0)
    assert (verdict.status, verdict.target) == (Status.FAIL, "host")


def test_without_a_target_the_worst_one_counts():
    rows = with_int8(Measurement("rtf", 0.1, "1", 9, target="host"), Measurement("rtf", 0.9, "1", 9, target="pi"))
    assert one(rows, metric="rtf", max=1).target == "pi"
    assert one(rows, metric="rtf", max=0.5).status is Status.FAIL
    assert one(rows, metric="rtf", max=0.5, target="host").status is Status.PASS
    absent = one(rows, metric="rtf", max=0.5, target="phone")
    assert absent.status is Status.FAIL
    assert "on target 'phone' (it was on: host, pi)" in absent.reason


def test_a_target_that_could_not_be_measured_fails_beside_one_that_passes():
    rows = with_int8(
        Measurement("rtf", 0.1, "1", 9, target="host"), Measurement("rtf", None, "1", target="pi", reason="unplugged")
    )
    verdict = one(rows, metric="rtf", max=1)
    assert verdict.status is Status.FAIL
    assert "unplugged" in verdict.reason


def test_groups_are_judged_apart():
    rows = with_int8(*quality(2.3), Measurement("pesq_wb[lsmix]", 1.7, "MOS", 10))
    assert one(rows, metric="pesq_wb", min=2).status is Status.PASS
    assert one(rows, metric="pesq_wb[lsmix]", min=1.75).status is Status.FAIL
    assert one(rows, metric="pesq_wb[vbd]", min=1).status is Status.FAIL


def test_warn_reports_and_passes():
    verdict = one(metric="pesq_wb", min=3, severity="warn")
    assert verdict.status is Status.WARN
    assert exit_code([verdict]) == 0
    assert exit_code([verdict, one(metric="pesq_wb", min=3)]) == 1
    assert one(metric="pesq_wb", min=2, severity="warn").status is Status.PASS


@pytest.mark.parametrize(
    ("names", "ships"),
    [
        (["noisy", "teacher", "convert:float32", "convert:int8", "convert:int16x8"], "convert:int8"),
        (["noisy", "convert:float32", "convert:int16x8"], "convert:int16x8"),
        (["noisy", "convert:float32"], "convert:float32"),
        (["noisy", "teacher", "distill", "prune"], "prune"),
        (["noisy", "teacher"], None),
        ([], None),
    ],
)
def test_the_row_that_ships(names, ships):
    found = shipped_row([row(name) for name in names])
    assert (found and found.row) == ships


def test_a_row_that_is_not_there_fails():
    assert "it has: noisy, teacher" in one(metric="pesq_wb", min=1, stage="prune").reason
    assert one(ROWS[:2], metric="pesq_wb", min=1).status is Status.FAIL
    assert one((), metric="pesq_wb", min=1).status is Status.FAIL


def run(status="complete", error=None, rows=ROWS, **recipe):
    return Run(name="r", status=status, error=error, rows=rows, recipe=recipe)


def test_a_failed_run_fails_whatever_its_rows_say():
    assert exit_code(gate(run(), BudgetSet())) == 0
    verdicts = gate(run("failed", "no space left"), BudgetSet())
    assert exit_code(verdicts) == 1
    assert verdicts[0].status is Status.FAIL
    assert "no space left" in verdicts[0].reason
    assert all(verdict.status is Status.PASS for verdict in verdicts[1:])


@pytest.mark.parametrize("worse", [quality(1.49), quality(2, stoi=0.79), quality(2, si_sdr=2.9), quality(2)[:2]])
def test_every_gate_refuses_what_is_worse_than_the_noisy_input(worse):
    assert exit_code(gate(run(rows=with_int8(*quality(1.51))), BudgetSet())) == 0
    assert exit_code(gate(run(rows=with_int8(*worse)), BudgetSet())) == 1


def test_switching_off_and_no_budgets_at_all():
    every = tuple(f"{metric}-not-worse-than-noisy" for metric in ("pesq_wb", "stoi", "si_sdr"))
    worse = run(rows=with_int8(*quality(1.49)))
    assert exit_code(gate(worse, BudgetSet(without=every[1:]))) == 1
    assert exit_code(gate(worse, BudgetSet(without=every[:1]))) == 0
    assert gate(worse, BudgetSet(without=every)) == []


def test_the_recipe_brings_its_budgets():
    listed = run(budgets=[{"metric": "pesq_wb", "min": 9}])
    assert exit_code(gate(listed, recipe_budgets(listed))) == 1
    dumped = run(budgets=recipe_budgets(listed).model_dump(mode="json"))
    assert recipe_budgets(dumped) == recipe_budgets(listed)
    assert recipe_budgets(run()) == BudgetSet()
    with pytest.raises(ConfigError, match="run r: budgets"):
        recipe_budgets(run(budgets=[{"metric": "pesq_wb"}]))
    with pytest.raises(ConfigError):
        recipe_budgets(run(budgets="none"))
