"""Budgets against a baseline: pass, fail, and the state between; baseline files; what the reports make of them."""

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import jsonschema
import pytest
from referencing import Registry, Resource
from sample_runs import INT8, clips, make, race

from earshot.ci.budget import Budget
from earshot.ci.budget_set import BudgetSet
from earshot.ci.difference import Pair
from earshot.ci.evidence import SCHEMA, baseline_text, read_baseline
from earshot.ci.gate import gate, judge
from earshot.ci.report import annotations, differences, junit, layout, markdown
from earshot.ci.report import json as json_report
from earshot.ci.run_file import Run
from earshot.ci.verdict import Status, exit_code
from earshot.core.errors import ArtifactError, ConfigError, UsageError
from earshot.core.measurement import Measurement

SCHEMAS = Path(__file__).parents[2] / "ci" / "schema"


def verdict(pair, **budget):
    (found,) = judge([Budget(**{"relative_to": "baseline", **budget})], pair.candidate.rows, None, pair)
    return found


def schema(name):
    found = {path.name: json.loads(path.read_text()) for path in SCHEMAS.glob("*.json")}
    registry = Registry().with_resources((one["$id"], Resource.from_contents(one)) for one in found.values())
    return jsonschema.Draft202012Validator(found[name], registry=registry)


# A loss of 0.05 with a spread of 0.1 over 120 clips: 95 % between 0.04 and 0.08.
LOST = Pair(make("base"), make("candidate", clips(shift=-0.05, spread=0.1)))
NOISY = Pair(make("base"), make("candidate", clips(shift=-0.005, spread=0.3, seed=4)))


@pytest.mark.parametrize(
    ("pair", "budget", "status"),
    [
        (LOST, {"max_loss": 0.02}, "fail"),
        (LOST, {"max_loss": 0.06}, "undecided"),
        (LOST, {"max_loss": 0.1}, "pass"),
        (LOST, {"max_loss_percent": 0.8}, "fail"),
        (LOST, {"max_loss_percent": 4}, "pass"),
        # Of two allowances the larger counts.
        (LOST, {"max_loss_percent": 4, "max_loss": 0.001}, "pass"),
        (LOST, {"max_loss_percent": 0.001, "max_loss": 0.1}, "pass"),
        (LOST, {"min_gain": 0.01}, "fail"),
        (NOISY, {"max_loss": 0.02}, "undecided"),
        (NOISY, {"max_loss": 0.2}, "pass"),
        (Pair(make(), make()), {"max_loss": 0}, "pass"),
        (Pair(make(), make(pesq=clips(shift=0.05, spread=0.1))), {"max_loss": 0}, "pass"),
        (Pair(make(), make(pesq=clips(shift=0.05, spread=0.1))), {"min_gain": 0.01}, "pass"),
    ],
)
def test_the_whole_interval_has_to_keep_the_limit(pair, budget, status):
    found = verdict(pair, metric="pesq_wb", **budget)
    assert found.status == status
    assert exit_code([found]) == (0 if status == "pass" else 1)
    if status != "pass":
        assert "worst clips: clip" in found.reason
    if status == "undecided":
        assert "not decidable" in found.reason
        low, high = found.interval
        assert low <= budget.get("max_loss", 0) <= high


def test_undecided_warns_where_the_budget_says_so_and_a_clear_loss_still_fails():
    assert verdict(NOISY, metric="pesq_wb", max_loss=0.02, undecided="warn").status is Status.WARN
    assert verdict(NOISY, metric="pesq_wb", max_loss=0.02, severity="warn").status is Status.WARN
    assert verdict(LOST, metric="pesq_wb", max_loss=0.02, undecided="warn").status is Status.FAIL


@pytest.mark.parametrize(
    ("ratio", "spread", "status"),
    [
        (1.0, 0.02, "pass"),
        (1.10, 0.02, "fail"),
        (1.05, 0.02, "undecided"),
        (1.0, 0.5, "undecided"),
        (0.8, 0.02, "pass"),
    ],
)
def test_times_by_turns(ratio, spread, status):
    pair = Pair(make(), make(), (race(ratio, spread=spread),))
    assert verdict(pair, metric="frame_p50_us", target="host", max_loss_percent=5).status == status


def test_counts_have_no_noise():
    pair = Pair(make(), make(instructions=1010.0))
    assert verdict(pair, metric="instructions_per_frame", max_loss_percent=1).status is Status.PASS
    assert verdict(pair, metric="instructions_per_frame", max_loss=9).status is Status.FAIL


def test_what_does_not_compare_fails_with_the_reason():
    found = verdict(Pair(make("base"), make(dataset="e" * 64)), metric="pesq_wb", max_loss=10)
    assert found.status is Status.FAIL
    assert "not comparable with the baseline base: another evaluation set" in found.reason
    few = verdict(LOST, metric="pesq_wb", max_loss=10, min_n=121)
    assert (few.status, few.margin) == (Status.FAIL, None)
    assert verdict(LOST, metric="pesq_wb", max_loss=10, min_n=120).status is Status.PASS
    half = verdict(Pair(make(pesq=[None] * 60 + clips()[60:]), make()), metric="pesq_wb", max_loss=10, min_n=100)
    assert half.status is Status.FAIL


def test_a_value_that_cannot_be_trusted_in_the_baseline_does_not_pass():
    base = make("base")
    untrusted = Measurement("pesq_wb", 2.0, "MOS", 120, failed=3, reason="clip004: silent")
    row = base.rows[0].model_copy(update={"measurements": (untrusted, *base.rows[0].measurements[1:])})
    found = verdict(Pair(base.model_copy(update={"rows": (row,)}), make()), metric="pesq_wb", max_loss=10)
    assert found.status is Status.FAIL
    assert "baseline base: 3 samples could not be scored" in found.reason


def test_without_a_baseline_there_is_no_verdict_at_all():
    run = Run(name="r", status="complete", rows=make().rows)
    needing = BudgetSet(budgets=(Budget(metric="pesq_wb", relative_to="baseline", max_loss=1),))
    with pytest.raises(UsageError, match="compares with a baseline, and there is none"):
        gate(run, needing)
    assert [found.metric for found in gate(run, needing.without_baseline())] == ["pesq_wb", "stoi", "si_sdr"]


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        ({"metric": "pesq_wb"}, "exactly one of max_loss"),
        ({"metric": "pesq_wb", "max_loss": 1, "min_gain": 1}, "exactly one of max_loss"),
        ({"metric": "pesq_wb", "min": 1, "max_loss": 1}, "do not go with relative_to"),
        ({"metric": "deadline_misses", "max_loss": 1}, "does not compare with a baseline"),
        ({"metric": "pesq_wb", "max_loss": -1}, "greater than or equal to 0"),
        ({"metric": "pesq_wb", "relative_to": "noisy", "max_loss": 1, "undecided": "warn"}, "undecided goes with"),
        ({"metric": "pesq_wb", "stage": "baseline", "max_loss": 1}, "no row 'baseline'"),
        ({"metric": "pesq_wb", "relative_to": "base", "max_loss": 1}, "did you mean 'baseline'"),
    ],
)
def test_wrong_budgets_are_refused(budget, message):
    with pytest.raises((ConfigError, ValueError), match=message):
        Budget(**{"relative_to": "baseline", **budget})


def test_a_baseline_file_comes_back_as_it_was(tmp_path):
    evidence = make("base", [None, *clips()[1:]])
    path = tmp_path / "base.json"
    path.write_text(baseline_text(evidence))
    schema("baseline.schema.json").validate(json.loads(path.read_text()))
    back = read_baseline(path)
    assert back.name == str(path)
    assert back.model_copy(update={"name": evidence.name}) == evidence
    assert baseline_text(back) == baseline_text(evidence)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: None, "no such baseline"),
        (lambda text: text.replace(SCHEMA, "earshot.baseline/2"), "schema is 'earshot.baseline/2'"),
        (lambda text: text.replace('"run": "base"', '"run": "bass"'), "does not match its digest"),
        (lambda text: text.replace("99792", "99793", 1), "does not match its digest"),
        (lambda text: text[: len(text) // 2], "a damaged one"),
        (lambda text: "[1, 2]", "schema is 'None'"),
        (lambda text: text.replace("99792.0", "NaN", 1), "NaN is not JSON"),
        (lambda text: text.replace("99792.0", "1e999", 1), "does not match its digest"),
        (lambda text: text.replace("clip004", "\\ud800", 1), "does not match its digest"),
        (lambda text: text.replace("clip004", "\\u0000", 1), "does not match its digest"),
        (lambda text: "[" * 100_000, "a damaged one"),
        (lambda text: '{"a":' * 100_000, "a damaged one"),
    ],
)
def test_a_baseline_that_is_missing_foreign_or_damaged_is_refused(tmp_path, change, message):
    path = tmp_path / "base.json"
    changed = change(baseline_text(make("base")))
    if changed is not None:
        path.write_text(changed)
    with pytest.raises(ArtifactError, match=message) as caught:
        read_baseline(path)
    assert caught.value.exit_code == 2
    assert "earshot baseline RUN FILE" in (caught.value.hint or "")


def test_reports_carry_the_state_between():
    run = Run(name="r", status="complete", rows=NOISY.candidate.rows)
    found = [
        verdict(NOISY, metric="pesq_wb", max_loss=0.02),
        verdict(LOST, metric="pesq_wb", max_loss=0.02, name="a,b"),
    ]
    assert layout.summary(run, found) == "r: fail, 2 budgets, 1 failed, 1 not decidable"
    assert layout.summary(run, found[:1]) == "r: fail, 1 budgets, 1 not decidable"
    result = json.loads(json_report.render(run, found))
    schema("result.schema.json").validate(result)
    assert (result["passed"], result["verdicts"][0]["status"]) == (False, "undecided")
    suite = ElementTree.fromstring(junit.render(run, found))
    assert suite.get("failures") == "2"
    assert [case.find("failure").get("type") for case in suite.iter("testcase")] == ["undecided", "budget"]
    text = markdown.render(run, found)
    assert text.index("❌ fail") < text.index("❔ not decidable")


def test_annotations_are_one_line_each_and_nothing_in_them_is_a_command():
    found = [
        verdict(LOST, metric="pesq_wb", max_loss=0.02, name="50 %: a,b\n::error::x"),
        verdict(NOISY, metric="pesq_wb", max_loss=0.02, undecided="warn"),
        verdict(NOISY, metric="pesq_wb", max_loss=0.02),
        verdict(LOST, metric="pesq_wb", max_loss=1),
    ]
    lines = annotations.render(found).splitlines()
    assert [line.split(" ")[0] for line in lines] == ["::error", "::warning", "::error"]
    assert lines[0].startswith("::error title=earshot%3A 50 %25%3A a%2Cb %3A%3Aerror%3A%3Ax::")
    assert "not decidable" in lines[2]
    assert annotations.render(found[3:]) == ""


def test_a_comparison_as_data_and_as_markdown():
    pair = Pair(make("base"), make("<b>candidate</b>", clips(shift=-0.05, spread=0.1), dataset="d" * 64, machine="x"))
    found = list(pair.differences())
    verdicts = [verdict(LOST, metric="pesq_wb", max_loss=0.02)]
    data = json.loads(differences.render_json(pair, found, verdicts))
    schema("differences.schema.json").validate(data)
    assert {one["metric"]: one["outcome"] for one in data["differences"]} == {
        "pesq_wb": "worse", "model_bytes": "same", "frame_p50_us": "not comparable", "instructions_per_frame": "same",
    }  # fmt: skip
    assert data["passed"] is False
    text = differences.render_markdown(pair, found, verdicts)
    assert "<b>" not in text
    assert "another machine of the same kind" in text
    assert "worst clips in pesq" in text
    assert INT8.replace(":", "") in text.replace(":", "")


def test_a_race_that_did_not_get_far_is_undecided_and_says_why():
    few = replace(race(1.0, rounds=3), ended="its 300 s were up; raise timeout_seconds")
    found = verdict(Pair(make(), make(), (few,)), metric="frame_p50_us", target="host", max_loss_percent=50)
    assert found.status is Status.UNDECIDED and exit_code([found]) == 1
    assert "3 rounds by turns, an interval needs 8: its 300 s were up" in found.reason
    whole = verdict(Pair(make(), make(), (race(1.0),)), metric="frame_p50_us", target="host", max_loss_percent=50)
    assert whole.status is Status.PASS
    pair = Pair(make(), make(), (few,))
    data = differences.render_json(pair, list(pair.differences()), [found])
    schema("differences.schema.json").validate(json.loads(data))
    assert "not decidable: frame" in differences.render_markdown(pair, list(pair.differences()), [])


def test_names_in_a_baseline_steer_no_report(tmp_path):
    """A baseline anyone may write, its digest right: what its clips are called is shown, and does nothing."""
    names = ("\x1b[2J", "a\nb", "x\0y", "../../etc", "<b>", *(f"clip{number:03}" for number in range(5, 120)))
    base, candidate = (make(name, pesq) for name, pesq in (("base", clips()), ("here", [v - 0.5 for v in clips()])))
    sides = []
    for side in (base, candidate):
        scores = side.scores[INT8].model_copy(update={"clips": names})
        values = list(scores.values["pesq_wb"])
        if side is candidate:
            values[:5] = [value - 1 - number / 10 for number, value in enumerate(values[:5])]
        scores = scores.model_copy(update={"values": {"pesq_wb": tuple(values)}})
        sides.append(side.model_copy(update={"scores": {INT8: scores}}))
    path = tmp_path / "base.json"
    path.write_text(baseline_text(sides[0]))
    pair = Pair(read_baseline(path), sides[1])
    found = list(pair.differences())
    (quality,) = (one for one in found if one.metric == "pesq_wb")
    assert [clip for clip, _ in quality.worst] == ["<b>", "../../etc", "x\0y"]
    judged = verdict(pair, metric="pesq_wb", max_loss=0.1)
    run = Run(name="r", status="complete", rows=sides[1].rows)
    texts = [
        differences.render_markdown(pair, found, [judged]), markdown.render(run, [judged]),
        annotations.render([judged]), junit.render(run, [judged]),
    ]  # fmt: skip
    for text in texts:
        assert "etc" in text
        assert not set("\x1b\0") & set(text)
    assert all("<b>" not in text for text in (*texts[:2], texts[3]))  # an annotation is text
    assert annotations.render([judged]).count("\n") == 1
