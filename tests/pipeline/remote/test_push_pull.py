"""Pushing and pulling: on a local folder, and on an S3-compatible server where one is installed."""

import sys

import pytest
from places import add_run, build, fetch, files, manifest_of, send

from earshot.core.errors import ArtifactError, UsageError
from earshot.pipeline.remote.folder import RemoteFolder
from earshot.pipeline.runs import run_names, set_tag, tags
from earshot.pipeline.store import Store


def test_all_arrives_and_nothing_twice(store, place, tmp_path):
    sent = send(store, place)
    assert (len(sent.artifacts), sent.known, sent.runs, sent.tags) == (4, 0, ("old", "new"), ("baseline",))
    # The file that all artifacts have travels once.
    assert sent.bytes == sum(5000 * len(name) for name in ("first", "child", "parent", "stray")) + len(
        "the same in all"
    )
    again = send(store, place)
    assert (again.artifacts, again.known, again.bytes, again.runs, again.tags) == ((), 4, 0, (), ())

    other = Store(tmp_path / "other")
    got = fetch(other, place)
    assert (len(got.artifacts), got.known, set(got.runs), got.tags) == (4, 0, {"old", "new"}, ("baseline",))
    assert files(other.root) == files(store.root)
    assert [problem for folder in other.folders() if (problem := other.open(folder)) is None] == []
    again = fetch(other, place)
    assert (again.artifacts, again.known, again.bytes, again.runs, again.tags) == ((), 4, 0, (), ())


def test_a_run_takes_what_it_stands_on_and_no_more(store, place, tmp_path):
    assert len(send(store, place, "new").artifacts) == 2  # its own and the parent
    assert send(store, place, "baseline").runs == ("old",)
    other = Store(tmp_path / "other")
    got = fetch(other, place, "new")
    assert len(got.artifacts) == 2 and got.tags == ()
    assert run_names(other) == ["new"]
    got = fetch(other, place, "baseline")
    assert (len(got.artifacts), got.runs, tags(other)) == (1, ("old",), {"baseline": "old"})


def test_tags_move(store, place, tmp_path):
    other = Store(tmp_path / "other")
    send(store, place)
    fetch(other, place)
    set_tag(store, "baseline", "new")
    assert send(store, place).tags == ("baseline",)
    assert fetch(other, place).tags == ("baseline",)
    assert tags(other) == {"baseline": "new"}


def test_a_damaged_artifact_here_is_fetched_anew(store, place, tmp_path):
    send(store, place)
    (payload,) = list(store.artifacts_folder.glob("distill-*/deep/weights.bin"))[:1]
    good = payload.read_bytes()
    payload.write_bytes(b"damaged")
    assert len(fetch(store, place).artifacts) == 1
    assert payload.read_bytes() == good


def test_a_run_file_of_another_store_is_not_pushed(store, folder, tmp_path):
    other = Store(tmp_path / "other")
    add_run(other, "new", build(other, "something"))
    with pytest.raises(UsageError, match="no run of the store"):
        send(store, folder, str(other.root / "runs" / "new.json"))
    assert send(store, folder, str(store.root / "runs" / "new.json")).runs == ("new",)


def test_places_and_names_that_are_none(store, folder, tmp_path):
    with pytest.raises(ArtifactError, match="nothing of earshot's"):
        fetch(store, folder)
    send(store, folder)
    with pytest.raises(ArtifactError, match="no run or tag 'nightly'"):
        fetch(store, folder, "nightly")
    with pytest.raises(ArtifactError, match="no such run"):
        send(store, folder, "nightly")
    with pytest.raises(UsageError, match="nosuch"):
        RemoteFolder("nosuch://place")


def test_a_library_that_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(UsageError, match="gcsfs") as caught:
        RemoteFolder("gs://bucket/cache")
    assert caught.value.hint


def test_two_runs_of_one_name(store, folder, tmp_path):
    send(store, folder)
    other = Store(tmp_path / "other")
    add_run(other, "new", build(other, "something"))
    with pytest.raises(ArtifactError, match="another run of the same name"):
        send(other, folder)
    with pytest.raises(ArtifactError, match="another run of the same name"):
        fetch(other, folder)


def test_damage_here_is_not_sent(store, folder):
    said = []
    watched = Store(store.root, on_damage=said.append)
    name, _ = manifest_of(store, "stray")
    (store.artifacts_folder / name / "same.txt").write_text("changed")
    assert len(send(watched, folder).artifacts) == 3 and "is not sent" in said[0]
    (needed,) = [path for path in store.artifacts_folder.glob("*/deep/weights.bin") if b"parent" in path.read_bytes()]
    needed.write_bytes(b"changed")
    with pytest.raises(ArtifactError, match="bytes were changed"):
        send(watched, folder)
