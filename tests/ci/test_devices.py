"""The cross-device table, its CSV and its data: everything that was given is shown, and nothing else."""

import csv
import io
import json

import pytest
from rich.console import Console
from sample_comparison import FLOAT, INT8, sample

from earshot.ci.comparison import Comparison, Device, ModelResult, compare_run, parse_comparison
from earshot.ci.report import devices
from earshot.ci.run_file import Failure, LeftOut, Row, Run
from earshot.core.errors import ArtifactError
from earshot.core.measurement import Measurement, Provenance


def terminal(comparison, width=110):
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    console.print(devices.render(comparison))
    return console.file.getvalue()


def test_one_line_a_target_and_model_each_number_marked_by_how_it_came_to_be():
    table = {(line.target, line.model): line for line in devices.lines(sample())}
    assert list(table) == [
        *(("host", FLOAT), ("host", INT8), ("cortex-m4", INT8), ("cortex-m4", FLOAT)),
        *(("cortex-m55", INT8), ("cortex-m55", FLOAT), ("ethos-u55", INT8), ("phone", "-")),
    ]
    heads = [column.title for column in devices.columns(sample())]
    assert heads == ["RTF", "graph RTF", "p50", "p99", "instr.", "RAM", "flash", "needs"]
    assert table["host", INT8].cells == ("0.0031", "-", "11.2", "17.9", "-", "57270", "-", "-")
    assert table["cortex-m4", INT8].cells == ("~0.8200", "-", "-", "-", "≈2346", "≈51.2", "141.3", "~138.0")
    assert table["ethos-u55", INT8].cells == ("-", "~0.0460!", "-", "-", "-", "~7.0", "~67.3", "-")
    assert [table[key].how for key in (("host", INT8), ("cortex-m4", INT8), ("cortex-m4", FLOAT), ("phone", "-"))] == [
        *("measured", "mixed", "left out", "failed")
    ]


def test_the_legend_explains_every_mark_that_occurs_and_no_other():
    said = "; ".join(devices.legend(sample()))
    assert all(part in said for part in ("no mark: measured", "≈ emulated", "~ estimated", "! marked lower-bound"))
    assert "stand-in" not in said
    double = Measurement("rtf", 0.1, "1", 1, Provenance.TEST_DOUBLE, "phone")
    only = Comparison(devices=(Device(target="phone", results=(ModelResult(model="m", measurements=(double,)),)),))
    assert devices.legend(only) == ["? stand-in, never accepted"]


def test_the_legend_says_what_ram_is_on_each_target():
    given = sample()
    assert devices.legend(given)[-1] == (
        "RAM: all that a microcontroller needs (cortex-m4, cortex-m55), the whole process (host), "
        "the tensors alone (ethos-u55)"
    )
    host, m4, _, npu, phone = given.devices
    assert devices.legend(Comparison(devices=(host,)))[-1] == "RAM: the whole process (host)"
    assert devices.legend(Comparison(devices=(npu,)))[-1] == "RAM: the tensors alone (ethos-u55)"
    assert not any("RAM" in said for said in devices.legend(Comparison(devices=(m4, phone))))
    assert not any("RAM" in said for said in devices.marks(given))
    # The number shown decides, not what else was measured.
    (result,) = m4.results
    both = (*result.measurements, Measurement("arena_bytes", 9e3, "bytes", 1, Provenance.EMULATED, "cortex-m4"))
    both_known = m4.model_copy(update={"results": (result.model_copy(update={"measurements": both}),)})
    assert not any("RAM" in said for said in devices.legend(Comparison(devices=(both_known,))))


def test_every_metric_that_may_stand_under_ram_has_a_meaning():
    assert set(devices.RAM_OF) == set(devices.RAM.metrics)


def test_the_terminal_table_gives_reasons_and_is_whole_at_its_width():
    text = terminal(sample())
    assert "…" not in text and max(map(len, text.splitlines())) <= 110
    assert "phone failed: target phone: no device is attached" in text
    assert "fix: plug it in, then: adb devices" in text
    assert "cortex-m4 left out convert:float32: it runs int16x8, int8; this model is float32" in text


def test_csv_holds_every_number_and_a_line_for_what_has_none():
    read = list(csv.DictReader(io.StringIO(devices.render_csv(sample()))))
    given = [m for device in sample().devices for result in device.results for m in result.measurements]
    numbers = [row for row in read if row["metric"]]
    assert [(row["metric"], float(row["value"]), row["provenance"]) for row in numbers] == [
        (m.metric, m.value, m.provenance.value) for m in given
    ]
    assert {(row["target"], row["provenance"]): row["reason"] for row in read if not row["metric"]} == {
        ("cortex-m4", "left out"): "it runs int16x8, int8; this model is float32",
        ("cortex-m55", "left out"): "it runs int16x8, int8; this model is float32",
        ("phone", "failed"): "target phone: no device is attached",
    }
    hostile = Comparison(devices=(Device(target="=1+1", error="@SUM(A1)"),))
    assert devices.render_csv(hostile).splitlines()[1] == "'=1+1,,,,,,failed,,'@SUM(A1)"


def test_a_comparison_survives_its_json_and_foreign_json_is_refused():
    plain = json.loads(json.dumps(sample().to_dict()))
    assert plain["schema"] == "earshot.profile/1"
    assert parse_comparison(plain, "p.json") == sample()
    for damage in ({"schema": "earshot.run/1"}, {"devices": [{"results": []}]}):
        with pytest.raises(ArtifactError, match=r"p\.json"):
            parse_comparison({**plain, **damage}, "p.json")
    with pytest.raises(ArtifactError, match="not a profile"):
        parse_comparison([], "p.json")


def test_a_run_becomes_a_comparison_with_its_quality():
    rows = (
        Row(row=FLOAT, measurements=(Measurement("pesq_wb", 2.3, "MOS", 9),)),
        Row(
            row=INT8,
            measurements=(
                Measurement("pesq_wb", 2.2, "MOS", 9),
                Measurement("rtf", 0.1, "1", 9, target="pi"),
                Measurement("rtf", 0.2, "1", 9, Provenance.ESTIMATED, "m4"),
            ),
        ),
    )
    run = Run(
        name="one",
        status="complete",
        rows=rows,
        failures=(Failure(target="phone", error="gone", fix="plug it in"),),
        left_out=(LeftOut(target="m4", row=FLOAT, reason="float"),),
    )
    found = compare_run(run)
    assert [device.target for device in found.devices] == ["pi", "m4", "phone"]
    pi, m4, phone = found.devices
    assert [(result.model, result.find("rtf").value) for result in (*pi.results, *m4.results)] == [
        (INT8, 0.1),
        (INT8, 0.2),
    ]
    assert (m4.left_out, phone.error, phone.fix) == ({FLOAT: "float"}, "gone", "plug it in")
    assert found.quality[INT8][0].value == 2.2 and all(m.target is None for m in found.quality[INT8])
    assert found.models == [INT8, FLOAT]
