"""The pages of a history and of a leaderboard: whole, inert, and readable in a real browser."""

import re

import pytest
from browser import look, needs_browser
from sample_history import KNOWN, NEVER, candidate, entry
from sample_runs import HOST

from earshot.ci.history import Entry, trace
from earshot.ci.leaderboard import rank
from earshot.ci.report.html import history, leaderboard, svg
from earshot.ci.report.html.axis import Axis

HOSTILE = "<script>alert(1)</script>\"'&<img src=x onerror=y>\u202e"
BUDGETS = [{"metric": "pesq_wb", "min": 2.2}, {"metric": "pesq_wb", "min": 2.3, "severity": "warn"}]


def over_runs(name=str):
    runs = [entry(name(f"run{day}"), (2.0 + day / 40, 2.6), day=day, tags=(name(f"v1.{day}"),)) for day in range(1, 25)]
    other = {"dataset": name("two"), "host": HOST | {"runtime_version": name("3")}}
    last = [Entry(name("gone"), problem=name("no such run")), entry(name("new"), recipe={"budgets": BUDGETS}, **other)]
    return trace([*runs, *last], "pesq_wb")


def board(name=str):
    more = [
        candidate(name(f"quickstart-20260101-1200{index}"), 2 + index / 50, 0.001 * index, 9e5 / index)
        for index in range(1, 20)
    ]
    apart = [candidate(name(f"o{index}"), 2.0, 0.1 * index, 50, dataset=name("two")) for index in (1, 2)]
    return rank([*KNOWN, *NEVER.values(), *more, *apart])


PAGES = {"history": (history, over_runs), "leaderboard": (leaderboard, board)}


def test_the_history_has_every_run_and_limit():
    content = history.render(over_runs())
    assert len(re.findall(r'<g class="tone-0"><title>', content)) == 26
    assert content.count('<path class="course"') == 23  # neither over the gap nor into another set
    assert content.count('<path class="limit"') == 2 and content.count("∅</text>") == 1
    for words in ("v1.24 (run24)", "no such run", "another evaluation set", "limits: budgets of new", "≥ 2.2 MOS"):
        assert words in content


def test_the_leaderboard_has_its_front_as_a_line():
    content = leaderboard.render(board())
    assert content.count('aria-label="scatter"') == 4  # cost and size, of two tables
    assert content.count('<path class="course"') == 4
    for words in ("★", "beaten by", "not ranked", "the run failed: convert died", "a table of its own"):
        assert words in content


def test_a_table_of_one_needs_no_charts():
    assert "scatter" not in leaderboard.render(rank(KNOWN[:1]))


def test_a_line_goes_through_its_numbers():
    knots = [svg.Knot("a", 0.0, "0"), svg.Knot("b", 10.0, "10", joined=True), svg.Knot("c", 5.0, "5", broken=True)]
    drawn = svg.course(knots, Axis("", 0, 10), [(5.0, "≤ 5")])
    ((x0, y0, x1, y1),) = re.findall(r'"course" d="M([\d.]+) ([\d.]+)L([\d.]+) ([\d.]+)"', drawn)
    ((limit,),) = [re.findall(r'"limit" d="M44 ([\d.]+)H', drawn)]
    dots = [(float(x), float(y)) for x, y in re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)"', drawn)]
    assert dots[:2] == [(float(x0), float(y0)), (float(x1), float(y1))]
    assert dots[2][1] == float(limit) == (dots[0][1] + dots[1][1]) / 2
    ((mark,),) = [re.findall(r'"mark" d="M([\d.]+) ', drawn)]
    assert dots[1][0] < float(mark) < dots[2][0]
    assert svg.course([], Axis("", 0, 1)) == ""


@pytest.mark.parametrize("which", PAGES)
def test_hostile_names_stay_text(which):
    page, make = PAGES[which]
    content = page.render(make(lambda name: name + HOSTILE))
    assert "&lt;script&gt;alert(1)" in content
    assert not re.search(r"<script|<img|\u202e", content)
    assert not re.search(r"https?:|url\(|@import", content)


@needs_browser
@pytest.mark.parametrize(("width", "dark"), [(360, False), (1280, True)])
@pytest.mark.parametrize("which", PAGES)
def test_a_browser_shows_the_page(which, width, dark, tmp_path):
    page, make = PAGES[which]
    seen = look(page.render(make()), tmp_path, width, 900, dark)
    assert seen.found["seen"] == width and seen.found["wide"] <= width
    assert not seen.found["small"] and not seen.found["cut"], seen.found
    assert seen.found["faintest"][0] >= 4.5, seen.found["faintest"]
    assert (seen.found["background"][0] < 60) == dark
    assert (seen.console, seen.requests) == ([], [])
