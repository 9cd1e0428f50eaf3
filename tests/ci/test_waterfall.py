"""Where a metric was lost: waterfalls worked out by hand."""

from __future__ import annotations

import pytest

from earshot.ci.run_file import Row
from earshot.ci.waterfall import waterfall, way_to
from earshot.ci.waterfall_text import sentences
from earshot.core.measurement import Measurement

# noisy 1.6, teacher 2.5 (+0.9), distill 2.46 (-0.04), prune 2.25 (-0.21), float file 2.25 (0), simulated 2.24 (-0.01),
# int8 file 2.25 (+0.01): the way from teacher to int8 file costs 0.25, of which pruning 0.21.
VALUES = {
    "noisy": 1.6, "teacher": 2.5, "distill": 2.46, "prune": 2.25, "quantize": 2.24, "convert:float32": 2.25,
    "convert:int8": 2.25,
}  # fmt: skip


def rows(values, metric="pesq_wb", unit="MOS", n=30):
    return tuple(
        Row(row=name, measurements=() if value is None else (Measurement(metric, value, unit, n),))
        for name, value in values.items()
    )


def made(values=VALUES, row="convert:int8", **settings):
    found = waterfall(rows(values), "pesq_wb", row, **settings)
    assert found is not None
    return found


def test_each_step_and_the_one_that_lost_most():
    fall = made()
    assert [level.row for level in fall.levels] == [
        "noisy", "teacher", "distill", "prune", "convert:float32", "quantize", "convert:int8",
    ]  # fmt: skip
    changes = [level.change for level in fall.levels]
    assert changes[0] is None
    assert changes[1:] == pytest.approx([0.9, -0.04, -0.21, 0, -0.01, 0.01])
    assert fall.worst is not None and fall.worst.row == "prune"
    assert sum(changes[1:]) == pytest.approx(VALUES["convert:int8"] - VALUES["noisy"])
    assert sentences(fall)[0] == "pruning lost 0.21 of the 0.25 MOS between the teacher and the int8 file"


def test_rows_that_are_not_on_the_way_do_not_count():
    assert [level.row for level in made(row="prune").levels] == ["noisy", "teacher", "distill", "prune"]
    assert "quantize" not in {level.row for level in made(row="convert:float32").levels}
    assert way_to("convert:int16x8")[-2:] == ("convert:float32", "convert:int16x8")
    without = made({name: value for name, value in VALUES.items() if name not in ("prune", "quantize")})
    assert [level.row for level in without.levels] == ["noisy", "teacher", "distill", "convert:float32", "convert:int8"]
    assert "rounding" not in sentences(without)[0]


def test_a_row_without_a_value_is_said_and_stepped_over():
    fall = made(VALUES | {"prune": None})
    assert fall.levels[3].value is None and fall.levels[3].reason == "not measured"
    assert fall.levels[4].change == pytest.approx(-0.21) and fall.levels[4].since == "distill"
    told = sentences(fall)
    assert told[0].startswith("what lies between the student and the float file lost 0.21 of the 0.25 MOS")
    assert "pesq_wb is not known of prune (not measured)" in told
    assert waterfall(rows({"noisy": 1.0, "prune": None}), "pesq_wb", "prune") is None
    assert waterfall(rows(VALUES), "stoi", "convert:int8") is None


def test_losses_are_counted_from_the_row_that_is_compared_with():
    values = VALUES | {"convert:int8": 2.15, "quantize": 2.16}
    assert made(values).worst.row == "prune"
    fall = made(values, start="convert:float32")
    assert fall.worst.row == "quantize"
    assert sentences(fall)[0] == (
        "rounding to int8 (simulated) lost 0.09 of the 0.1 MOS between the float file and the int8 file"
    )


@pytest.mark.parametrize(
    ("values", "beginning"),
    [
        ({"noisy": 2.0, "teacher": 1.7, "distill": 1.6}, "the teacher itself lies 0.3 MOS below the noisy input"),
        ({"noisy": 2.0, "distill": 1.6}, "the student itself lies 0.4 MOS below the noisy input"),
        ({"noisy": 1.0, "teacher": 2.0, "distill": 2.1}, "no step to the student lost anything: the teacher has 2 MOS"),
        (
            {"noisy": 1.0, "teacher": 2.0, "distill": 1.8, "prune": 2.1},
            "distillation lost 0.2 MOS, which other steps made good: the pruned student lies 0.1 MOS above the teacher",
        ),
        (
            {"noisy": 1.0, "teacher": 2.0, "distill": 1.5, "prune": 1.7},
            "distillation lost 0.5 MOS; other steps between the teacher and the pruned student gained 0.2 MOS of it",
        ),
        ({"noisy": 1.0, "teacher": 2.0, "distill": 1.5}, "distillation lost all of the 0.5 MOS between the teacher"),
    ],
)
def test_sentences_of_other_courses(values, beginning):
    assert sentences(made(values, row=list(values)[-1]))[0].startswith(beginning)


def test_the_last_row_that_keeps_the_limit_is_named():
    assert "the student is the last that keeps the 2.3 MOS asked for, with 2.46 MOS" in sentences(made(), 2.3)
    assert "no row reaches the 3 MOS asked for, not even the teacher with 2.5 MOS" in sentences(made(), 3.0)
    assert len(sentences(made(), 2.0)) == 1  # kept to the end: nothing to say
    # The row compared with keeps its own limit by itself, which says nothing.
    assert len(sentences(made(VALUES | {"quantize": 2.0, "convert:int8": 2.0}, start="convert:float32"), 2.2)) == 1


def test_a_group_is_a_metric_of_its_own():
    grouped = tuple(
        Row(
            row=name, measurements=(Measurement("pesq_wb", 9.0, "MOS", 3), Measurement("pesq_wb[low]", value, "MOS", 3))
        )
        for name, value in VALUES.items()
    )
    fall = waterfall(grouped, "pesq_wb[low]", "convert:int8")
    assert fall is not None and fall.worst.row == "prune" and fall.known[0].value == 1.6


def test_lower_is_better_tells_sizes():
    sizes = {"teacher": 1000.0, "distill": 400.0, "prune": 250.0, "convert:float32": 260.0}
    fall = waterfall(rows(sizes, "model_bytes", "bytes"), "model_bytes", "convert:float32", higher_is_better=False)
    assert fall is not None and fall.worst.row == "convert:float32"  # the one that grew
    assert sentences(fall, 200)[0] == (
        "the teacher has 1000 bytes; distillation −600 bytes, pruning −150 bytes, the export to a file +10 bytes"
    )
    assert "no row reaches the 200 bytes asked for, not even the pruned student with 250 bytes" in sentences(fall, 200)


def test_beside_a_baseline_only_what_it_lost_more_counts():
    """Pruning loses 0.05 more than there, and distillation 0.01 less: in all 0.04."""
    base = VALUES | {"distill": 2.45, "prune": 2.29, "quantize": 2.28, "convert:float32": 2.29, "convert:int8": 2.29}
    fall = waterfall(rows(VALUES), "pesq_wb", "convert:int8", base=rows(base), baseline="main")
    assert fall is not None and fall.worst.row == "prune"
    assert fall.loss(fall.worst) == pytest.approx(0.05)
    told = sentences(fall)[0]
    assert told == "against main, pruning lost 0.05 MOS; other steps gained 0.01 MOS of it back"
    lower = {name: value - 0.1 for name, value in base.items() if name != "noisy"} | {"noisy": base["noisy"]}
    begun = waterfall(rows(lower), "pesq_wb", "convert:int8", base=rows(base), baseline="main")
    assert begun is not None and sentences(begun)[0] == "already the teacher lies 0.1 MOS below that of main"
    same = waterfall(rows(base), "pesq_wb", "convert:int8", base=rows(base), baseline="main")
    assert same is not None and same.worst is None and sentences(same)[0] == "no step lost more than in main"
    alone = waterfall(rows(VALUES), "pesq_wb", "convert:int8", base=rows({"other": 1.0}), baseline="main")
    assert alone is not None and "no row on the way was measured in main too" in sentences(alone)[0]


def test_a_step_that_the_baseline_never_took_is_blamed_itself():
    """Without pruning 2.46 stays; that the export is the first row after it that both have does not make it guilty."""
    base = {name: VALUES["distill"] if name != "noisy" else value for name, value in VALUES.items() if name != "prune"}
    fall = made(base=rows(base), baseline="main")
    assert fall.worst is not None and fall.worst.row == "prune" and fall.loss(fall.worst) == pytest.approx(0.21)
    assert sentences(fall)[0] == "against main, pruning lost all of the 0.21 MOS"
    unknown = made(base=rows(base | {"prune": None}), baseline="main")  # pruned there too, by how much nobody knows
    assert unknown.worst is not None and unknown.worst.row == "convert:float32"


def test_beside_a_baseline_that_ships_another_file():
    """main ships 16x8 with 2.25; here the simulated int8 is 2.0 and its file 2.01."""
    base = {name: value for name, value in VALUES.items() if name not in ("quantize", "convert:int8")}
    here = VALUES | {"quantize": 2.0, "convert:int8": 2.01}
    theirs = rows(base | {"convert:int16x8": 2.25})
    fall = made(here, base=theirs, baseline="main", base_row="convert:int16x8")
    assert fall.levels[-1].base == 2.25
    assert sentences(fall)[0] == (
        "against main, rounding to int8 (simulated) lost 0.25 MOS; other steps gained 0.01 MOS of it back"
    )


def test_rows_on_different_samples_are_said():
    mixed = (*rows({"teacher": 2.5}, n=30), *rows({"distill": 2.0}, n=29))
    fall = waterfall(mixed, "pesq_wb", "distill")
    assert fall is not None and "the rows stand on different samples: teacher 30, distill 29" in sentences(fall)


def test_what_no_row_keeps_is_said_before_any_loss():
    """The teacher itself is below the limit: no later step is to blame."""
    assert sentences(made(), 3.0)[0].startswith("no row reaches the 3 MOS asked for")
    assert sentences(made(), 2.4)[0].startswith("pruning lost")


def test_rows_that_are_no_files_have_no_sizes():
    values = {"noisy": None, "teacher": 900.0, "convert:float32": 400.0, "quantize": None, "convert:int8": 100.0}
    found = waterfall(rows(values, "model_bytes", "bytes", 1), "model_bytes", "convert:int8", higher_is_better=False)
    assert found is not None
    assert sentences(found) == (
        "the teacher has 900 bytes; the export to a file −500 bytes, rounding to int8 −300 bytes",
    )
    assert "quantize (not measured)" in " ".join(sentences(made(VALUES | {"quantize": None})))
