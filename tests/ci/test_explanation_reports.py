"""Reports say why budgets were missed: all of it, and harmlessly when names are hostile."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import jsonschema
import pytest
from markdown_it import MarkdownIt
from referencing import Registry, Resource
from rich.console import Console

from earshot.ci.explanation import (
    ClipLoss,
    Costs,
    Explanation,
    Finding,
    Layer,
    Layers,
    Share,
    Together,
    WorstClips,
    read_layers,
)
from earshot.ci.report import annotations, markdown, table
from earshot.ci.report import explanation as text
from earshot.ci.report import json as json_report
from earshot.ci.report.html import explanation as page
from earshot.ci.report.html.waterfall import draw
from earshot.ci.run_file import Row, Run
from earshot.ci.verdict import Status, Verdict
from earshot.ci.waterfall import Waterfall, waterfall
from earshot.core.measurement import Measurement

SCHEMAS = Path(__file__).parents[2] / "ci" / "schema"
HOSTILE = "<script>alert(1)</script> | @everyone **b** \x1b[31m rtl \u202e :warning: %0A::error::x"


def fall(baseline: str = "") -> Waterfall:
    values = {"noisy": 1.0, "teacher": 2.0, "distill": None, "prune": 1.8, "convert:int8": 1.5}
    rows = [
        Row(row=name, measurements=() if value is None else (Measurement("pesq_wb", value, "MOS", 30),))
        for name, value in values.items()
    ]
    base = [Row(row=row.row, measurements=(Measurement("pesq_wb", 1.9, "MOS", 30),)) for row in rows]
    found = waterfall(rows, "pesq_wb", "convert:int8", base=base if baseline else (), baseline=baseline)
    assert found is not None
    return found


def explained(name: str = "plain") -> Explanation:
    """Everything an explanation can hold; `name` stands wherever a user or a device chooses the words."""
    clips = WorstClips("pesq_wb", "MOS", "convert:int8", name, (ClipLoss(name, name, 1.25, 2.5),), 7, 30)
    parts = (Share(name, 900.0, 0.9, name, name), Share("ADD", 100.0, 0.1))
    costs = Costs("operators", name, "convert:int8", 1000.0, "cycles", parts, 12, name)
    layer = Layer(3, name, name, f"^{name}$", 8.5, 9.5, 1.25, 1.5, 304, 16, 4, 4096)
    layers = Layers("convert:int8", (layer,), 20, 11.0, 40.0, Together((name,), 2.25, 600, 16), 200, 3.2, name, 200)
    return Explanation(
        "night",
        (
            Finding("clear", "fail", "pesq_wb", "convert:int8", None, (f"{name} lost most",), 1.7, fall(name), clips),
            Finding("fast", "warn", "rtf", "convert:int8", name, (f"{name} costs most",), costs=costs, missing=(name,)),
        ),
        layers,
        (name,),
    )


VERDICTS = [
    Verdict("clear", Status.FAIL, "1.5 MOS, misses: ≥ 1.7 MOS", "pesq_wb", "≥ 1.7 MOS", "convert:int8", value=1.5),
    Verdict("fast", Status.WARN, "0.6, misses: ≤ 0.5", "rtf", "≤ 0.5", "convert:int8", value=0.6),
    Verdict("small", Status.PASS, "kept", "model_bytes", "≤ 1", "convert:int8", value=1.0),
]
RUN = Run(name="night", status="complete", rows=(Row(row="convert:int8"),))


def printed(renderable, width=120) -> str:
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    console.print(renderable)
    return console.file.getvalue()


def test_the_terminal_says_it_below_each_missed_budget_and_not_below_kept_ones():
    shown = printed(table.render(RUN, VERDICTS, explained()))
    lines = [line.strip() for line in shown.splitlines()]
    place = next(index for index, line in enumerate(lines) if line.startswith("fail  clear"))
    assert lines[place + 1] == "plain lost most"
    assert "plain costs most; plain" in shown
    assert "lost most" not in printed(table.render(RUN, VERDICTS))
    assert shown.rstrip().endswith("1 with a warning")


def test_explain_prints_all_of_it():
    shown = printed(text.render_whole(explained()), 160)
    for word in ("distill", "not measured", "lost most", "1.250", "-1.250", "90.0 %", "+1.50", "+304", "4,096"):
        assert word in shown, word
    assert "2.25 of these 29.0 dB" in shown and "quantize.keep_wide: ['plain']" in shown


@pytest.mark.parametrize("name", ["plain", HOSTILE])
def test_json_keeps_the_schema(name):
    result = json.loads(json_report.render(RUN, VERDICTS, explained(name)))
    schemas = [json.loads((SCHEMAS / one).read_text()) for one in ("run.schema.json", "result.schema.json")]
    known = Registry().with_resources([(one["$id"], Resource.from_contents(one)) for one in schemas])
    validator = jsonschema.Draft202012Validator(schemas[1], registry=known)
    validator.validate(result)
    assert result["explanation"]["findings"][0]["waterfall"]["levels"][2] == {
        "row": "distill", "n": 0, "reason": "not measured",
    }  # fmt: skip
    assert "explanation" not in json.loads(json_report.render(RUN, VERDICTS))
    assert "explanation" not in json.loads(json_report.render(RUN, VERDICTS, Explanation("night")))
    del result["explanation"]["run"]
    with pytest.raises(jsonschema.ValidationError):
        validator.validate(result)


def test_layers_come_back_from_json_as_they_went():
    layers = explained().layers
    assert layers is not None
    from dataclasses import asdict

    assert read_layers(json.loads(json.dumps(asdict(layers)))) == layers
    alone = replace(layers, together=None)
    assert read_layers(json.loads(json.dumps(asdict(alone)))) == alone
    with pytest.raises((TypeError, KeyError)):
        read_layers({"layers": [{"index": 1}]})


def test_markdown_has_a_section_and_nothing_in_it_is_alive():
    rendered = MarkdownIt("gfm-like", {"linkify": False}).render(markdown.render(RUN, VERDICTS, explained(HOSTILE)))
    assert "<h4>Why</h4>" in rendered and "<summary>the numbers</summary>" in rendered
    tags = set(re.findall(r"<([a-z0-9]+)", rendered))
    assert tags <= {"h3", "h4", "p", "strong", "table", "thead", "tbody", "tr", "th", "td", "details", "summary"}
    assert "@everyone" not in markdown.render(RUN, VERDICTS, explained(HOSTILE))
    plain = markdown.render(RUN, VERDICTS, explained())
    assert "**clear**: plain lost most" in plain and "| plain | plain | 1.250 | 2.500 | -1.250 |" in plain


def test_annotations_carry_the_first_sentence_in_one_line():
    lines = annotations.render(VERDICTS, explained(HOSTILE)).splitlines()
    assert len(lines) == 2 and all(line.startswith(("::error title=", "::warning title=")) for line in lines)
    assert "lost most" in lines[0] and "%250A" in lines[0]
    assert "lost most" not in annotations.render(VERDICTS)


def test_html_parts_are_well_formed_and_text_stays_text():
    parts = page.parts(explained(HOSTILE))
    assert len(parts) == 4
    for part in parts:
        tree = ElementTree.fromstring(f"<div>{part}</div>".replace("<details open>", "<details>"))
        assert all(element.tag != "script" for element in tree.iter())
    assert "&lt;script&gt;" in "".join(parts)
    assert page.parts(Explanation("night")) == []


def circles(drawing: str) -> list[tuple[float, float]]:
    tree = ElementTree.fromstring(drawing)
    return [(float(one.get("cx", "")), float(one.get("cy", ""))) for one in tree.iter("circle")]


def test_the_waterfall_is_drawn_to_scale():
    drawing = draw(fall(), 1.7)
    places = [x for x, _ in circles(drawing)]
    # noisy 1.0, teacher 2.0, prune 1.8, int8 1.5: distances along the axis are as the values'.
    scale = (places[1] - places[0]) / 1.0
    assert scale > 100
    assert places[2] - places[0] == pytest.approx(0.8 * scale, abs=0.3)
    assert places[3] - places[0] == pytest.approx(0.5 * scale, abs=0.3)
    tree = ElementTree.fromstring(drawing)
    bars = [float(one.get("width", "")) for one in tree.iter("rect")]
    assert bars == pytest.approx([1.0 * scale, 0.2 * scale, 0.3 * scale], abs=0.3)
    assert [one.get("fill") for one in tree.iter("rect")] == ["var(--good)", "var(--bad)", "var(--bad)"]
    words = " ".join(tree.itertext())
    assert "not measured" in words and "lost most" in words and "limit" in words
    assert all(0 <= x <= 400 for x in places)
    beside = circles(draw(fall("main")))
    assert len(beside) == 8 and len(circles(draw(fall()))) == 4


def test_sizes_grow_where_quality_is_lost():
    sizes = [
        Row(row=name, measurements=(Measurement("model_bytes", value, "bytes"),))
        for name, value in (("teacher", 1000.0), ("distill", 400.0), ("convert:float32", 450.0))
    ]
    found = waterfall(sizes, "model_bytes", "convert:float32", higher_is_better=False)
    assert found is not None
    drawing = draw(found)
    assert "grew most" in drawing and "lost most" not in drawing
    assert [one.get("fill") for one in ElementTree.fromstring(drawing).iter("rect")] == ["var(--good)", "var(--bad)"]
    (part,) = page.parts(Explanation("night", (Finding("small", "fail", "model_bytes", "x", None, waterfall=found),)))
    assert "Where model_bytes came from" in part and "red grew" in part


def test_the_terminal_shows_names_and_units_as_they_are():
    """A group stands in brackets, which rich would take for markup; a unit comes from a device."""
    found = explained().findings
    groups = replace(found[0], waterfall=replace(fall("plain"), metric="pesq_wb[lsmix]", baseline="[red]"))
    assert found[1].costs is not None
    steering = replace(found[1], costs=replace(found[1].costs, unit=HOSTILE))
    shown = printed(text.render_whole(Explanation("night", (groups, steering))), 300)
    assert "pesq_wb[lsmix] (MOS)" in shown and "[red]" in shown
    assert "\x1b" not in shown and "\u202e" not in shown
    assert "\x1b" not in printed(text.render_whole(explained(HOSTILE)), 300)


def test_a_file_without_integer_layers_has_notes_too():
    layers = Layers("convert:int8", (), 0, 30.0, 50.0, None, 200, 3.2, "2 validation clips")
    shown = printed(text.render_whole(Explanation("night", layers=layers)))
    assert layers.lowest is None and "0 layers, 200 frames" in shown


def test_bytes_are_told_to_the_last_one():
    rows = [
        Row(row=name, measurements=(Measurement("model_bytes", value, "bytes"),))
        for name, value in (("teacher", 910_568.0), ("distill", 393_047.0))
    ]
    sizes = waterfall(rows, "model_bytes", "distill", higher_is_better=False)
    assert sizes is not None
    finding = Finding("small", "fail", "model_bytes", "distill", None, waterfall=sizes)
    shown = printed(text.render_whole(Explanation("night", (finding,))))
    for told in (
        shown,
        draw(sizes).replace("−", "-"),
        markdown.render(RUN, VERDICTS, Explanation("night", (finding,))),
    ):
        assert "910,568" in told and "393,047" in told and "-517,521" in told
