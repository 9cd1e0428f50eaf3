"""A metric over runs: changes by hand, gaps and breaks with their reasons, limits, and every form it is shown in."""

import csv
import io
import json
from dataclasses import replace
from itertools import pairwise

import jsonschema
import pytest
from rich.console import Console
from sample_history import entry, schema
from sample_runs import HOST, INT8

from earshot.ci.history import Entry, trace
from earshot.ci.report import chart
from earshot.ci.report import history as report
from earshot.ci.report.html.axis import Axis
from earshot.ci.verdict import Status, Verdict
from earshot.core.errors import UsageError
from earshot.core.measurement import Provenance

OTHER_ENGINE = HOST | {"runtime_version": "2.4.0"}


def points(entries, metric="pesq_wb", **asked):
    (series,) = trace(entries, metric, **asked).series
    return series.points


def text(history, width=100):
    console = Console(width=width, color_system=None, record=True, file=io.StringIO())
    console.print(report.render(history, width))
    return console.export_text()


def test_changes_are_to_the_number_before():
    found = points([entry("a", (2.0, 3.0)), entry("b", (2.5, 3.0)), entry("c", (2.5, 2.0))])
    assert [one.number.value for one in found] == [2.5, 2.75, 2.25]
    assert [one.change for one in found] == [None, 0.25, -0.5]
    assert [one.since for one in found] == [None, "a", "b"]
    assert [one.apart for one in found] == [None] * 3


def test_a_number_is_held_against_the_newest_before_that_compares():
    history = trace([entry("a", (1.0, 1.0)), entry("b", (5.0, 5.0), dataset="two"), entry("c", (2.0, 1.0))], "pesq_wb")
    last = history.series[0].points[2]
    assert (last.since, last.change) == ("a", 0.5) and "another evaluation set: two in b" in last.apart
    assert "+0.5 (50 %) since 1" in text(history)
    assert [report.joined(history.series[0], index) for index in range(3)] == [False, False, False]


def test_a_metric_of_one_group():
    assert [one.number.value for one in points([entry("a", (2.0, 3.0, 4.0))], "pesq_wb[even]")] == [3.0]


@pytest.mark.parametrize(
    ("metric", "other", "reason"),
    [
        ("pesq_wb", {"dataset": "two"}, "another evaluation set: one in a, two here"),
        ("pesq_wb", {"protocol": "pesq 1"}, "another protocol: 'pesq 0.0.4' in a, 'pesq 1' here"),
        ("pesq_wb", {"pesq": (2.0, 3.0, 2.0)}, "other clips"),
        ("pesq_wb", {"pesq": (2.0, None)}, "1 could be scored in a alone, 0 here alone"),
        ("pesq_wb[even]", {"pesq": (None, 3.0), "dataset": "two"}, None),  # a gap, and no break
        ("rtf", {"host": OTHER_ENGINE}, "another engine version: 2.3.0 in a, 2.4.0 here"),
        ("rtf", {"host": HOST | {"cpu": "another"}}, "another processor"),
        ("rtf", {"provenance": Provenance.ESTIMATED}, "measured in a, estimated here"),
        ("rtf", {"flags": ("lower-bound",)}, "a lower bound here only"),
        # Negative controls: what does not bear on a metric does not part its numbers.
        ("rtf", {"dataset": "two"}, None),
        ("rtf", {"flags": ("throttled",)}, None),
        ("pesq_wb", {"host": OTHER_ENGINE}, None),
        ("pesq_wb[even]", {"pesq": (2.0, None)}, None),
        ("model_bytes", {"host": OTHER_ENGINE, "dataset": "two"}, None),
        ("instructions_per_frame", {"host": OTHER_ENGINE}, None),
    ],
)
def test_what_does_not_compare_breaks_the_line(metric, other, reason):
    history = trace([entry("a"), entry("b", **other), entry("c", **other)], metric)
    (series,) = history.series
    assert all(point.apart is None for point in (series.points[0], series.points[2]))
    if reason is None:
        assert series.points[1].apart is None
        return
    assert reason in series.points[1].apart and series.points[1].change is None
    assert [report.joined(series, index) for index in range(3)] == [False, False, True]
    assert "╎" in text(history) and "2 does not compare with the number before: " in text(history)


def test_numbers_without_evidence_compare_with_nothing():
    bare = [replace(one, evidence=one.evidence.model_copy(update={"scores": {}, "timings": ()}))
            for one in (entry("a"), entry("b"))]  # fmt: skip
    assert "keeps no scores" in points(bare)[1].apart
    assert "does not say what its numbers" in points(bare, "rtf")[1].apart
    assert points(bare, "model_bytes")[1].change == 0


def test_gaps_keep_their_place_and_their_reason():
    entries = [
        entry("a"),
        Entry("gone", ("v2",), problem="runs/gone.json: no such run"),
        entry("lost", (None, None)),
        entry("failed", status="failed", error="convert died"),
        replace(entry("empty"), evidence=entry("empty").evidence.model_copy(update={"rows": ()})),
        entry("b", (4.0, 4.0)),
    ]
    found = points(entries)
    assert [one.name for one in found] == [one.name for one in entries]
    assert [one.number is None for one in found] == [False, True, True, False, True, False]
    assert found[1].reason == "runs/gone.json: no such run"
    assert found[2].reason == "could not be measured: too quiet"
    assert found[3].failed and found[3].number.value == 2.5
    assert "no row that ships" in found[4].reason
    assert (found[5].since, found[5].change) == ("failed", 1.5)
    (series,) = trace(entries, "pesq_wb").series
    assert [report.joined(series, index) for index in range(6)] == [False, False, False, False, False, False]
    shown = text(trace(entries, "pesq_wb"))
    for words in ("∅ 2: runs/gone.json", "∅ 3: could not be", "4: its run failed half-way", "not measured"):
        assert words in shown


def test_a_target_that_failed_is_the_reason_of_its_gap():
    lost = entry("b", instructions=None, failures=[{"target": "m4", "error": "no QEMU"}])
    found = points([entry("a"), lost], "instructions_per_frame")
    assert found[1].reason == "target m4 failed: no QEMU"
    left_out = [{"target": "m4", "row": INT8, "reason": "too large"}]
    assert points([entry("a"), entry("b", instructions=None, left_out=left_out)], "instructions_per_frame")[
        1
    ].reason == ("too large")
    plain = points([entry("a"), entry("b", instructions=None)], "instructions_per_frame")
    assert plain[1].reason == f"was not measured in row {INT8} on m4"


def test_a_series_for_every_target():
    both = entry("a")
    rtf = replace(both.evidence.rows[0].find("rtf")[0], target="phone", value=0.5)
    row = both.evidence.rows[0].model_copy(update={"measurements": (*both.evidence.rows[0].measurements, rtf)})
    both = replace(both, evidence=both.evidence.model_copy(update={"rows": (row,)}))
    history = trace([both, entry("b")], "rtf")
    assert [(one.target, [point.number is None for point in one.points]) for one in history.series] == [
        ("host", [False, False]),
        ("phone", [False, True]),
    ]
    assert [one.target for one in trace([both], "rtf", target="phone").series] == ["phone"]


@pytest.mark.parametrize(
    ("asked", "message", "hint"),
    [
        ({"metric": "pesq_bw"}, "unknown metric 'pesq_bw'; did you mean 'pesq_wb'?", "model_bytes, rtf"),
        ({"metric": "stoi"}, "stoi was not measured in any of the runs", "pesq_wb"),
        ({"metric": "pesq_wb[evn]"}, "did you mean 'pesq_wb[even]'?", "pesq_wb, pesq_wb[even]"),
        ({"metric": "rtf", "target": "hots"}, "no run has rtf on 'hots'; did you mean 'host'?", "measured on: host"),
        ({"metric": "pesq_wb", "target": "host"}, "pesq_wb does not depend on a target", "leave out --target"),
        ({"metric": "pesq_wb", "row": "convert:in8"}, "did you mean 'convert:int8'?", "rows: convert:int8"),
    ],
)
def test_unknown_names_say_what_there_is(asked, message, hint):
    with pytest.raises(UsageError) as raised:
        trace([entry("a"), entry("b")], **asked)
    assert message in raised.value.message and hint in raised.value.hint


def test_runs_that_none_can_be_read_of_are_an_error():
    with pytest.raises(UsageError, match="none of the runs can be read: a: no such run"):
        trace([Entry("a", ("v1",), problem="no such run")], "pesq_wb")


def test_a_metric_that_no_run_could_measure_is_an_error():
    with pytest.raises(UsageError, match="could not be measured in any of the runs: too quiet"):
        trace([entry("a", (None,))], "pesq_wb")


BUDGETS = [
    {"metric": "pesq_wb", "min": 2.2},
    {"metric": "pesq_wb", "min": 2.4, "severity": "warn"},
    {"metric": "pesq_wb", "min": 1.0, "stage": "distill"},
    {"metric": "pesq_wb", "relative_to": "baseline", "max_loss": 0.02},
    {"metric": "rtf", "target": "host", "max": 0.02},
    {"metric": "rtf", "target": "phone", "max": 0.5},
    {"metric": "model_bytes", "min": 10, "max": 2000},
]


def test_limits_are_those_of_the_newest_run():
    title = "pesq_wb at most 0.02 MOS worse than the baseline"
    judged = Verdict(title, Status.PASS, "", metric="pesq_wb", row=INT8, reference=2.45, value=2.5)
    old = entry("a", recipe={"budgets": [{"metric": "pesq_wb", "min": 0.5}]})
    new = entry("b", recipe={"budgets": BUDGETS}, verdicts=[judged])
    history = trace([old, new, Entry("gone", problem="gone")], "pesq_wb")
    assert history.limits_of == "b"
    limits = [(one.value, one.side, one.severity) for one in history.series[0].limits]
    assert limits == [(2.2, "min", "fail"), (2.4, "min", "warn"), (pytest.approx(2.43), "min", "fail")]
    assert [one.value for one in trace([old, new], "rtf").series[0].limits] == [0.02]
    found = trace([old, new], "model_bytes").series[0].limits
    assert [(one.value, one.side) for one in found] == [(10, "min"), (2000, "max")]
    assert [one.value for one in trace([new, old], "pesq_wb").series[0].limits] == [0.5]


def test_budgets_that_cannot_be_read_are_named():
    history = trace([entry("a", recipe={"budgets": [{"metric": "nonsense"}]})], "pesq_wb")
    assert history.limits_of is None and "no limits are shown: run a: budgets" in history.notes[0]


def test_a_limit_far_away_is_told_in_words():
    near, far = {"metric": "rtf", "max": 0.0105}, {"metric": "rtf", "max": 5.0}
    history = trace([entry("a", rtf=0.01), entry("b", rtf=0.011, recipe={"budgets": [near, far]})], "rtf")
    axis, drawn, beyond = report.scale(history.series[0])
    assert [one.value for one in drawn] == [0.0105] and [one.value for one in beyond] == [5.0]
    assert axis.place(0.011) - axis.place(0.01) >= report.LEAST_SHARE
    assert "beyond the chart: ≤ 5 (budget rtf ≤ 5)" in text(history)


def test_the_chart_puts_numbers_and_limits_where_the_axis_says():
    spots = [chart.Spot(0.0), chart.Spot(10.0, "◇", joined=True), chart.Spot(None, "∅"), chart.Spot(5.0, broken=True)]
    lines = [line.plain for line in chart.draw(spots, Axis("", 0, 10), [chart.Across(5.0, "≤ 5")], 60)]
    assert len(lines) == chart.HEIGHT + 1
    column = lines[-1].index("1")
    assert lines[-2][column] == "●" and lines[0][lines[-1].index("2")] == "◇"  # lowest and highest
    assert lines[-2][lines[-1].index("3")] == "∅"
    middle = (chart.HEIGHT - 1) // 2
    assert lines[middle].endswith("≤ 5") and lines[middle][lines[-1].index("4")] == "●" and "┄" in lines[middle]
    assert all("╎" in line for index, line in enumerate(lines[:-1]) if index != middle)
    joined = [line for line in lines[1:-2] if any(0x2800 < ord(sign) < 0x2900 for sign in line)]
    assert len(joined) == chart.HEIGHT - 2 and max(map(len, lines)) <= 60


@pytest.mark.parametrize("count", [1, 2, 50, 300])
@pytest.mark.parametrize("width", [40, 100])
def test_the_chart_is_never_wider_than_the_terminal(count, width):
    spots = [chart.Spot(float(index % 7), joined=True) for index in range(count)]
    lines = chart.draw(spots, Axis("", 0, 7), [chart.Across(3.0, "≤ 3 MOS")], width)
    assert max(len(line.plain) for line in lines) <= width
    numbers = [int(word) for word in lines[-1].plain.split()]
    steps = {after - before for before, after in pairwise(numbers[1:])}
    assert numbers[0] == 1 and len(steps) <= 1 and numbers[-1] > count * 0.6


def test_json_keeps_all_of_it_and_its_schema():
    entries = [entry("a"), Entry("gone", ("v",), problem="gone"), entry("b", dataset="two"), entry("c", dataset="two")]
    entries[3].run.recipe["budgets"] = BUDGETS[:1]
    data = json.loads(report.render_json(trace(entries, "pesq_wb", notes=["a note"])))
    schema("history.schema.json").validate(data)
    (series,) = data["series"]
    assert [point["run"] for point in series["points"]] == ["a", "gone", "b", "c"]
    assert [point.get("measurement", {}).get("value") for point in series["points"]] == [2.5, None, 2.5, 2.5]
    assert (series["points"][1]["reason"], series["points"][3]["change"]) == ("gone", 0)
    assert series["limits"] == [{"value": 2.2, "side": "min", "budget": "pesq_wb ≥ 2.2 MOS", "severity": "fail"}]
    assert data["notes"] == ["a note"]
    for wrong in ({"reason": "and a number"}, {"since": "a"}, {"more": 1}):
        with pytest.raises(jsonschema.ValidationError):
            point = series["points"][0] | wrong
            schema("history.schema.json").validate(data | {"series": [series | {"points": [point]}]})


def test_csv_and_markdown_are_inert():
    hostile = entry("=1+1", tags=("<b>", "@all"))
    history = trace([hostile, Entry("gone|x", problem="-cmd")], "pesq_wb")
    rows = list(csv.DictReader(io.StringIO(report.render_csv(history))))
    assert [(row["run"], row["value"]) for row in rows] == [("'=1+1", "2.5"), ("gone|x", "")]
    assert rows[1]["reason"] == "'-cmd" and rows[0]["provenance"] == "measured"
    shown = report.render_markdown(history)
    assert "<b>" not in shown and "@all" not in shown and "gone|x" not in shown and "2.5" in shown


def test_provenance_and_flags_are_shown():
    stand_in = text(trace([entry("a", provenance=Provenance.TEST_DOUBLE, flags=("throttled",))], "rtf"))
    assert "stand-in, never accepted, throttled" in stand_in and "✕" in stand_in
