"""Properties of the gate over random budgets and measurements."""

from hypothesis import given, settings
from hypothesis import strategies as st

from earshot.ci.budget import Budget
from earshot.ci.gate import judge
from earshot.ci.run_file import Row
from earshot.ci.verdict import Status
from earshot.core.measurement import Measurement, Provenance

ORDER = list(Status)
numbers = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-400, 400).map(lambda value: value / 100),  # decimals that meet their limits exactly
)
not_negative = numbers.map(abs)
steps = st.one_of(st.just(0.0), not_negative)


def measurements(metric):
    return st.builds(
        Measurement,
        metric=st.just(metric),
        value=st.one_of(st.none(), st.just(float("nan")), numbers),
        unit=st.just("MOS" if metric == "pesq_wb" else "1"),
        n=st.integers(0, 40),
        provenance=st.sampled_from(Provenance),
        failed=st.integers(0, 2),
    )


@st.composite
def cases(draw):
    """Rows, a budget, and the same budget with every limit as tight or tighter."""
    metric = draw(st.sampled_from(["pesq_wb", "rtf"]))
    rows = [
        Row(row=name, measurements=tuple(draw(st.lists(measurements(metric), max_size=2))))
        for name in ("noisy", "convert:int8")
    ]
    allow = draw(st.tuples(*[st.sampled_from(["measured", "emulated", "estimated"])] * 2).map(sorted))
    ladder = ["measured", "emulated", "estimated"]
    allow = sorted(allow, key=ladder.index)
    loose = {"allow": allow[1], "min_n": draw(st.integers(0, 40)), "max_failed": draw(st.integers(0, 2))}
    tight = {
        "allow": allow[0],
        "min_n": loose["min_n"] + draw(st.integers(0, 5)),
        "max_failed": draw(st.integers(0, loose["max_failed"])),
    }
    kind = draw(st.sampled_from(["min", "max", "max_loss", "min_gain"]))
    if kind in ("min", "max"):
        limit, step = draw(numbers), draw(steps)
        tighter = limit + step if kind == "min" else limit - step
    else:
        limit = draw(not_negative)
        tighter = draw(st.floats(0, limit)) if kind == "max_loss" else limit + draw(steps)
        loose["relative_to"] = tight["relative_to"] = "noisy"
    bounded = max(-1.7e308, min(1.7e308, tighter))
    return rows, Budget(metric=metric, **loose, **{kind: limit}), Budget(metric=metric, **tight, **{kind: bounded})


@settings(max_examples=400, deadline=None)
@given(cases())
def test_tightening_a_budget_never_turns_a_fail_into_a_pass(case):
    rows, loose, tight = case
    (before,), (after,) = judge([loose], rows), judge([tight], rows)
    assert ORDER.index(after.status) >= ORDER.index(before.status)


def test_the_property_can_fail():
    """Negative control: loosening does turn a fail into a pass."""
    rows = [Row(row="convert:int8", measurements=(Measurement("pesq_wb", 2.0, "MOS"),))]
    tight, loose = Budget(metric="pesq_wb", min=2.1), Budget(metric="pesq_wb", min=1.9)
    assert [verdict.status for verdict in judge([tight, loose], rows)] == [Status.FAIL, Status.PASS]


@settings(max_examples=300, deadline=None)
@given(cases())
def test_only_trusted_values_pass_and_verdicts_are_json(case):
    rows, budget, _ = case
    (verdict,) = judge([budget], rows)
    assert verdict.reason
    if verdict.status is Status.PASS:
        assert verdict.provenance in budget.allowed
        assert verdict.n is not None and verdict.n >= budget.min_n
        assert verdict.value is not None
        if budget.min is not None:
            assert verdict.value >= budget.min - 1e-9 * max(1.0, abs(verdict.value))
