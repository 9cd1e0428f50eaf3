"""`earshot history` and `earshot leaderboard` on stores of hand-made runs, damaged ones among them."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys

import pytest
import sample_store
from click.testing import CliRunner
from sample_store import HOST, INT8, add_run

from earshot.ci.evidence import baseline_text
from earshot.ci.run_file import read_run
from earshot.pipeline import manifest
from earshot.pipeline.cli.main import application
from earshot.pipeline.evidence import gather
from earshot.pipeline.runs import run_path, set_tag
from earshot.pipeline.store import Store

HEAVY = {"torch", "ai_edge_litert", "litert_torch", "tensorflow", "scipy"}
FIRST, SECOND, THIRD = (f"net-2026010{day}-120000" for day in (1, 2, 3))


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture
def three(store):
    """Three runs, written in another order than they began in; the first and the last have tags."""
    add_run(store, THIRD, (2.5, 3.5), rtf=0.03, size=300)
    add_run(store, FIRST, (2.0, 3.0), rtf=0.01, size=100)
    add_run(store, SECOND, (2.0, 2.0), rtf=0.02, size=200)
    set_tag(store, "v1", FIRST)
    set_tag(store, "v3", THIRD)
    return store


def earshot(store, *arguments):
    done = CliRunner().invoke(application, [*arguments, "--store", str(store.root)])
    return done.exit_code, done.stdout, done.stderr


def data(store, *arguments):
    code, out, said = earshot(store, *arguments, "--json")
    assert code == 0, said
    return json.loads(out)


def points(store, *arguments):
    (series,) = data(store, "history", *arguments)["series"]
    return [(point["run"], point.get("measurement", {}).get("value")) for point in series["points"]]


def test_tagged_runs_in_the_order_they_were_made(three):
    assert points(three, "pesq_wb") == [(FIRST, 2.5), (THIRD, 3.0)]
    assert points(three, "pesq_wb", "--all") == [(FIRST, 2.5), (SECOND, 2.0), (THIRD, 3.0)]
    assert points(three, "pesq_wb", "--all", "--last", "2") == [(SECOND, 2.0), (THIRD, 3.0)]
    assert points(three, "rtf", "--target", "host") == [(FIRST, 0.01), (THIRD, 0.03)]
    (series,) = data(three, "history", "pesq_wb")["series"]
    assert [point["tags"] for point in series["points"]] == [["v1"], ["v3"]]
    assert [point["made"] for point in series["points"]] == ["2026-01-01T12:00:00+00:00", "2026-01-03T12:00:00+00:00"]
    assert series["points"][1]["change"] == 0.5


def test_runs_without_a_time_in_their_name_go_by_their_file(store):
    for name, when in (("new", 2000), ("old", 1000)):
        add_run(store, name)
        os.utime(run_path(store, name), (when, when))
    assert [name for name, _ in points(store, "rtf", "--all")] == ["old", "new"]


def test_runs_of_one_second_keep_their_order(store):
    names = [f"{FIRST}-10", FIRST, f"{FIRST}-2"]
    for name in names:
        add_run(store, name)
    assert [name for name, _ in points(store, "rtf", "--all")] == [FIRST, f"{FIRST}-2", f"{FIRST}-10"]


def test_numbers_are_held_against_what_the_store_keeps(store):
    add_run(store, FIRST)
    add_run(store, SECOND, dataset="set two", environment=HOST | {"cpu": "another CPU"})
    add_run(store, THIRD, keep=False)
    for metric, reasons in (
        ("pesq_wb", ("another evaluation set: set one in", "keeps no scores per clip")),
        ("rtf", ("another processor: some CPU in", "does not say what its numbers")),
    ):
        (series,) = data(store, "history", metric, "--all")["series"]
        found = [point.get("apart") for point in series["points"]]
        assert found[0] is None and all(why in text for why, text in zip(reasons, found[1:], strict=True))


def test_an_artifact_whose_bytes_changed_says_nothing(store):
    add_run(store, FIRST)
    add_run(store, SECOND)
    assert data(store, "history", "pesq_wb", "--all")["series"][0]["points"][1]["change"] == 0
    (scores, *_) = store.artifacts_folder.glob("quality-*/scores.json")
    scores.write_text(scores.read_text().replace("set one", "set two"))
    assert "keeps no scores" in data(store, "history", "pesq_wb", "--all")["series"][0]["points"][1]["apart"]


@pytest.mark.parametrize(
    "wrong", [{"clips": 5}, {"schema": "x"}, {"clips": [{"id": "a", "group": "b", "snr_db": 1}] * 2}]
)
def test_an_artifact_of_another_make_says_nothing(store, monkeypatch, wrong):
    add_run(store, FIRST)
    scores = sample_store._scores
    monkeypatch.setattr(sample_store, "_scores", lambda *given: scores(*given) | wrong)
    add_run(store, SECOND)
    assert "keeps no scores" in data(store, "history", "pesq_wb", "--all")["series"][0]["points"][1]["apart"]


def test_damaged_runs_and_tags_without_a_run_are_named(three):
    run_path(three, SECOND).write_text("{half")
    set_tag(three, "v2", SECOND)
    add_run(three, "net-20260104-120000")
    set_tag(three, "v4", "net-20260104-120000")
    run_path(three, "net-20260104-120000").unlink()
    assert points(three, "pesq_wb") == [(FIRST, 2.5), (SECOND, None), (THIRD, 3.0), ("net-20260104-120000", None)]
    code, out, _ = earshot(three, "history", "pesq_wb")
    shown = " ".join(out.split())
    assert code == 0 and "not a run file, or a damaged one" in shown and "no such run" in shown
    board = data(three, "leaderboard")
    assert [place["run"] for place in board["tables"][0]["places"]] == [THIRD, FIRST]
    assert [place["run"] for place in board["unranked"]] == [SECOND, "net-20260104-120000"]


def test_baseline_files_are_further_points(three, tmp_path):
    def baseline(name):
        run = read_run(run_path(three, name))
        path = tmp_path / f"{name}.json"
        path.write_text(baseline_text(gather(run, three)))
        return str(path)

    second, third = baseline(SECOND), baseline(THIRD)
    assert points(three, "pesq_wb", second, third) == [(FIRST, 2.5), (second, 2.0), (THIRD, 3.0)]
    found = data(three, "history", "pesq_wb", second, third)
    assert found["series"][0]["points"][1]["change"] == -0.5, "scores in the file compare with those in the store"
    assert found["notes"] == [f"{third}: left out, because its run {THIRD} is shown already"]
    empty = Store(tmp_path / "nothing")
    assert points(empty, "rtf", second, third) == [(second, 0.02), (third, 0.03)]
    (tmp_path / "bad.json").write_text("{}")
    code, _, said = earshot(three, "history", "pesq_wb", str(tmp_path / "bad.json"))
    assert code == 2 and "earshot.baseline/1" in said


@pytest.mark.parametrize(
    ("arguments", "message", "fix"),
    [
        (("history", "pesq_bw"), "did you mean 'pesq_wb'?", "measured in these runs: model_bytes, pesq_wb, rtf"),
        (("history", "rtf", "--target", "hots"), "did you mean 'host'?", "it was measured on: host"),
        (("history", "rtf", "--row", "convert:int16x8"), "no run has a row", f"rows: {INT8}"),
        (("history", "rtf", "--report", "x.pdf"), "must end in .html", "Usage"),
        (("leaderboard", "--cost", "rft"), "did you mean 'rtf'?", "known: "),
        (("leaderboard", "--cost", "ram_bytes"), "no run has all of pesq_wb, ram_bytes", "measured on: none"),
    ],
)
def test_wrong_requests_say_what_there_is(three, arguments, message, fix):
    code, _, said = earshot(three, *arguments)
    assert code == 2 and message in said and fix in said


def test_nothing_to_show(store):
    for command in (("history", "rtf"), ("history", "rtf", "--all"), ("leaderboard",)):
        code, _, said = earshot(store, *command)
        assert code == 2 and "there are no runs" in said and "earshot run" in said
    add_run(store, FIRST)
    code, _, said = earshot(store, "history", "rtf")
    assert code == 2 and "no run has a tag" in said and f"earshot tag {FIRST} NAME" in said and "--all" in said
    assert points(store, "rtf", "--all") == [(FIRST, 0.01)]
    assert earshot(store, "leaderboard")[0] == 0


def test_every_report_is_written(three, tmp_path):
    for command in (("history", "pesq_wb"), ("leaderboard",)):
        paths = [tmp_path / f"{command[0]}{ending}" for ending in (".html", ".json", ".csv", ".md")]
        code, out, said = earshot(three, *command, *(word for path in paths for word in ("--report", str(path))))
        assert code == 0, said
        assert "v1" in out
        assert all("v1" in path.read_text() for path in paths)
        assert json.loads(paths[1].read_text()) == data(three, *command)


def test_the_leaderboard_of_a_store(store):
    add_run(store, FIRST, (3.0, 3.0), rtf=0.01, size=100)
    add_run(store, SECOND, (2.0, 2.0), rtf=0.02, size=100)  # beaten
    add_run(store, THIRD, (2.0, 2.0), rtf=0.005, size=100)
    add_run(store, "other-20260104-120000", (4.0, 4.0), rtf=0.001, size=1, dataset="set two")
    add_run(store, "failed-20260105-120000", status="failed", error="convert died")
    board = data(store, "leaderboard")
    found = [[(place["run"], place["front"]) for place in table["places"]] for table in board["tables"]]
    assert found == [
        [(FIRST, True), (THIRD, True), (SECOND, False)],
        [("other-20260104-120000", True)],
    ]
    assert [place["reason"] for place in board["unranked"]] == ["the run failed: convert died"]


def test_a_hundred_runs_are_quick_and_need_no_heavy_library(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # two hundred artifacts are made here
    monkeypatch.setattr(manifest, "library_versions", dict)
    store = Store(tmp_path / "store")
    for day in range(100):
        name = f"net-2026{day // 28 + 1:02}{day % 28 + 1:02}-120000"
        add_run(store, name, [2 + (day % 9) / 9 + clip / 100 for clip in range(120)], rtf=0.01 + (day % 7) / 100)
    code = (
        "import sys; from earshot.pipeline.cli.main import application\n"
        "try: application(sys.argv[1:])\n"
        f"finally: print('heavy:', sorted({HEAVY!r} & set(sys.modules)), file=sys.stderr)"
    )
    for command in (("history", "pesq_wb", "--all"), ("leaderboard",)):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        arguments = [*command, "--store", str(store.root), "--report", str(tmp_path / "x.html")]
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        took = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        assert done.stderr.splitlines()[-1] == "heavy: []"
        assert took < 2.5, f"{command[0]}: {took:.2f} s of processor time"  # below 1 s where nothing else runs


def test_a_real_run_has_a_history_and_a_place(finished, tmp_path):
    shutil.copytree(finished.folder / ".earshot", tmp_path / "store")
    store = Store(tmp_path / "store")
    (series,) = data(store, "history", "si_sdr", "--all")["series"]
    assert series["points"][0]["row"] == INT8 and series["points"][0]["measurement"]["n"] == 2
    board = data(store, "leaderboard", "--quality", "si_sdr", "--rows")
    (table,) = board["tables"]
    assert {place["row"] for place in table["places"]} == {"distill", "prune", "convert:float32", INT8}
    assert any(place["front"] for place in table["places"]) and board["unranked"] == []
