"""Tags: written by several processes at once, and never of a run that lies elsewhere."""

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner
from filelock import FileLock

from earshot.ci.run_file import SCHEMA
from earshot.core.errors import ToolError, UsageError
from earshot.pipeline import runs
from earshot.pipeline.cli.main import application
from earshot.pipeline.runs import own_run, remove_tag, set_tag, tags, write_run
from earshot.pipeline.store import Store

TAGS = 30
TAGGER = """
import sys
from pathlib import Path
from earshot.pipeline.runs import set_tag
from earshot.pipeline.store import Store

store = Store(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
for number in range(int(sys.argv[3])):
    set_tag(store, f"{sys.argv[2]}{number}", "one")
"""


@pytest.fixture
def store(tmp_path):
    made = Store(tmp_path / "store")
    write_run(made, "one", {"schema": SCHEMA, "name": "one", "status": "complete", "rows": []})
    return made


def test_two_processes_lose_no_tag(store):
    started = [
        subprocess.Popen([sys.executable, "-c", TAGGER, str(store.root), name, str(TAGS)], text=True,
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for name in ("a", "b")
    ]  # fmt: skip
    for process in started:
        assert process.stdout.readline() == "ready\n"
    for process in started:
        process.stdin.write("\n")
        process.stdin.flush()
    assert [process.wait(120) for process in started] == [0, 0]
    assert set(tags(store)) == {f"{name}{number}" for name in ("a", "b") for number in range(TAGS)}


def test_a_tag_waits_for_another_process_and_not_for_a_run(store, monkeypatch):
    with store.lock():  # as long as a run takes
        set_tag(store, "v1", "one")
    monkeypatch.setattr(runs, "LOCK_SECONDS", 0.1)
    with FileLock(store.root / "tags.lock"), pytest.raises(ToolError, match=r"tags\.json: another process keeps it"):
        set_tag(store, "v2", "one")
    assert tags(store) == {"v1": "one"}
    remove_tag(store, "v1")
    assert tags(store) == {}
    with pytest.raises(UsageError, match="no tag 'v1'"):
        remove_tag(store, "v1")


def test_a_run_file_from_elsewhere_is_refused_with_the_fix(store, tmp_path):
    elsewhere = Store(tmp_path / "elsewhere")
    for name in ("one", "other"):
        path = write_run(elsewhere, name, {"schema": SCHEMA, "name": name, "status": "complete", "rows": []})
        done = CliRunner().invoke(application, ["tag", str(path), "baseline", "--store", str(store.root)])
        assert done.exit_code == 2
        assert f"error: {path}: no run of the store {store.root}" in done.stderr and "earshot pull" in done.stderr
    assert tags(store) == {}
    own = store.root / "runs" / "one.json"
    set_tag(store, "baseline", str(own))
    assert tags(store) == {"baseline": "one"}
    linked = tmp_path / "linked"
    linked.symlink_to(store.root)  # the same store by another way
    assert own_run(Store(linked), str(own)) == own_run(store, str(linked / "runs" / "one.json")) == "one"


def test_a_link_out_of_the_store_is_no_run_of_it(store, tmp_path):
    outside = tmp_path / "outside.json"
    outside.write_text(json.dumps({"schema": SCHEMA, "name": "outside", "status": "complete", "rows": []}))
    (store.root / "runs" / "inside.json").symlink_to(outside)
    with pytest.raises(UsageError, match="no run of the store"):
        set_tag(store, "v1", "inside")


HOSTILE = "\x1b[2J\u202e\n::error::x"
MODEL_BYTES = {"metric": "model_bytes", "value": 5.0, "unit": "bytes", "n": 1, "provenance": "measured"}


@pytest.mark.parametrize("command", ["gate", "compare", "baseline", "bundle", "tag", "push"])
def test_words_of_a_run_file_steer_nothing(store, tmp_path, monkeypatch, command):
    """A run file from anywhere, every name in it hostile: no traceback, no control character, nothing written."""
    measured = [MODEL_BYTES, {**MODEL_BYTES, "metric": "frame_p50_us", "unit": "us", "target": HOSTILE}]
    rows = [
        {"row": name, "artifact": identity, "measurements": measured}
        for name, identity in (("convert:int8", "**"), (HOSTILE, "../../x"), ("a\0b", "a\0b"))
    ]
    budget = {"metric": "model_bytes", "relative_to": "baseline", "max_loss": 1, "name": HOSTILE}
    path = tmp_path / "hostile.json"
    content = {
        "schema": SCHEMA, "name": f"../{HOSTILE}", "status": "complete", "rows": rows, "recipe": {"budgets": [budget]},
        "failures": [{"target": HOSTILE, "error": HOSTILE, "fix": HOSTILE}],
        "left_out": [{"target": HOSTILE, "row": HOSTILE, "reason": HOSTILE}],
        "artifacts": {"quality of convert:int8": "**", f"profile on {HOSTILE}": "../.."},
    }  # fmt: skip
    path.write_text(json.dumps(content))
    monkeypatch.chdir(tmp_path)
    given = {
        "gate": [str(path), "--baseline", str(path)], "compare": [str(path), str(path)],
        "baseline": [str(path), "out.json"], "bundle": [str(path), "--target", "pi", "--no-baseline", "--anyway"],
        "tag": [str(path), "v1"], "push": ["remote", str(path), "--quiet"],
    }  # fmt: skip
    done = CliRunner().invoke(application, [command, *given[command], "--store", str(store.root)])
    assert done.exit_code == {"gate": 1, "compare": 1, "baseline": 0}.get(command, 2), done.output
    assert not set("\x1b\u202e\0") & set(done.output) and "\n::error::x" not in done.output
    assert "unexpected" not in done.output
    written = {one.name for one in tmp_path.iterdir()} - {"hostile.json", "store"}
    assert written == ({"out.json"} if command == "baseline" else set())
