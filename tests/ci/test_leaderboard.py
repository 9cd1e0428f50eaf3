"""Fronts of quality, cost and size: known ones, and random ones against every pair compared by brute force."""

import csv
import io
import json
from dataclasses import replace

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from sample_history import KNOWN, NEVER, candidate, schema
from sample_runs import HOST, INT8

from earshot.ci.leaderboard import rank
from earshot.ci.report import leaderboard as report
from earshot.ci.report.html.leaderboard import COST, steps
from earshot.ci.run_file import Row
from earshot.ci.verdict import Status, Verdict
from earshot.core.errors import UsageError
from earshot.core.measurement import Measurement, Provenance

AXES = ("pesq_wb", "rtf", "model_bytes")


def front(table):
    return {place.name for place in table.places if place.on_front}


def test_a_known_front():
    (table,) = rank(KNOWN).tables
    assert front(table) == {"best", "fast", "small", "twin of small"}
    by_name = {place.name: place for place in table.places}
    assert by_name["beaten"].beaten_by == ("best",)
    assert by_name["slower"].beaten_by == ("fast",)
    assert set(by_name["beaten twice"].beaten_by) == {"best", "fast", "small", "twin of small"}
    values = [place.numbers[0].value for place in table.places]
    assert values == sorted(values, reverse=True) and table.places[0].name == "best"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(*[st.integers(1, 4)] * 3), min_size=1, max_size=9))
def test_the_front_is_what_no_other_dominates(triples):
    entries = [candidate(str(index), quality, cost, size) for index, (quality, cost, size) in enumerate(triples)]
    (table,) = rank(entries).tables
    beaten = {
        index: {
            other
            for other, (q, c, s) in enumerate(triples)
            if q >= quality and c <= cost and s <= size and (q, c, s) != (quality, cost, size)
        }
        for index, (quality, cost, size) in enumerate(triples)
    }
    expected = {index for index, by in beaten.items() if not by}
    assert front(table) == {str(index) for index in expected}
    for place in table.places:
        by = {str(other) for other in beaten[int(place.name)] & expected}
        assert set(place.beaten_by) == by
        assert bool(by) != place.on_front
    corners = steps(AXES, table, COST)
    levels = [max(q for q, c, _ in triples if c <= cost) for cost in sorted({c for _, c, _ in triples})]
    assert [y for _, y in corners[::2]] == sorted(set(levels))  # the line rises by what is reached at each cost
    assert [x for x, _ in corners] == sorted(x for x, _ in corners)


def test_a_metric_that_is_better_when_higher_counts_that_way():
    entries = [candidate("a", 3.0, 0.1, 100), candidate("b", 2.0, 0.1, 100)]
    assert front(rank(entries).tables[0]) == {"a"}
    swapped = rank(entries, ("model_bytes", "rtf", "pesq_wb"))
    assert front(swapped.tables[0]) == {"a"}


OTHERS = [
    {"dataset": "two"},
    {"protocol": "pesq 1"},
    {"host": HOST | {"runtime_version": "2.4.0"}},
    {"host": HOST | {"cpu": "another"}},
    {"provenance": Provenance.ESTIMATED},
]


@pytest.mark.parametrize("other", OTHERS)
def test_what_does_not_compare_has_a_table_of_its_own(other):
    best = candidate("best", 3.0, 0.01, 100)
    board = rank([best, candidate("worse", 2.0, 0.02, 200), candidate("apart", 2.0, 0.02, 200, **other)])
    assert [front(table) for table in board.tables] == [{"best"}, {"apart"}]
    assert board.tables[0].apart is None and " in best, " in board.tables[1].apart
    assert f"a table of its own: {board.tables[1].apart}" in text(board)


def test_targets_have_tables_of_their_own():
    board = rank(KNOWN, ("pesq_wb", "instructions_per_frame", "model_bytes"))
    assert [table.target for table in board.tables] == ["m4"]
    row = KNOWN[0].evidence.rows[0]
    phone = replace(row.find("rtf")[0], target="phone")
    row = row.model_copy(update={"measurements": (*row.measurements, phone)})
    timings = (*KNOWN[0].evidence.timings, KNOWN[0].evidence.timings[0].model_copy(update={"target": "phone"}))
    both = replace(KNOWN[0], evidence=KNOWN[0].evidence.model_copy(update={"rows": (row,), "timings": timings}))
    board = rank([both, KNOWN[1]])
    assert [(table.target, len(table.places)) for table in board.tables] == [("host", 2), ("phone", 1)]
    only = rank([both, KNOWN[1]], target="phone")
    assert [table.target for table in only.tables] == ["phone"]
    assert [(place.name, place.reason) for place in only.unranked] == [
        ("fast", f"rtf was not measured in row {INT8} on phone")
    ]


@pytest.mark.parametrize("reason", NEVER)
def test_what_never_is_on_the_front(reason):
    board = rank([candidate("a", 2.0, 0.02, 200), NEVER[reason]])
    assert [front(table) for table in board.tables] == [{"a"}]
    assert [place.name for place in board.unranked] == ["x"] and reason in board.unranked[0].reason
    assert "not ranked: x" in text(board)


def test_the_best_of_all_is_on_the_front_unless_something_is_wrong_with_it():
    board = rank([candidate("a", 2.0, 0.02, 200), candidate("x", 5.0, 0.001, 1)])  # control of those above
    assert front(board.tables[0]) == {"x"}


def test_verdicts_are_shown():
    def judged(name, *statuses):
        verdicts = [Verdict("b", status, "r", row=INT8) for status in statuses]
        return candidate(name, 2.0, 0.02, 200, verdicts=verdicts)

    found = {
        place.name: place.verdict
        for place in rank(
            [judged("a", Status.PASS), judged("b", Status.PASS, Status.FAIL), judged("c", Status.WARN), judged("d")]
        )
        .tables[0]
        .places
    }
    assert found == {"a": Status.PASS, "b": Status.FAIL, "c": Status.WARN, "d": None}


def test_all_rows_or_those_that_ship():
    one = KNOWN[0]
    other = one.evidence.rows[0].model_copy(update={"row": "convert:float32"})
    noisy = Row(row="noisy", measurements=(Measurement("pesq_wb", 5.0, "MOS", 2),))
    evidence = one.evidence.model_copy(
        update={
            "rows": (noisy, other, *one.evidence.rows),
            "scores": {**one.evidence.scores, "convert:float32": one.evidence.scores[INT8]},
            "timings": (
                *one.evidence.timings,
                *(timing.model_copy(update={"row": "convert:float32"}) for timing in one.evidence.timings),
            ),
        }
    )
    entries = [replace(one, evidence=evidence)]
    assert [place.row for place in rank(entries).tables[0].places] == [INT8]
    (table,) = rank(entries, every_row=True).tables
    assert {place.title for place in table.places} == {f"best {INT8}", "best convert:float32"}


@pytest.mark.parametrize(
    ("axes", "target", "message"),
    [
        (("pesq_bw", "rtf", "model_bytes"), None, "unknown metric 'pesq_bw'; did you mean 'pesq_wb'?"),
        (("rtf", "rtf", "model_bytes"), None, "three metrics"),
        (AXES, "hots", "no run has rtf on 'hots'; did you mean 'host'?"),
        (("stoi", "rtf", "model_bytes"), None, "no run has all of stoi, rtf, model_bytes: best"),
    ],
)
def test_wrong_requests(axes, target, message):
    with pytest.raises(UsageError, match=message.replace("?", r"\?")):
        rank(KNOWN, axes, target=target)


def test_json_keeps_all_of_it_and_its_schema():
    board = rank([*KNOWN, *NEVER.values(), candidate("apart", 2.0, 1.0, 1, dataset="two")])
    data = json.loads(report.render_json(board))
    schema("leaderboard.schema.json").validate(data)
    assert (data["quality"], data["cost"], data["size"]) == AXES
    places = data["tables"][0]["places"]
    assert {place["run"] for place in places if place["front"]} == {"best", "fast", "small", "twin of small"}
    assert places[0]["quality"]["value"] == 3.0 and len(data["tables"]) == 2
    assert len(data["unranked"]) == len(NEVER)
    for wrong in ({"reason": "x"}, {"gate": "good"}, {"more": 1}):
        with pytest.raises(jsonschema.ValidationError):
            table = data["tables"][0] | {"places": [places[0] | wrong]}
            schema("leaderboard.schema.json").validate(data | {"tables": [table]})


def test_csv_and_markdown_are_inert():
    board = rank([candidate("=1+1", 2.0, 0.02, 100, tags=("<b>",)), NEVER["runs/x.json: damaged"]])
    rows = list(csv.DictReader(io.StringIO(report.render_csv(board))))
    assert [(row["table"], row["run"], row["front"]) for row in rows] == [("1", "'=1+1", "true"), ("", "x", "")]
    assert (rows[0]["rtf"], rows[1]["reason"]) == ("0.02", "runs/x.json: damaged")
    assert "<b>" not in report.render_markdown(board) and "&#9733;" in report.render_markdown(board)


def text(board):
    console = Console(width=160, color_system=None, record=True, file=io.StringIO())
    console.print(report.render(board))
    return console.export_text()
