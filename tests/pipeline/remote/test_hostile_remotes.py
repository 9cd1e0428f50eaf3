"""Damaged and hostile locations: nothing enters, and where the damage lies is said."""

import json
import shutil
from pathlib import Path

import pytest
from places import add_run, build, fetch, manifest_of, send

from earshot.core.errors import ArtifactError
from earshot.core.files import digest_json
from earshot.pipeline.manifest import MAX_FILES, MAX_MANIFEST_BYTES
from earshot.pipeline.remote import layout
from earshot.pipeline.runs import run_names
from earshot.pipeline.store import Store


def repaired(manifest):
    """A manifest whose digest follows from its file table, as an attacker would make it."""
    return json.dumps(manifest | {"digest": digest_json(manifest["files"])}).encode()


def traversing(manifest):
    return manifest | {"files": manifest["files"] | {"../../../evil.txt": manifest["files"]["same.txt"]}}


def absolute(manifest):
    return manifest | {"files": {"/tmp/evil.txt": manifest["files"]["same.txt"]}}


def over_itself(manifest):
    return manifest | {"files": manifest["files"] | {"manifest.json": manifest["files"]["same.txt"]}}


def file_and_folder(manifest):
    return manifest | {"files": manifest["files"] | {"deep": manifest["files"]["same.txt"]}}


def other_identity(manifest):
    return manifest | {"config": {"name": "something else"}}


def larger_than_said(manifest):
    changed = manifest["files"]["same.txt"] | {"bytes": 3}
    return manifest | {"files": manifest["files"] | {"same.txt": changed}}


def smaller_than_said(manifest):
    changed = manifest["files"]["same.txt"] | {"bytes": 2**50}
    return manifest | {"files": manifest["files"] | {"same.txt": changed}}


def named(name):
    return lambda manifest: manifest | {"files": manifest["files"] | {name: manifest["files"]["same.txt"]}}


def infinite(manifest):
    return manifest | {"seed": 0, "config": {"name": 1e999}}


def surrogate(manifest):
    return manifest | {"config": {"name": "\ud800"}}


def thousands(manifest):
    return manifest | {"files": {f"f{number}": manifest["files"]["same.txt"] for number in range(MAX_FILES + 1)}}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (traversing, "plain relative file name"),
        (absolute, "plain relative file name"),
        (over_itself, "one place"),
        (file_and_folder, "one place"),
        (other_identity, "identity does not follow"),
        (larger_than_said, "larger than 3 bytes"),
        (smaller_than_said, "bytes instead of 1,125,899,906,842,624"),
    ],
)
def test_hostile_manifests(store, place, tmp_path, change, said):
    refuse(store, place, tmp_path, change, said)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (named("a\nb"), "plain relative file name"),
        (named("a\0b"), "plain relative file name"),
        (named("\x1b[2J"), "plain relative file name"),
        (named("a\\..\\b"), "plain relative file name"),
        (named("deep/./x"), "plain relative file name"),
        (named(""), "plain relative file name"),
        (named("x" * 300), "too long a file name"),
        (named("/".join(["deep"] * 300)), "too long a file name"),
        (thousands, "at most 4096 items"),
        (infinite, "Infinity is not JSON"),
        (surrogate, "not a valid manifest"),
    ],
)
def test_hostile_names_and_values(store, folder, tmp_path, change, said):
    refuse(store, folder, tmp_path, change, said)


def refuse(store, place, tmp_path, change, said):
    """A pull of what was changed brings nothing in, and says where it lies; of what was put back, all."""
    send(store, place)
    name, manifest = manifest_of(store, "parent")
    try:
        changed = repaired(change(manifest))
    except ValueError:  # what has no digest: the attacker leaves it as it was
        changed = json.dumps(change(manifest)).encode()
    place.change(f"artifacts/{name}.json", changed)
    other = Store(tmp_path / "other")
    with pytest.raises(ArtifactError, match=said) as caught:
        fetch(other, place, "new")
    assert "artifacts/" in caught.value.message or "blobs/" in caught.value.message
    assert str(other.root / "tmp") not in caught.value.message
    assert run_names(other) == [] and name not in [folder.name for folder in other.folders()]
    assert not list(tmp_path.rglob("evil.txt")) and not Path("/tmp/evil.txt").exists()
    assert not set("\x1b\n\0") & set(caught.value.message)
    place.change(f"artifacts/{name}.json", repaired(manifest))  # negative control
    assert fetch(other, place, "new").runs == ("new",)


def test_changed_missing_and_cut_payload(store, folder, tmp_path):
    send(store, folder)
    _, manifest = manifest_of(store, "parent")
    sha256 = manifest["files"]["deep/weights.bin"]["sha256"]
    path = f"blobs/{sha256[:2]}/{sha256}"
    good = folder.read(path)
    other = Store(tmp_path / "other")
    for bad, said in ((b"x" + good[1:], "bytes were changed"), (good[:-1], "instead of"), (good + b"x", "larger than")):
        folder.change(path, bad)
        with pytest.raises(ArtifactError, match=said) as caught:
            fetch(other, folder, "new")
        name, _ = manifest_of(store, "parent")
        assert caught.value.message.startswith(f"{folder.location}/{path}: ")  # where to mend it
        assert f"(deep/weights.bin of {name})" in caught.value.message
        assert "earshot push" in caught.value.hint and str(other.root) not in caught.value.message
    (Path(folder.location) / path).unlink()
    with pytest.raises(ArtifactError, match="missing"):
        fetch(other, folder, "new")
    assert run_names(other) == []
    again = send(store, folder)
    assert len(again.artifacts) == 1 and again.bytes == len(good)  # the one that lost a file is sent once more
    assert fetch(other, folder, "new").runs == ("new",)


def test_a_run_never_travels_without_its_artifacts(store, folder, tmp_path):
    send(store, folder)
    name, _ = manifest_of(store, "child")
    (Path(folder.location) / "artifacts" / f"{name}.json").unlink()
    other = Store(tmp_path / "other")
    with pytest.raises(ArtifactError, match="1 of its artifacts are not there"):
        fetch(other, folder, "new")
    assert run_names(other) == []
    shutil.rmtree(store.artifacts_folder / name)
    with pytest.raises(ArtifactError, match="1 of its artifacts are not in"):
        send(store, folder, "new")


def test_latest_stays_the_stores_own_run(store, folder, tmp_path):
    send(store, folder)
    other = Store(tmp_path / "other")
    add_run(other, "own", build(other, "mine"))
    fetch(other, folder)
    assert run_names(other) == ["new", "old", "own"]


@pytest.mark.parametrize(
    ("path", "content", "said"),
    [
        ("earshot-remote.json", b"{}", "schema"),
        ("earshot-remote.json", b"[" * 4000, "schema"),
        ("earshot-remote.json", b'{"schema": "earshot.remote/2"}', "earshot.remote/2"),
        ("runs/new.json", b"no json", "not a run file"),
        ("runs/new.json", b'{"schema": "earshot.run/9"}', "schema"),
        ("runs/new.json", b'{"schema": "earshot.run/1", "name": "../x", "status": "complete"}', "another name"),
        ("tags/baseline", b"../../x", "names no run"),
        ("tags/baseline", b"x" * 500, "larger than"),
        ("artifacts/{parent}.json", b" " * (MAX_MANIFEST_BYTES + 1), "larger than"),
    ],
)
def test_damaged_and_hostile_tables(store, folder, tmp_path, path, content, said):
    send(store, folder)
    folder.change(path.format(parent=manifest_of(store, "parent")[0]), content)
    other = Store(tmp_path / "other")
    with pytest.raises(ArtifactError, match=said):
        fetch(other, folder)
    assert run_names(other) == []


def test_numbers_beyond_a_float(store, folder, tmp_path):
    """`1e999` is JSON, and infinity to Python; nothing that earshot wrote holds it."""
    send(store, folder)
    name, manifest = manifest_of(store, "parent")
    folder.change(f"artifacts/{name}.json", json.dumps(manifest).replace('"parent"', "1e999").encode())
    with pytest.raises(ArtifactError, match="not a valid manifest"):
        fetch(Store(tmp_path / "other"), folder)


@pytest.mark.parametrize("part", ["tags", "runs"])
def test_more_names_than_anybody_makes(store, folder, tmp_path, monkeypatch, part):
    monkeypatch.setattr(layout, "MAX_NAMES", 20)
    send(store, folder)
    other = Store(tmp_path / "other")
    assert fetch(other, folder).runs == ("new", "old")
    for number in range(20):
        (Path(folder.location) / part / f"n{number}{'.json' if part == 'runs' else ''}").write_text("old")
    with pytest.raises(ArtifactError, match=f"{part}: 2[12] files, 20 at most"):
        fetch(Store(tmp_path / "third"), folder)


def test_links_in_a_shared_folder_bring_nothing_in(store, folder, tmp_path):
    """A link in place of a blob: what it points to is read as any other content, and has not the digest."""
    send(store, folder)
    _, manifest = manifest_of(store, "parent")
    sha256 = manifest["files"]["same.txt"]["sha256"]
    blob = Path(folder.location) / "blobs" / sha256[:2] / sha256
    secret = tmp_path / "secret.txt"
    secret.write_text("x" * manifest["files"]["same.txt"]["bytes"])
    blob.unlink()
    blob.symlink_to(secret)
    other = Store(tmp_path / "other")
    with pytest.raises(ArtifactError, match="bytes were changed"):
        fetch(other, folder, "new")
    assert not other.folders()


def test_foreign_names_are_no_artifacts(store, folder, tmp_path):
    send(store, folder)
    for name in (
        "../evil.json",
        "UPPER-0123456789abcdef.json",
        "distill-0123.json",
        "deep/distill-0123456789abcdef.json",
    ):
        path = Path(folder.location) / "artifacts" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("{}")
    assert len(fetch(Store(tmp_path / "other"), folder).artifacts) == 4
