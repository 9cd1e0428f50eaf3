"""What the store still holds, read for an explanation: the operators in float, and files of another form."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from earshot.ci.budget import Budget
from earshot.ci.gate import judge
from earshot.ci.run_file import Row, Run
from earshot.core.measurement import Measurement
from earshot.pipeline.explaining import PARITY, explain_run
from earshot.pipeline.store import Store

NAMED = {"operator": "ELU", "output": "gate", "reason": "no integer form"}


def sentences(folder, content: str) -> tuple[str, ...]:
    """Why a run with two operators in float missed its budget, with this beside its int8 file."""
    store = Store(folder)

    def produce(out: Path, work: Path) -> list[Measurement]:
        (out / PARITY).write_text(content)
        return []

    made = store.build("convert", 1, config={"of": content}, inputs={}, producer=produce)
    rows = tuple(
        Row(row=name, artifact=made.id, measurements=(Measurement("float_operators", count, "1"),))
        for name, count in (("convert:float32", 30.0), ("convert:int8", 2.0))
    )
    run = Run(name="night", status="complete", rows=rows)
    (found,) = explain_run(run, judge([Budget(metric="float_operators", max=0)], rows, run), store).findings
    return found.sentences


def test_operators_in_float_are_read_from_the_store(tmp_path):
    kept = {"variants": {"float32": {"float_operators": "all"}, "int8": {"float_operators": [NAMED]}}}
    assert sentences(tmp_path, json.dumps(kept))[0] == "computed in float: ELU (gate: no integer form)"


@pytest.mark.parametrize(
    "content",
    ["{", "[1]", '{"variants": [1]}', '{"variants": {"int8": 3}}', '{"variants": {"int8": {"float_operators": [1]}}}'],
)
def test_a_file_of_another_form_names_nothing_and_the_rest_is_told(tmp_path, content):
    told = sentences(tmp_path, content)
    assert told and "computed in float" not in " ".join(told)
