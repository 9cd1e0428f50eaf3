"""Why budgets were missed: steps, clips, operators, memory; and what is said where something is gone."""

from __future__ import annotations

import pytest

from earshot.ci.budget import Budget
from earshot.ci.comparison import Comparison, Device, ModelResult, Operator, compare_run
from earshot.ci.costs import memory_costs, operator_costs
from earshot.ci.difference import Pair
from earshot.ci.evidence import Evidence, Scores
from earshot.ci.explain import BASELINE, Known, compared_with, explain, higher_is_better
from earshot.ci.explanation import Layer, Layers, Together
from earshot.ci.gate import judge, what_failed
from earshot.ci.run_file import Failure, Row, Run
from earshot.ci.verdict import Verdict
from earshot.ci.worst_clips import worst_clips
from earshot.core.measurement import Measurement, Provenance

CLIPS = tuple(f"clip{number}" for number in range(8))
GROUPS = ("low",) * 4 + ("high",) * 4
NOISY = (1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7)
FLOAT = tuple(value + 0.5 for value in NOISY)
INT8 = (1.4, 1.6, 1.7, 1.8, 0.9, 2.0, 1.5, 1.6)  # clips 4, 6 and 7 are below the noisy input, by 0.5, 0.1 and 0.1
SIZES = {"convert:float32": 400_000.0, "convert:int8": 120_000.0}


def scores(values, dataset="d" * 64):
    return Scores(dataset=dataset, protocol={"pesq_wb": "p"}, clips=CLIPS, groups=GROUPS, values={"pesq_wb": values})


SCORES = {"noisy": scores(NOISY), "convert:float32": scores(FLOAT), "convert:int8": scores(INT8)}


def row(name, values):
    found = [
        Measurement("pesq_wb", sum(values) / 8, "MOS", 8),
        Measurement("pesq_wb[high]", sum(values[4:]) / 4, "MOS", 4),
    ]
    if name in SIZES:
        found.append(Measurement("model_bytes", SIZES[name], "bytes"))
    return Row(row=name, measurements=tuple(found))


ROWS = (row("noisy", NOISY), row("convert:float32", FLOAT), row("convert:int8", INT8))
RUN = Run(name="night", status="complete", rows=ROWS)
EVIDENCE = Evidence(name="night", run="night", rows=ROWS, scores=SCORES)
KNOWN = Known(RUN, EVIDENCE)


def the_finding(budget, known=KNOWN, pair=None):
    (found,) = explain(known, judge([budget], known.run.rows, known.run, pair)).findings
    return found


def test_a_missed_budget_is_explained_and_a_kept_one_is_not():
    budgets = [Budget(metric="pesq_wb", min=1.6), Budget(metric="pesq_wb", min=1.0)]
    verdicts = judge(budgets, ROWS, RUN)
    assert [str(one.status) for one in verdicts] == ["fail", "pass"]
    (found,) = explain(KNOWN, verdicts).findings
    assert (found.budget, found.status, found.row) == (budgets[0].title, "fail", "convert:int8")
    assert found.limit == pytest.approx(1.6)
    assert found.waterfall is not None and found.waterfall.worst.row == "convert:int8"
    mean = sum(FLOAT) / 8 - sum(INT8) / 8
    assert (
        found.sentences[0]
        == f"rounding to int8 lost all of the {mean:.3g} MOS between the float file and the int8 file"
    )


def test_clips_are_those_furthest_below_what_the_budget_compares_with():
    against_noisy = the_finding(Budget(metric="pesq_wb", relative_to="noisy", min_gain=0.5))
    assert against_noisy.clips is not None and against_noisy.clips.against == "noisy"
    assert [one.clip for one in against_noisy.clips.clips] == ["clip4", "clip6", "clip7"]
    worst = against_noisy.clips.clips[0]
    assert (worst.value, worst.reference, worst.group) == (0.9, 1.4, "high")
    assert (against_noisy.clips.lost, against_noisy.clips.n) == (3, 8)
    against_float = the_finding(Budget(metric="pesq_wb", relative_to="float", max_loss=0.1))
    assert against_float.clips is not None and against_float.clips.against == "convert:float32"
    assert [one.clip for one in against_float.clips.clips] == ["clip4", "clip6", "clip7", "clip0"]
    # An absolute budget: against the row before the step that lost most.
    assert the_finding(Budget(metric="pesq_wb", min=1.6)).clips.against == "convert:float32"


def test_a_group_counts_its_own_clips_alone():
    found = the_finding(Budget(metric="pesq_wb[high]", relative_to="noisy", min_gain=0.5))
    assert found.clips is not None and (found.clips.lost, found.clips.n) == (3, 4)
    assert found.waterfall is not None and found.waterfall.metric == "pesq_wb[high]"


def test_clips_of_another_set_do_not_compare():
    other = worst_clips("pesq_wb", "MOS", ("a", scores(INT8)), ("b", scores(FLOAT, "e" * 64)))
    assert other == "b was scored on another evaluation set"
    none = worst_clips("stoi", "1", ("a", scores(INT8)), ("b", scores(FLOAT)))
    assert none == "no clip was scored in stoi both in a and in b"
    better = worst_clips("pesq_wb", "MOS", ("a", scores(FLOAT)), ("b", scores(INT8)))
    assert better.lost == 0 and better.clips == ()
    turned = worst_clips("pesq_wb", "MOS", ("a", scores(FLOAT)), ("b", scores(INT8)), higher_is_better=False)
    assert turned.lost == 4
    all_lost = worst_clips("pesq_wb", "MOS", ("a", scores(NOISY)), ("b", scores(FLOAT)))
    assert all_lost.lost == 8 and len(all_lost.clips) == 5


def test_what_is_gone_is_said_and_the_rest_is_explained():
    without = Evidence(name="night", run="night", rows=ROWS, scores={"noisy": SCORES["noisy"]})
    budget = Budget(metric="pesq_wb", relative_to="noisy", min_gain=0.5)
    gone = the_finding(budget, Known(RUN, without, gone=frozenset({"quality of convert:int8"})))
    assert gone.missing == ("clips: the scores of convert:int8 are no longer in the store",)
    assert gone.clips is None and gone.waterfall is not None and gone.sentences
    never = the_finding(budget, Known(RUN, without))
    assert never.missing == ("clips: the scores of convert:int8 are not kept",)


def test_a_run_that_failed_half_way_is_explained_as_far_as_it_came():
    half = Run(name="half", status="failed", error="disk full", rows=ROWS[:2])
    known = Known(half, Evidence(name="half", run="half", rows=half.rows, scores=SCORES))
    verdicts = [
        *what_failed(half),
        *judge([Budget(metric="pesq_wb", min=3.0), Budget(metric="stoi", min=0.5)], half.rows),
    ]
    explained = explain(known, verdicts)
    assert len(verdicts) == 3 and [one.metric for one in explained.findings] == ["pesq_wb", "stoi"]
    assert explained.findings[0].waterfall is not None
    assert explained.findings[1].missing == ("stoi was measured in fewer than two rows",)
    nothing = Run(name="nothing", status="failed", error="no data")
    (bare,) = explain(
        Known(nothing, Evidence(run="nothing", rows=())), judge([Budget(metric="stoi", min=1)], ())
    ).findings
    assert bare.missing == ("there is no row to explain",)


def test_against_a_baseline_steps_and_clips_are_the_baselines():
    base_rows = (row("noisy", NOISY), row("convert:float32", FLOAT), row("convert:int8", FLOAT))
    base = Evidence(
        name="main", run="main", rows=base_rows, scores={"noisy": scores(NOISY), "convert:int8": scores(FLOAT)}
    )
    found = the_finding(
        Budget(metric="pesq_wb", relative_to="baseline", max_loss=0.02),
        Known(RUN, EVIDENCE, baseline=base),
        Pair(base, EVIDENCE),
    )
    assert found.waterfall is not None and found.waterfall.baseline == "main"
    assert found.sentences[0].startswith("against main, rounding to int8 lost all of the ")
    assert found.clips is not None and found.clips.against == "main" and found.clips.clips[0].clip == "clip4"


def test_sizes_tell_what_each_step_changed_and_name_no_clips():
    found = the_finding(Budget(metric="model_bytes", max=100_000))
    assert found.sentences[0] == "the float file has 400,000 bytes; rounding to int8 −280,000 bytes"
    assert found.clips is None and found.missing == ()


@pytest.mark.parametrize(
    ("budget", "row"),
    [
        (Budget(metric="pesq_wb", min=2), None),
        (Budget(metric="pesq_wb", relative_to="float", max_loss=0.1), "convert:float32"),
        (Budget(metric="pesq_wb", relative_to="noisy", max_loss=0), "noisy"),
        (Budget(metric="pesq_wb", relative_to="noisy", min_gain=0.3), "noisy"),
        (Budget(metric="frame_p50_us", relative_to="baseline", max_loss_percent=5, max_loss=2), BASELINE),
        (Budget(metric="pesq_wb", relative_to="quantize:train", max_loss=0.1), "quantize:train"),
    ],
)
def test_what_a_budget_compares_with_is_read_off_its_limit(budget, row):
    assert compared_with(Verdict(budget.title, "fail", "", metric=budget.metric, limit=budget.limit_text)) == row


def test_the_sense_of_a_metric_of_ones_own_follows_from_its_miss():
    for budget, value, reference, higher in (
        (Budget(metric="clarity", min=3, unit="1", better="higher"), 2.0, None, True),
        (Budget(metric="harshness", max=3, unit="1", better="lower"), 4.0, None, False),
        (Budget(metric="clarity", relative_to="noisy", max_loss=0, unit="1", better="higher"), 2.0, 3.0, True),
        (Budget(metric="harshness", relative_to="noisy", max_loss=0, unit="1", better="lower"), 4.0, 3.0, False),
        (Budget(metric="pesq_wb", min=3), 2.0, None, True),
        (Budget(metric="model_bytes", max=3), 4.0, None, False),
    ):
        verdict = Verdict("b", "fail", "", budget.metric, budget.limit_text, value=value, reference=reference)
        assert higher_is_better(verdict) is higher


# Graph: 1000 instructions, of which 600, 250, 100, 50; the whole frame 1250, so 20 % of it is not the graph.
OPERATORS = tuple(
    Operator(index=index, name=name, location=f"layer{index}", value=value, unit="instructions")
    for index, (name, value) in enumerate((("ADD", 50.0), ("CONV_2D", 600.0), ("MUL", 100.0), ("CONV_2D", 250.0)))
)


def on_board(*more, operators=OPERATORS):
    found = (
        Measurement("instructions_per_frame", 1250.0, "instructions", 100, Provenance.EMULATED, "m4"),
        Measurement("graph_instructions_per_frame", 1000.0, "instructions", 100, Provenance.EMULATED, "m4"),
        *more,
    )
    return ModelResult(model="convert:int8", measurements=found, operators=operators)


def board_known(result, gone=()):
    rows = (Row(row="convert:int8", measurements=result.measurements),)
    run = Run(name="night", status="complete", rows=rows)
    comparison = Comparison(devices=(Device(target="m4", results=(result,)),))
    return Known(run, Evidence(run="night", rows=rows), comparison, gone=frozenset(gone))


def test_time_is_explained_by_the_dearest_operators():
    found = the_finding(Budget(metric="instructions_per_frame", target="m4", max=1000), board_known(on_board()))
    costs = found.costs
    assert costs is not None and costs.total == 1000 and costs.count == 4
    assert [(part.location, part.share) for part in costs.parts] == [
        ("layer1", 0.6), ("layer3", 0.25), ("layer2", 0.1), ("layer0", 0.05),
    ]  # fmt: skip
    assert found.sentences == (
        "3 of 4 operators take 95 % of the graph on m4: CONV_2D (layer1) 60 %, CONV_2D (layer3) 25 %, "
        "MUL (layer2) 10 %",
        "20 % of the whole frame is not the graph: frontend, rounding, copies",
    )
    assert found.limit == pytest.approx(1000)


def test_operators_that_nobody_told_are_missed():
    budget = Budget(metric="instructions_per_frame", target="m4", max=1000)
    silent = the_finding(budget, board_known(on_board(operators=())))
    assert silent.missing == ("operators: m4 tells no costs of single operators",) and silent.costs is None
    gone = the_finding(budget, board_known(on_board(operators=()), {"profile on m4"}))
    assert gone.missing == ("operators: its profile is no longer in the store",)
    failed = Run(name="night", status="complete", rows=ROWS, failures=(Failure(target="m4", error="no emulator"),))
    absent = the_finding(budget, Known(failed, EVIDENCE))
    assert absent.missing == ("target m4 failed: no emulator",)


def test_costs_in_two_units_are_not_added():
    mixed = (*OPERATORS, Operator(index=9, name="FFT", location="x", value=1e9, unit="us"))
    costs = operator_costs("m4", on_board(operators=mixed), "rtf")
    assert costs is not None and costs.total == 1000 and costs.unit == "instructions" and costs.count == 4
    free = tuple(one.model_copy(update={"value": 0.0}) for one in OPERATORS)
    assert operator_costs("m4", on_board(operators=free), "rtf") is None


def test_memory_is_told_by_its_parts():
    def held(metric, value):
        return Measurement(metric, value, "bytes", 1, Provenance.EMULATED, "m4")

    parts = held("ram_bytes", 1000.0), held("arena_bytes", 500.0), held("state_bytes", 200.0), held("stack_bytes", 50.0)
    found = the_finding(Budget(metric="ram_bytes", target="m4", max=800), board_known(on_board(*parts)))
    assert found.costs is not None
    assert [(part.name, part.value) for part in found.costs.parts] == [
        ("arena", 500), ("frontend buffers and scratch", 250), ("states", 200), ("stack", 50),
    ]  # fmt: skip
    assert found.sentences[0].startswith("of 1,000 bytes on m4: arena 50 %")
    more = memory_costs("m4", on_board(held("ram_bytes", 600.0), *parts[1:]), "ram_bytes")
    assert more is not None and more.remark == "the parts overlap: together they are more than the whole"
    assert memory_costs("m4", on_board(held("ram_bytes", 600.0)), "ram_bytes") is None


def layers(*gains, together=None):
    found = tuple(
        Layer(index, "CONV_2D", f"layer{index}", f"^layer{index}$", 10.0, 12.0, gain, gain, 100, 0)
        for index, gain in enumerate(gains)
    )
    return Layers("convert:int8", found, 9, 12.0, 40.0, together, 200, 3.2, "4 validation clips", 200)


@pytest.mark.parametrize(
    ("measured", "sentence"),
    [
        (None, "which layers lose most to rounding: earshot explain night"),
        (layers(1.0, 2.5), "16 bits for CONV_2D (layer1) gain the masks +2.5 dB (see layers)"),
        (layers(-1.0), "no single layer gains from 16 bits; all of them together +28.0 dB (int16x8)"),
        (
            layers(1.0, 2.5, together=Together(("^layer0$", "^layer1$"), 4.0, 300, 16)),
            "16 bits for 2 layers gain the masks +4.0 dB (see layers)",
        ),
    ],
)
def test_where_rounding_lost_most_the_layers_are_named(measured, sentence):
    found = the_finding(Budget(metric="pesq_wb", min=1.6), Known(RUN, EVIDENCE, layers=measured))
    assert sentence in found.sentences


def test_layers_are_not_named_where_rounding_lost_nothing():
    rows = (row("noisy", NOISY), row("convert:float32", INT8), row("convert:int8", INT8))
    known = Known(Run(name="night", status="complete", rows=rows), Evidence(run="night", rows=rows, scores=SCORES))
    told = " ".join(the_finding(Budget(metric="pesq_wb", min=3), known).sentences)
    assert "16 bits" not in told and "earshot explain" not in told


def test_operators_in_float_are_named_with_their_reasons():
    rows = tuple(
        Row(row=name, measurements=(Measurement("float_operators", count, "1"),))
        for name, count in (("convert:float32", 30.0), ("convert:int8", 7.0))
    )
    run, evidence = Run(name="night", status="complete", rows=rows), Evidence(run="night", rows=rows)
    listed = {"convert:int8": [f"ELU (layer{number}: no integer form)" for number in range(7)]}
    found = the_finding(Budget(metric="float_operators", max=0), Known(run, evidence, float_operators=listed))
    assert found.sentences[0].startswith("computed in float: ELU (layer0: no integer form), ELU (layer1")
    assert found.sentences[0].endswith("and 2 more")
    silent = the_finding(Budget(metric="float_operators", max=0), Known(run, evidence))
    assert "computed in float" not in " ".join(silent.sentences)


def test_a_value_that_is_not_there_blames_no_step():
    rows = (row("noisy", NOISY), row("convert:float32", FLOAT), Row(row="convert:int8"))
    known = Known(Run(name="night", status="complete", rows=rows), Evidence(run="night", rows=rows, scores=SCORES))
    found = the_finding(Budget(metric="pesq_wb", min=1.6), known)
    assert found.sentences == () and found.waterfall is not None
    assert found.missing == ("pesq_wb is not known of convert:int8: pesq_wb was not measured in row 'convert:int8'",)


@pytest.mark.parametrize(
    ("limits", "value", "asked"),
    [({"min": 1.0, "max": 2.0}, 3.0, 2.0), ({"min": 1.0, "max": 2.0}, 0.5, 1.0), ({"max": 2.0}, 3.0, 2.0)],
)
def test_the_limit_is_the_bound_that_was_missed(limits, value, asked):
    rows = tuple(
        Row(row=name, measurements=(Measurement("pesq_wb", value, "MOS", 8),)) for name in ("teacher", "distill")
    )
    known = Known(Run(name="night", status="complete", rows=rows), Evidence(run="night", rows=rows))
    assert the_finding(Budget(metric="pesq_wb", **limits), known).limit == pytest.approx(asked)


@pytest.mark.parametrize("better", ["lower", "higher"])
@pytest.mark.parametrize("change", [0.05, -0.05])
def test_the_sense_of_a_metric_of_ones_own_that_has_to_gain(better, change):
    rows = tuple(
        Row(row=name, measurements=(Measurement("mine", value, "s"),))
        for name, value in (("noisy", 1.5), ("convert:int8", 1.5 + change))
    )
    budget = Budget(metric="mine", unit="s", better=better, relative_to="noisy", min_gain=0.1)
    (verdict,) = judge([budget], rows)
    assert str(verdict.status) == "fail" and higher_is_better(verdict) is (better == "higher")


def test_beside_a_baseline_that_ships_another_file_its_clips_are_compared():
    rows = (ROWS[0], ROWS[1], row("convert:int16x8", FLOAT))
    kept = {"noisy": SCORES["noisy"], "convert:float32": SCORES["convert:float32"], "convert:int16x8": scores(FLOAT)}
    base = Evidence(name="main", run="main", rows=rows, scores=kept)
    budget = Budget(metric="pesq_wb", relative_to="baseline", max_loss=0.1)
    found = the_finding(budget, Known(RUN, EVIDENCE, baseline=base), Pair(base, EVIDENCE))
    assert found.waterfall is not None and found.waterfall.levels[-1].base == pytest.approx(sum(FLOAT) / 8)
    assert found.sentences[0].startswith("against main, rounding to int8 lost all of the")
    assert found.clips is not None and found.clips.clips[0].clip == "clip4"


@pytest.mark.parametrize("metric", ["arena_bytes", "stack_bytes", "temperature_c", "output_mismatches"])
def test_what_a_target_tells_no_parts_of_is_said(metric):
    unit = {"temperature_c": "C", "output_mismatches": "1"}.get(metric, "bytes")
    rows = (Row(row="convert:int8", measurements=(Measurement(metric, 5.0, unit, target="board"),)),)
    run = Run(name="night", status="complete", rows=rows)
    known = Known(run, Evidence(run="night", rows=rows), compare_run(run))
    assert the_finding(Budget(metric=metric, max=1), known).missing == (f"board tells no parts of {metric}",)


def test_no_layer_is_blamed_where_other_steps_made_good_what_rounding_lost():
    values = {"teacher": 1.5, "convert:float32": 1.7, "convert:int8": 1.6}
    rows = tuple(Row(row=name, measurements=(Measurement("pesq_wb", one, "MOS", 8),)) for name, one in values.items())
    found = the_finding(
        Budget(metric="pesq_wb", min=3),
        Known(Run(name="n", status="complete", rows=rows), Evidence(run="n", rows=rows)),
    )
    assert found.waterfall is not None and found.waterfall.worst.row == "convert:int8"
    assert found.sentences[0].startswith("no row reaches the 3 MOS") and "earshot explain" not in str(found.sentences)
