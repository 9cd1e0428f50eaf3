"""The page of a run: the verdict first, everything that was measured, nothing that is alive, in a real browser."""

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
import soundfile
from browser import look, needs_browser
from sample_page import BINS, INT8, bare_page, quiet_page, sample_page

from earshot.ci.clip_choice import choose
from earshot.ci.evidence import Scores
from earshot.ci.report.html import svg
from earshot.ci.report.html.axis import Axis
from earshot.ci.report.html.page import LONGEST_TEXT, page, text
from earshot.ci.report.html.run import render
from earshot.ci.run_page import Listening, RunPage

VOID = {"meta"}
ELEMENTS = {
    *("html", "head", "meta", "title", "style", "body", "main", "header", "section", "article", "div", "p", "span"),
    *("h1", "h2", "h3", "h4", "strong", "code", "table", "thead", "tbody", "tr", "th", "td", "details", "summary"),
    *("figure", "figcaption", "ul", "li", "audio", "svg", "g", "text", "tspan", "path", "rect", "circle", "image"),
}
ATTRIBUTES = {
    *("lang", "charset", "name", "content", "http-equiv", "class", "tabindex", "open", "controls", "preload", "src"),
    *("href", "role", "aria-label", "aria-hidden", "viewbox", "d", "x", "y", "dx", "rx", "cx", "cy", "r", "width"),
    *("height", "fill", "fill-opacity", "stroke", "stroke-width", "text-anchor", "preserveaspectratio"),
}
CLASSES = re.compile(r"(tone-\d|[a-z]+)( [a-z]+)*")


class Reader(HTMLParser):
    """Elements and texts; tags that do not close in order are an error."""

    def __init__(self, content):
        super().__init__()
        self.open, self.elements, self.texts = [], [], []
        self.feed(content)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, attrs))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, attrs))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.texts.append(data)

    @property
    def said(self):
        return " ".join(self.texts)

    def named(self, tag):
        return [dict(attributes) for found, attributes in self.elements if found == tag]


def foreign(content):
    """Elements, attributes and addresses that no part of earshot writes."""
    found = []
    for tag, attributes in Reader(content).elements:
        found += [tag] if tag not in ELEMENTS else []
        for name, value in attributes:
            found += [f"{tag} {name}"] if name not in ATTRIBUTES else []
            if name in ("src", "href") and not re.fullmatch(r"data:(image/png|audio/flac);base64,[\w+/=]*", value):
                found.append(value)
            if name == "class" and not CLASSES.fullmatch(value):
                found.append(value)
    return found


def places(content, *words):
    return [content.index(word) for word in words]


def test_the_verdict_comes_first_then_what_was_missed_then_everything_else():
    content = render(sample_page())
    found = places(
        content, "✗ Fail", "<h2>Missed budgets, and why", "<h2>All budgets", "<h2>Stages", "<h2>Quality", "<h2>Listen",
        "<h2>Against the baseline", "<h2>Devices",
    )  # fmt: skip
    assert found == sorted(found)
    read = Reader(content)
    assert "fail, 5 budgets, 2 failed, 1 not decidable, 1 with a warning" in read.said
    assert "Targets without numbers: phone" in read.said
    missed = content[found[1] : found[2]]
    assert missed.count('class="panel missed') == 4
    assert places(missed, "✗ fail", "? not decidable", "! warn") == sorted(places(missed, "✗ fail", "? not", "! warn"))
    budgets = content[found[2] : found[3]]
    assert budgets.count("<tr>") == 1 + 5
    for cell in ("1.9 MOS", "at most 0.1 worse", "-0.2", "measured", "120"):
        assert cell in budgets


def test_layers_of_a_run_that_missed_nothing_stand_under_no_missed_budget():
    found = sample_page()
    calm = replace(found, verdicts=found.verdicts[:1], explanation=replace(found.explanation, findings=()))
    content = render(calm)
    assert "Missed budgets" not in content
    where = content[content.index("<h2>Where the quality goes") : content.index("<h2>Quality on")]
    assert "waterfall of pesq_wb" in where and "enc0/conv" in where
    assert "waterfall of pesq_wb" in content and content.count("waterfall of pesq_wb") == 1
    assert render(found).count("waterfall of pesq_wb") == 1, "shown where the budget was missed, and not again"


def test_numbers_of_every_part_are_there():
    read = Reader(render(sample_page()))
    for words in (
        "107.0", "450.0", "1.900 ± 0.100 (n=120)", "below 0 dB, n = 30", "p232_014", "the first 1.5 of 4.2 s",
        "7 samples were beyond full scale", "pesq_wb 2 MOS", "without x", "no device is attached", "here against main",
        "pesq 0.0.4: ITU-T P.862.2",
    ):  # fmt: skip
        assert words in read.said, words
    labels = [one.get("aria-label", "") for one in read.named("svg")]
    assert sum(label.startswith("spectrogram of") for label in labels) == 8
    assert {"intervals", "colours", "histogram", "bar chart", "dot chart"} <= set(labels)


def test_every_player_has_its_own_sound_and_every_spectrogram_its_picture():
    found = sample_page()
    read = Reader(render(found))
    sounds = [base64.b64decode(one["src"].partition(",")[2]) for one in read.named("audio")]
    wanted = [version for clip in found.listening.clips for version in clip.versions]
    assert sounds == [version.sound for version in wanted]
    pictures = [base64.b64decode(one["href"].partition(",")[2]) for one in read.named("image")]
    assert [one for one in pictures if one != found.listening.scale] == [version.picture for version in wanted]
    decoded, rate = soundfile.read(io.BytesIO(sounds[0]))
    assert (rate, len(decoded)) == (16000, 24000)


@pytest.mark.parametrize("made", [bare_page, quiet_page, lambda: RunPage(sample_page().run)])
def test_a_run_without_rows_sound_targets_or_budgets_has_a_page_without_empty_parts(made):
    content = render(made())
    assert foreign(content) == []
    for heading in re.findall(r"<h2>.*?</h2>\s*(\S+)", content):
        assert heading != "</section>"


def test_a_run_that_failed_half_way_fails_and_says_why():
    said = Reader(render(bare_page())).said
    assert "✗ Fail" in said and "The run failed before its end: the disk is full" in said
    assert "✓ Pass" not in said
    assert "✓ Pass" in Reader(render(quiet_page())).said
    without = replace(bare_page(), verdicts=())
    assert "✗ Fail" in Reader(render(without)).said, "no verdict on a run that failed is no pass"


HOSTILE = "<script>alert(1)</script>\"'&<img src=x onerror=y>\u202e\x07\x1b[31m</svg></style>{}" + 10_000 * "Q"


@pytest.mark.parametrize("place", ["before", "after", "alone"])
def test_hostile_words_stay_text(place):
    whole = {"before": lambda word: HOSTILE + word, "after": lambda word: word + HOSTILE, "alone": lambda _: HOSTILE}
    if place == "alone":  # rows of a run have different names
        numbers = iter(range(1000))
        whole[place] = lambda _: f"{HOSTILE}{next(numbers)}"
    plain, hostile = render(sample_page()), render(sample_page(_known(whole[place])))
    assert foreign(hostile) == [] == foreign(plain)
    assert [tag for tag, _ in Reader(hostile).elements].count("audio") == 8
    said = Reader(hostile).said
    assert "<script>alert(1)</script>" in said and "onerror=y" in said
    assert not re.search("[\u202e\x07\x1b]", hostile)
    assert "Q" * LONGEST_TEXT not in hostile and len(hostile) < len(plain) + 600_000
    alive = '<script>1</script><p onclick="y">z</p><svg><image href="http://x"></image></svg>'
    assert foreign(page("x", [alive])) == ["script", "p onclick", "http://x"]


def _known(say):
    """One answer for one word: rows are found by their names."""
    kept = {}
    return lambda word: kept.setdefault(word, say(word))


def test_what_is_far_too_long_is_cut_and_says_so():
    assert text("x" * LONGEST_TEXT) == "x" * LONGEST_TEXT
    assert text("x" * (LONGEST_TEXT + 1)) == "x" * (LONGEST_TEXT - 1) + "…"


def test_the_page_forbids_scripts_and_the_network():
    policy = next(one["content"] for one in Reader(render(quiet_page())).named("meta") if "http-equiv" in one)
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'" and rules["img-src"] == rules["media-src"] == "data:"
    assert "script-src" not in rules


def test_intervals_lie_where_their_values_are():
    axis = Axis("MOS", 1.0, 3.0)
    drawn = svg.intervals([("low", [svg.Span("int8", 2.0, 1.5, 2.5, "2", 1)])], axis)
    (low, high), (middle,) = (
        re.findall(r'class="span" d="M([\d.]+) \d+H([\d.]+)"', drawn)[0],
        re.findall(r'cx="([\d.]+)"', drawn),
    )
    assert float(middle) == pytest.approx((float(low) + float(high)) / 2) == svg.WIDTH / 2
    assert svg.intervals([], axis) == ""
    for low, value, high in ((1.0, 1.1, 1.2), (2.8, 2.9, 3.0), (1.0, 2.0, 3.0)):
        drawn = svg.intervals([("all", [svg.Span("int8", value, low, high, "0.123")])], axis)
        (place, anchor) = re.findall(r'<text x="([\d.]+)"[^>]* text-anchor="(start|end)">0.123', drawn)[0]
        assert float(place) > 50 if anchor == "end" else float(place) < svg.WIDTH - 50, (low, high)


def scored(*values):
    names = tuple(f"clip{index}" for index in range(len(values)))
    return Scores(dataset="d", protocol={}, clips=names, groups=names, values={"stoi": (None,) * len(names),
                                                                              "pesq_wb": values})  # fmt: skip


def test_clips_are_chosen_by_what_they_gained():
    scores = {"noisy": scored(1.0, 2.0, 1.0, 1.5, None), INT8: scored(1.5, 1.9, 2.0, 1.7, 4.0)}
    chosen = choose(scores, INT8, ("noisy", "convert:float32"))
    assert [one.clip for one in chosen] == ["clip1", "clip0", "clip2"]
    assert chosen[0].why == "gained least: pesq_wb -0.1 against noisy"
    assert choose({INT8: scores[INT8]}, INT8, ("noisy",)) == ()
    assert choose(scores, "prune", ("noisy",)) == ()
    beside = choose(
        {"convert:float32": scored(2.0, 2.0, 2.0), INT8: scored(1.0, 2.0, 1.5)}, INT8, ("noisy", "convert:float32")
    )
    assert [one.clip for one in beside] == ["clip0", "clip2", "clip1"]
    assert "against convert:float32" in beside[0].why
    assert [one.clip for one in choose({"noisy": scored(1.0), INT8: scored(2.0)}, INT8, ("noisy",))] == ["clip0"]


@needs_browser
@pytest.mark.parametrize(("width", "height", "dark"), [(360, 800, False), (360, 800, True), (1280, 900, True)])
def test_a_browser_shows_it_all_and_plays_it_all(tmp_path, width, height, dark):
    seen = look(render(sample_page()), tmp_path, width, height, dark)
    assert seen.found["seen"] == width
    assert seen.found["wide"] <= width
    assert (seen.found["small"], seen.found["cut"]) == ([], [])
    assert (max(seen.found["background"]) < 60) is dark
    assert seen.found["faintest"][0] >= 4.5, seen.found["faintest"]
    assert len(seen.found["players"]) == 8
    assert all(state >= 1 and error is None for state, _, error in seen.found["players"])
    assert all(length == pytest.approx(1.5) for _, length, _ in seen.found["players"])
    assert all(picture > 200 for picture in seen.found["pictures"])
    assert (seen.console, seen.requests) == ([], [])


@needs_browser
def test_a_browser_finds_nothing_alive_in_hostile_words(tmp_path):
    seen = look(render(sample_page(_known(lambda word: word + HOSTILE))), tmp_path, 360, 800)
    assert seen.found["wide"] <= 360
    assert (seen.console, seen.requests) == ([], [])


@needs_browser
def test_the_browser_notices_a_player_without_sound(tmp_path):
    found = sample_page()
    clip = found.listening.clips[0]
    broken = replace(clip, versions=(replace(clip.versions[0], sound=b"no sound"),))
    seen = look(render(replace(found, listening=Listening((broken,)))), tmp_path, 1280, 900)
    ((state, _, error),) = seen.found["players"]
    assert state == 0 and error


def test_bins_keep_their_order():
    content = render(sample_page())
    assert places(content, *(f"{name}, n =" for name in BINS)) == sorted(places(content, *(f"{n}, n =" for n in BINS)))
