"""The page: well formed, whole, inert, and readable in a real browser, on a desk and on a phone."""

import re
from html.parser import HTMLParser

import pytest
from browser import look, needs_browser
from sample_comparison import sample

from earshot.ci.comparison import Comparison, Device, ModelResult
from earshot.ci.report.html import svg
from earshot.ci.report.html.axis import Axis, linear, logarithmic, short
from earshot.ci.report.html.devices import render
from earshot.ci.report.html.page import page, section, table
from earshot.core.measurement import Measurement

VOID = {"meta", "br", "link", "img", "input"}


class Reader(HTMLParser):
    """Collects elements and texts; tags that do not close in order are an error."""

    def __init__(self, content):
        super().__init__()
        self.open, self.elements, self.texts = [], [], []
        self.feed(content)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    def named(self, tag):
        return [attributes for found, attributes in self.elements if found == tag]


def test_the_page_holds_every_target_number_failure_and_reason():
    content = render(sample())
    read = Reader(content)
    said = " ".join(read.texts)
    for device in sample().devices:
        assert device.target in said
    for part in ("~0.8200", "≈2346", "0.0031", "~0.0460!", "no device is attached", "plug it in, then: adb devices"):
        assert part in said
    assert "it runs int16x8, int8; this model is float32" in said
    assert "0.046 (lower-bound)" in said and "graph alone" in said
    assert {figure["aria-label"] for figure in read.named("svg") if "aria-label" in figure} == {
        *("dot chart", "scatter", "bar chart", "histogram")
    }
    assert len(read.named("details")) == 3 + 2  # operators of three results, environments of two


def test_the_page_fetches_nothing_and_runs_nothing():
    read = Reader(render(sample()))
    assert {"script", "link", "img", "iframe", "object"}.isdisjoint(tag for tag, _ in read.elements)
    assert not [name for _, attributes in read.elements for name in attributes if name.startswith("on")]
    assert not re.search(r"https?:|url\(|@import", render(sample()))


HOSTILE = "<script>alert(1)</script>\"'&<img src=x onerror=y>\u202e"


def test_hostile_names_stay_text():
    result = ModelResult(
        model=HOSTILE,
        measurements=(Measurement("rtf", 0.1, "1", target=HOSTILE, flags=(HOSTILE,)),),
        environment={HOSTILE: HOSTILE},
    )
    devices = (
        Device(target=HOSTILE, results=(result,), left_out={HOSTILE: HOSTILE}),
        Device(target="b", error=HOSTILE),
    )
    content = render(Comparison(title=HOSTILE, devices=devices))
    read = Reader(content)
    assert {"script", "img"}.isdisjoint(tag for tag, _ in read.elements)
    assert "<script>alert(1)" in " ".join(read.texts) and "\u202e" not in content
    with pytest.raises(AssertionError):  # negative control: the reader notices what is not escaped
        assert {"script"}.isdisjoint(tag for tag, _ in Reader(page("x", [HOSTILE])).elements)


def test_an_empty_comparison_has_no_empty_parts():
    read = Reader(render(Comparison()))
    assert read.named("figure") == [] and read.named("details") == []
    assert section("Nothing", "", "") == ""


def test_tables_set_numbers_to_the_right():
    read = Reader(table(("a", "b"), [("x", "1")], numbers=[1]))
    assert [attributes.get("class") for tag, attributes in read.elements if tag in ("td", "th")] == [None, "number"] * 2


def test_axes_place_values_and_ticks():
    axis = Axis("t", 0, 10)
    assert [axis.place(value) for value in (-1, 0, 2.5, 10, 11)] == [0, 0, 0.25, 1, 1]
    assert axis.ticks() == [0, 2, 4, 6, 8, 10]
    log = Axis("t", 0.01, 10, log=True)
    assert [log.place(value) for value in (0, 0.01, 0.1, 10)] == pytest.approx([0, 0, 1 / 3, 1])
    assert log.ticks() == pytest.approx([0.01, 0.1, 1, 10])
    assert logarithmic("t", [1]).ticks() == pytest.approx([0.5, 1, 2])
    assert logarithmic("t", []).high > logarithmic("t", [0, -1]).low > 0
    for values in ([], [3.0], [0.0, 0.0], [1e-9, 2e-9], [-5.0, 5.0], [1e12]):
        for made in (linear("t", values), linear("t", values, zero=False)):
            assert made.low < made.high and 2 <= len(made.ticks()) <= 7, values
            assert all(0 <= made.place(value) <= 1 for value in values)
            written = [text for _, text in made.labels()]
            assert len(set(written)) == len(written), values
    close = linear("t", [1.48379, 1.48377], zero=False)
    assert abs(close.place(1.48379) - close.place(1.48377)) < 0.01, "next to nothing looks like a difference"
    assert [text for _, text in close.labels()] == ["1.46", "1.48", "1.50"]
    assert [short(value) for value in (0, 0.02, 1500, 57270, 2.5e6)] == ["0", "0.02", "1.5k", "57.3k", "2.5M"]


def test_bars_are_as_long_as_their_values():
    drawn = svg.bars([svg.Item("a", 10, "10"), svg.Item("b", 5, "5", form="diamond"), svg.Item("c", 0, "0")])
    widths = [float(width) for width in re.findall(r'<rect [^>]*width="([\d.]+)"', drawn)]
    assert widths[0] - 2 == pytest.approx(2 * (widths[1] - 2)) and widths[2] == 2
    assert (svg.bars([]), svg.dots([], Axis("x", 0, 1)), svg.scatter([], Axis("x", 0, 1), Axis("y", 0, 1))) == (
        "",
        "",
        "",
    )


def test_a_histogram_loses_only_its_empty_ends():
    drawn = svg.histogram([0, 1, 2, 3, 4, 5], [0, 4, 0, 2, 0], "µs")
    assert re.findall(r"<title>(\d+) frames", drawn) == ["4", "0", "2"]
    heights = [float(height) for height in re.findall(r'height="([\d.]+)" fill', drawn)]
    assert heights[0] == pytest.approx(2 * heights[2], rel=0.01) and heights[1] == 0
    tailed = svg.histogram([*range(101)], [500, 500, *[0] * 97, 3], "µs")
    assert re.findall(r"<title>(\d+) frames", tailed) == ["500", "500"] and "3 more, up to 100" in tailed
    assert "more, up to" not in drawn
    assert svg.histogram([0, 1], [0], "µs") == "" == svg.histogram([0], [3], "µs")


PHONE = (360, 800)


@needs_browser
@pytest.mark.parametrize(("width", "height", "dark"), [(*PHONE, False), (1280, 900, True)])
def test_a_browser_shows_the_page_without_errors_or_sideways_scrolling(tmp_path, width, height, dark):
    seen = look(render(sample()), tmp_path, width, height, dark)
    assert seen.found["seen"] == width
    assert seen.found["wide"] <= width
    assert (seen.found["small"], seen.found["cut"]) == ([], [])
    assert (seen.console, seen.requests) == ([], [])
    assert (max(seen.found["background"]) < 60) is dark
    assert seen.found["texts"] > 100
    assert seen.found["faintest"][0] >= 4.5, seen.found["faintest"]


@needs_browser
def test_the_browser_check_notices_what_is_too_wide_cut_faint_foreign_or_wrong(tmp_path):
    broken = page("x", [
        '<p style="width: 900px; color: #999">wide</p><script>console.error("broken")</script>',
        '<img src="http://127.0.0.1:9/x.png" alt="">',
        svg.bars([
            svg.Item("a", 1, "a number with far too many words beside its bar to fit " * 2)
        ]).join(("<figure>", "</figure>")),
    ])  # fmt: skip
    seen = look(broken, tmp_path, *PHONE)
    assert seen.found["wide"] > PHONE[0]
    assert len(seen.found["cut"]) == 1
    assert seen.found["faintest"][0] < 4.5
    assert len(seen.console) == 2 and all("Content Security Policy" in line for line in seen.console)
    assert seen.requests == [], "the page's policy let it fetch"
    without = broken.replace("Content-Security-Policy", "x")
    seen = look(without, tmp_path, *PHONE)
    assert "broken" in seen.console[0]
    assert seen.requests == ["http://127.0.0.1:9/x.png"]
