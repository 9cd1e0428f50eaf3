"""Runs, tags and what a store may throw away."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from earshot.core.errors import ArtifactError, UsageError
from earshot.core.measurement import Measurement
from earshot.pipeline.runs import find_run, remove_tag, run_names, set_tag, tags, write_run
from earshot.pipeline.store import Artifact, Store
from earshot.pipeline.upkeep import collect, lineage, removable, verify


def produce(out: Path, work: Path) -> list[Measurement]:
    (out / "payload").write_text("x" * 100)
    return []


def build(store: Store, stage: str, **inputs: str) -> Artifact:
    return store.build(stage, 1, config={}, inputs=inputs, producer=produce)


def run_of(store: Store, name: str, *artifacts: Artifact, age: int) -> None:
    rows = [{"row": "noisy", "artifact": None}, *({"row": made.stage, "artifact": made.id} for made in artifacts)]
    path = write_run(store, name, {"schema": "earshot.run/1", "name": name, "status": "complete", "rows": rows})
    os.utime(path, (10_000 - age, 10_000 - age))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


@pytest.fixture
def chain(store: Store) -> list[Artifact]:
    """distill -> prune -> quantize."""
    distill = build(store, "distill", data="ab" * 32)
    prune = build(store, "prune", student=distill.id)
    return [distill, prune, build(store, "quantize", student=prune.id, data="ab" * 32)]


def test_lineage_is_the_tree_of_inputs(store: Store, chain: list[Artifact]) -> None:
    root = lineage(store, chain[2].id)
    assert (root.role, root.stage) == ("quantize", "quantize")
    data, student = root.inputs
    assert (data.role, data.stage, data.id) == ("data", None, "ab" * 32)
    assert (student.stage, student.inputs[0].stage, student.inputs[0].inputs[0].role) == ("prune", "distill", "data")


def test_gc_keeps_what_a_run_names_and_all_its_ancestors(store: Store, chain: list[Artifact]) -> None:
    stray = build(store, "distill", data="cd" * 32)
    run_of(store, "one", chain[2], age=0)  # the run names only the last of the chain
    assert [removal.path for removal in removable(store)] == [stray.path]
    assert stray.path.exists()  # listing removes nothing
    assert [removal.bytes > 100 for removal in collect(store)] == [True]
    assert not stray.path.exists()
    assert all(store.find(made.id) for made in chain)


def test_gc_keeps_what_a_run_used_beside_its_rows(store: Store, chain: list[Artifact]) -> None:
    quality = build(store, "quality", model=chain[0].id)
    run = {"schema": "earshot.run/1", "name": "one", "status": "complete", "rows": []}
    write_run(store, "one", {**run, "artifacts": {"quality of distill": quality.id}})
    assert {removal.path for removal in removable(store)} == {chain[1].path, chain[2].path}


def test_gc_without_runs_removes_all_and_says_why(store: Store, chain: list[Artifact]) -> None:
    chain[0].file("payload").write_text("damaged payloads are not looked for here")
    (chain[1].path / "manifest.json").write_text("{}")
    assert {removal.reason for removal in collect(store)} == {"no kept run needs it", "damaged"}
    assert store.folders() == []


def test_gc_keeps_tagged_and_newest_runs(store: Store) -> None:
    made = {name: build(store, "distill", data=name) for name in ("old", "tagged", "new")}
    for age, name in enumerate(("new", "tagged", "old")):
        run_of(store, name, made[name], age=age)
    assert run_names(store) == ["old", "tagged", "new"]
    set_tag(store, "baseline", "tagged")
    collect(store, keep_runs=1)
    assert run_names(store) == ["tagged", "new"]
    assert store.find(made["old"].id) is None
    assert store.find(made["tagged"].id)
    assert store.find(made["new"].id)
    collect(store, keep_runs=0)
    assert run_names(store) == ["tagged"]


@pytest.mark.parametrize("text", ["{", "[]", '{"schema": "earshot.run/1", "rows": [3]}', "[" * 100_000])
def test_gc_touches_nothing_while_a_run_file_is_damaged(store: Store, chain: list[Artifact], text: str) -> None:
    write_run(store, "one", {}).write_text(text)
    with pytest.raises(ArtifactError, match=r"one\.json"):
        collect(store)
    assert len(store.folders()) == 3


def test_gc_removes_scratch_only_when_asked(store: Store) -> None:
    scratch = store.root / "work" / "0123" / "epoch1"
    scratch.parent.mkdir(parents=True)
    scratch.touch()
    assert collect(store) == []
    assert scratch.exists()
    collect(store, scratch=True)
    assert not scratch.exists()


def test_verify_names_the_damaged_one(store: Store, chain: list[Artifact]) -> None:
    assert [problem for _, problem in verify(store)] == [None, None, None]
    chain[1].file("payload").write_text("y" * 100)
    found = dict(verify(store))
    assert found.pop(chain[1].path) is not None
    assert set(found.values()) == {None}


def test_runs_are_found_by_name_tag_path_and_latest(store: Store) -> None:
    run_of(store, "first", age=2)
    run_of(store, "second", age=1)
    set_tag(store, "v1.0.0", "first")
    assert find_run(store, "v1.0.0").stem == "first"
    assert find_run(store, "latest").stem == "second"
    assert find_run(store, str(store.root / "runs" / "first.json")).stem == "first"
    set_tag(store, "v1.0.0", "latest")
    assert tags(store) == {"v1.0.0": "second"}
    remove_tag(store, "v1.0.0")
    assert tags(store) == {}
    with pytest.raises(UsageError, match="no tag"):
        remove_tag(store, "v1.0.0")
    with pytest.raises(ArtifactError, match="no such run"):
        find_run(store, "third")


@pytest.mark.parametrize("name", ["../escape", "a/b", "", ".hidden", "x" * 200])
def test_names_that_could_leave_the_folder_are_refused(store: Store, name: str) -> None:
    with pytest.raises(UsageError, match="not a fit name"):
        write_run(store, name, {})


def test_damaged_tags_are_named(store: Store) -> None:
    (store.root / "tags.json").write_text('{"v1": 3}')
    with pytest.raises(ArtifactError, match=r"tags\.json"):
        tags(store)


def test_a_tag_can_be_set_while_a_run_holds_the_store(store: Store) -> None:
    run_of(store, "first", age=0)
    with Store(store.root).lock():
        set_tag(store, "v1", "first")
    assert tags(store) == {"v1": "first"}


def test_a_tag_named_latest_is_refused(store: Store) -> None:
    run_of(store, "first", age=0)
    with pytest.raises(UsageError, match="latest"):
        set_tag(store, "latest", "first")
