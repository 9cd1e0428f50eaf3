"""Reading run files: whole ones, damaged ones, foreign ones, and the published schema."""

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from earshot.ci.run_file import LARGEST_BYTES, read_run
from earshot.core.errors import ArtifactError
from earshot.core.measurement import Measurement, Provenance

SCHEMAS = Path(__file__).parents[2] / "ci" / "schema"
MEASUREMENTS = (
    Measurement("pesq_wb", 2.3, "MOS", 30, interval=(2.1, 2.5)),
    Measurement("rtf", None, "1", target="pi", reason="unplugged"),
)


def whole():
    value = {
        "schema": "earshot.run/1",
        "name": "quick",
        "recipe": {"budgets": []},
        "status": "complete",
        "error": None,
        "rows": [
            {
                "row": "convert:int8",
                "stage": "convert",
                "artifact": "ab12",
                "cached": True,
                "seconds": 1.2,
                "measurements": [measurement.to_dict() for measurement in MEASUREMENTS],
            }
        ],
        "verdicts": [{"budget": "b", "status": "fail", "reason": "too slow", "metric": "rtf", "limit": "≤ 1"}],
    }
    return json.loads(json.dumps(value))


def written(tmp_path, value):
    path = tmp_path / "run.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def test_reads_back_what_was_measured(tmp_path):
    run = read_run(written(tmp_path, whole()))
    assert run.rows[0].measurements == MEASUREMENTS
    assert run.rows[0].measurements[1].provenance is Provenance.UNAVAILABLE
    assert run.rows[0].cached is True
    assert run.verdicts[0].to_dict() == whole()["verdicts"][0] | {"unit": "1"}


def test_unknown_keys_of_later_versions_are_ignored(tmp_path):
    value = whole() | {"machine": "m"}
    value["rows"][0]["note"] = "n"
    assert read_run(written(tmp_path, value)).name == "quick"


def changed(**changes):
    return {**whole(), **changes}


def changed_row(**changes):
    value = whole()
    value["rows"][0].update(changes)
    return value


def changed_measurement(**changes):
    return changed_row(measurements=[MEASUREMENTS[0].to_dict() | changes])


DAMAGED = {
    "empty": ("", "not a run file"),
    "cut": (json.dumps(whole())[:-20], "not a run file"),
    "nan": ('{"schema": "earshot.run/1", "name": NaN}', "NaN is not JSON"),
    "nested": ("[" * 100_000, "not a run file"),
    "list": ([1], "schema is None"),
    "foreign": ({"schema": "dvc/1"}, "schema is 'dvc/1', expected 'earshot.run/1'"),
    "later": (changed(schema="earshot.run/2"), "earshot.run/2"),
    "status": (changed(status="done"), "status"),
    "rows": (changed(rows={}), "rows"),
    "row twice": (changed(rows=whole()["rows"] * 2), "occurs more than once"),
    "no row name": (changed_row(row=""), "rows.0.row"),
    "metric": (changed_measurement(metric=5), "rows.0.measurements.0.metric"),
    "value": (changed_measurement(value="fast"), "rows.0.measurements.0.value"),
    "provenance": (changed_measurement(provenance="guessed"), "rows.0.measurements.0.provenance"),
    "beyond float": (json.dumps(changed_measurement(value=12345)).replace("12345", "1e999"), "finite number"),
    "interval": (changed_measurement(interval=[1]), "rows.0.measurements.0.interval"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_and_foreign_files_are_named(tmp_path, case):
    content, words = DAMAGED[case]
    with pytest.raises(ArtifactError) as caught:
        read_run(written(tmp_path, content))
    assert "run.json" in caught.value.message
    assert words in caught.value.message
    assert len(caught.value.message) < 800
    assert caught.value.hint


def test_missing_unreadable_and_huge_files(tmp_path):
    with pytest.raises(ArtifactError, match="no such run"):
        read_run(tmp_path / "absent.json")
    with pytest.raises(ArtifactError, match="cannot be read"):
        read_run(tmp_path)
    huge = tmp_path / "huge.json"
    with huge.open("wb") as file:
        file.truncate(LARGEST_BYTES + 1)
    with pytest.raises(ArtifactError, match="too large"):
        read_run(huge)


def test_not_utf8(tmp_path):
    path = tmp_path / "run.json"
    path.write_bytes(b'{"schema": "\xff\xfe\x00"}')
    with pytest.raises(ArtifactError, match=r"run\.json"):
        read_run(path)


SCHEMA_CASES = ("status", "rows", "no row name", "metric", "value", "provenance", "interval", "foreign", "later")


def test_the_schema_accepts_a_whole_run():
    schema = json.loads((SCHEMAS / "run.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(whole(), schema, cls=jsonschema.Draft202012Validator)


@pytest.mark.parametrize("case", SCHEMA_CASES)
def test_the_schema_refuses_what_the_reader_refuses(case):
    schema = json.loads((SCHEMAS / "run.schema.json").read_text())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(DAMAGED[case][0], schema, cls=jsonschema.Draft202012Validator)


def test_the_gate_imports_neither_torch_nor_a_runtime():
    code = (
        "import sys, earshot.ci.gate, earshot.ci.report.json, earshot.ci.report.markdown, earshot.ci.report.junit,"
        "earshot.ci.report.table;"
        "print([m for m in ('torch', 'ai_edge_litert', 'numpy', 'tensorflow') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
