"""Reports hold what the run and the verdicts hold, also when names are hostile."""

import io
import json
from pathlib import Path
from xml.etree import ElementTree

import jsonschema
import pytest
from markdown_it import MarkdownIt
from referencing import Registry, Resource
from rich.console import Console

from earshot.ci.budget import Budget
from earshot.ci.budget_set import BudgetSet
from earshot.ci.gate import gate, judge
from earshot.ci.report import json as json_report
from earshot.ci.report import junit, layout, markdown, table
from earshot.ci.run_file import Failure, LeftOut, Row, Run
from earshot.core.measurement import Measurement, Provenance

SCHEMAS = Path(__file__).parents[2] / "ci" / "schema"
HOSTILE = [
    "<script>alert(1)</script>",
    "a | b \\| c",
    "**bold** _it_ `code` ~~x~~ [l](http://x.y) ![i](u) <b>",
    "@everyone #1 www.example.org https://x.y/z &lt; &#60;",
    "[red]markup[/red] \x1b[31mcolour\x07",
    "]]></failure><x a='1' b=\"2\">&",
    "line\nbreak\ttab\r\nend",
    "rtl \u202eevil\u2066 zero\u200bwidth",
    "null \x00 noncharacter \uffff",
    "- [ ] # 1. > ```",
]


def quality(pesq, n=30):
    return (
        Measurement("pesq_wb", pesq, "MOS", n),
        Measurement("stoi", 0.9, "1", n),
        Measurement("si_sdr", 12.34, "dB", n),
    )


def timed(target, scale=1.0, provenance=Provenance.MEASURED):
    return (
        Measurement("rtf", 0.0031 * scale, "1", 9, provenance, target),
        Measurement("frame_p50_us", 17.24 * scale, "us", 900, provenance, target),
        Measurement("frame_p99_us", 21.45 * scale, "us", 900, provenance, target),
    )


COST = (
    Measurement("parameters", 195312.0, "1"),
    Measurement("macs_per_second", 89.4e6, "MAC/s"),
    Measurement("model_bytes", 283_456.0, "bytes"),
    Measurement("state_bytes", 4210.0, "bytes"),
)


def make_run(*int8, name="quick-1", status="complete", error=None):
    rows = (
        Row(row="noisy", measurements=quality(1.658)),
        Row(row="teacher", measurements=quality(2.4)),
        Row(row="convert:float32", measurements=(*quality(2.3), *COST)),
        Row(row="convert:int8", measurements=int8 or (*quality(2.29), *COST, *timed("host"))),
    )
    return Run(name=name, status=status, error=error, rows=rows)


BUDGETS = [
    Budget(metric="pesq_wb", min=2.25),
    Budget(metric="pesq_wb", min=3.0),
    Budget(metric="arena_bytes", max=1, severity="warn"),
]


def terminal(run, verdicts, width=100):
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    console.print(table.render(run, verdicts))
    return console.file.getvalue()


def cells_of(markdown_text):
    """Every table of a Markdown text as lists of plain cell texts; anything but plain text in a cell is an error."""
    tables, row = [], None
    for token in MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(markdown_text):
        if token.type == "table_open":
            tables.append([])
        elif token.type == "tr_open":
            row = []
            tables[-1].append(row)
        elif token.type == "table_close":
            row = None
        elif token.type == "inline" and row is not None:
            assert {child.type for child in token.children} <= {"text", "text_special"}, token.content
            row.append("".join(child.content for child in token.children))
    return tables


def test_the_table_shows_every_row_and_number():
    run = make_run()
    text = terminal(run, judge(BUDGETS, run.rows))
    lines = {line.split()[0]: line.split() for line in text.splitlines() if line.strip()}
    assert lines["noisy"] == ["noisy", *"-" * 4, "1.658", "0.900", "12.34", "-", "-", "-", "-"]
    expected = ["195.3", "89.4", "283.5", "4.21", "2.290", "0.900", "12.34", "0.0031", "17.2", "21.4", "fail"]
    assert lines["convert:int8"][1:] == expected
    assert "times on host" in text
    assert "3.0" not in lines["convert:int8"]
    assert text.splitlines()[-1] == "quick-1: fail, 3 budgets, 1 failed, 1 with a warning"


@pytest.mark.parametrize("width", [100, 120])
def test_the_run_table_is_whole_at_its_widths(width):
    run = make_run(*quality(2.29), *COST, *timed("host", 40), *timed("pi4-emulated", 4000))
    text = terminal(run, judge(BUDGETS, run.rows), width)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width


def test_a_narrow_terminal_does_cut():
    """Negative control of the check above."""
    assert "…" in terminal(make_run(), [], 60)


def test_several_targets_have_a_line_each():
    run = make_run(*quality(2.29), *COST, *timed("host"), *timed("pi4", 100))
    text = terminal(run, [])
    (on_host,) = [line.split() for line in text.splitlines() if line.startswith("host")]
    (on_pi,) = [line.split() for line in text.splitlines() if line.startswith("pi4")]
    (row,) = [line.split() for line in text.splitlines() if line.startswith("convert:int8")]
    assert on_host == ["host", "convert:int8", "0.0031", "17.2", "21.4", "measured"]
    assert on_pi == ["pi4", "convert:int8", "0.3100", "1724", "2145", "measured"]
    assert row == ["convert:int8", "195.3", "89.4", "283.5", "4.21", "2.290", "0.900", "12.34", "-"]


def test_a_target_that_is_more_than_a_clock_shows_it():
    text = terminal(make_run(*quality(2.29), Measurement("ram_bytes", 51200.0, "bytes", target="m4")), [])
    (line,) = [line.split() for line in text.splitlines() if line.startswith("m4")]
    assert line == ["m4", "convert:int8", "51.2", "measured"]


def test_verdicts_mark_how_their_value_came_to_be():
    run = make_run(*quality(2.29), *timed("m4", provenance=Provenance.ESTIMATED))
    verdicts = judge([Budget(metric="rtf", max=1, allow="estimated"), Budget(metric="pesq_wb", min=1)], run.rows)
    assert [layout.verdict_cells(verdict)[2] for verdict in verdicts] == ["~0.0031", "2.29 MOS"]


def test_a_failed_target_and_a_model_left_out_are_shown_with_the_reason():
    failures = (Failure(target="phone", error="no device is attached", fix="adb devices"),)
    left_out = (LeftOut(target="m4", row="convert:float32", reason="m4 runs int8"),)
    run = make_run().model_copy(update={"failures": failures, "left_out": left_out})
    verdicts = gate(run, BudgetSet.model_validate([{"metric": "rtf", "target": "phone", "max": 1}]))
    for text in (terminal(run, verdicts), markdown.render(run, verdicts).replace("&#58;", ":")):
        assert "no device is attached" in text and "adb devices" in text
        assert "m4 left out convert:float32: m4 runs int8" in text
    said = {verdict.budget: verdict.reason for verdict in verdicts}
    assert said["phone was profiled"] == "no device is attached"
    assert "target phone failed: no device is attached" in said["rtf ≤ 1 (phone)"]
    result = json.loads(json_report.render(run, verdicts))
    result_validator().validate(result)
    assert (result["passed"], result["failures"][0]["fix"]) == (False, "adb devices")
    assert result["left_out"] == [{"target": "m4", "row": "convert:float32", "reason": "m4 runs int8"}]
    assert not [one for one in gate(make_run(), BudgetSet()) if "was profiled" in one.budget]


@pytest.mark.parametrize(
    ("provenance", "mark"), [(Provenance.ESTIMATED, "~"), (Provenance.EMULATED, "≈"), (Provenance.TEST_DOUBLE, "?")]
)
def test_what_was_not_measured_is_marked_everywhere(provenance, mark):
    run = make_run(*quality(2.29), *timed("cortex-m4", provenance=provenance))
    for text in (terminal(run, []), markdown.render(run, [])):
        assert f"{mark}17.2" in text.replace("&#126;", "~").replace("&#63;", "?")
        assert provenance.replace("_", " ").split()[0][:5] in text or "stand-in" in text
    assert mark not in terminal(make_run(), [])


def test_a_run_that_failed_half_way_is_still_rendered():
    run = make_run(status="failed", error="disk full").model_copy(update={"rows": ()})
    verdicts = gate(run, BudgetSet())
    for text in (terminal(run, verdicts), markdown.render(run, verdicts), junit.render(run, verdicts)):
        assert "disk full" in text
    assert json.loads(json_report.render(run, verdicts))["passed"] is False


def test_markdown_reads_back_as_the_same_tables():
    run = make_run()
    verdicts = judge(BUDGETS, run.rows)
    judged, rows, quality = cells_of(markdown.render(run, verdicts))
    assert judged[0] == ["verdict", *layout.VERDICT_HEADER, "reason"]
    assert [row[0].split()[-1] for row in judged[1:]] == ["fail", "warn", "pass"]
    assert judged[1][1:-1] == ["pesq_wb", "convert:int8", "2.29 MOS", "≥ 3 MOS", "-0.71"]
    assert [row[0] for row in rows[1:]] == ["noisy", "teacher", "convert:float32", "convert:int8"]
    assert rows[-1][-1] == "❌ fail"
    assert all(len(row) == len(rows[0]) for row in rows)
    assert quality[0] == ["part", "row", "pesq_wb", "stoi", "si_sdr"]
    assert [row[:2] for row in quality[1:]] == [["all", row.row] for row in run.rows]
    assert quality[-1][2].startswith("2.290 ± ")


def test_junit_reads_back_one_case_per_budget():
    run = make_run()
    verdicts = judge(BUDGETS, run.rows)
    root = ElementTree.fromstring(junit.render(run, verdicts))
    suite = root.find("testsuite")
    cases = suite.findall("testcase")
    assert [case.get("name") for case in cases] == [verdict.budget for verdict in verdicts]
    assert suite.attrib == {"name": "quick-1", "tests": "3", "failures": "1", "errors": "0", "skipped": "0"}
    assert [case.find("failure") is not None for case in cases] == [False, True, False]
    assert cases[1].find("failure").get("message") == verdicts[1].reason
    assert cases[2].find("system-out").text.startswith("warn: ")


def result_validator():
    run, result = (json.loads((SCHEMAS / f"{name}.schema.json").read_text()) for name in ("run", "result"))
    registry = Registry().with_resource(run["$id"], Resource.from_contents(run))
    jsonschema.Draft202012Validator.check_schema(result)
    return jsonschema.Draft202012Validator(result, registry=registry)


def test_json_keeps_its_schema():
    run = make_run(*quality(None), *timed("host"))
    verdicts = judge(BUDGETS, run.rows)
    result = json.loads(json_report.render(run, verdicts))
    validator = result_validator()
    validator.validate(result)
    assert result["passed"] is False
    assert [verdict["status"] for verdict in result["verdicts"]] == ["fail", "fail", "warn"]
    result["verdicts"][0]["status"] = "perhaps"
    assert not validator.is_valid(result)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_names_are_shown_and_do_nothing(text):
    plain = layout.clean(text)
    measured = Measurement("pesq_wb", None, "MOS", target=text, reason=text)
    rows = (Row(row=text, measurements=(measured,)),)
    run = Run(name=text, status="failed", error=text, rows=rows)
    verdicts = gate(run, BudgetSet.model_validate([{"metric": "pesq_wb", "min": 1, "name": text}]))

    drawn = terminal(run, verdicts, width=400)
    assert plain in drawn
    assert "\x1b" not in drawn and "\x07" not in drawn and "\u202e" not in drawn

    judged, table_rows = cells_of(markdown.render(run, verdicts))
    assert table_rows[1][0] == plain
    assert plain in [row[1] for row in judged]
    assert all(len(row) == len(judged[0]) for row in judged)

    root = ElementTree.fromstring(junit.render(run, verdicts).encode())
    assert plain in [case.get("name") for case in root.iter("testcase")]
    assert {element.tag for element in root.iter()} <= {"testsuites", "testsuite", "testcase", "failure", "system-out"}

    assert json.loads(json_report.render(run, verdicts))["run"] == text


def test_a_name_that_utf8_cannot_hold_is_shown_all_the_same():
    run = make_run(name="half \ud800 pair")
    for text in (terminal(run, []), markdown.render(run, []), junit.render(run, [])):
        assert "half \ufffd pair" in text
        text.encode()
    json_report.render(run, []).encode()


def test_unescaped_text_would_be_noticed():
    """Negative control: without `escape` the same checks fail."""
    row = "| x |\n| --- |\n"
    with pytest.raises(AssertionError):
        cells_of(row + f"| {HOSTILE[2]} |")
    assert cells_of(row + f"| {markdown.escape(HOSTILE[2])} |")[0][1] == [layout.clean(HOSTILE[2])]


def test_mentions_and_links_do_not_come_alive():
    """GitHub links these beyond CommonMark, so the raw text must not hold them."""
    text = markdown.escape("@everyone #1 www.example.org https://x.y a_b")
    assert text == "&#64;everyone &#35;1 www&#46;example.org https&#58;//x.y a_b"
