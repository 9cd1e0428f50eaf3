"""Pushing and pulling: on a local folder, and on an S3-compatible server where one is installed."""

import json
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from s3_server import BUCKET, INSTALL, s3_server, server_command

from earshot.ci.run_file import SCHEMA
from earshot.core.errors import ArtifactError, ToolError, UsageError
from earshot.core.files import digest_json
from earshot.pipeline.manifest import MAX_MANIFEST_BYTES
from earshot.pipeline.progress import Silent
from earshot.pipeline.remote.folder import RemoteFolder
from earshot.pipeline.remote.pull import pull
from earshot.pipeline.remote.push import push
from earshot.pipeline.runs import run_names, set_tag, tags, write_run
from earshot.pipeline.store import Store


def build(store, name, inputs=None):
    def produce(out, work):
        (out / "deep").mkdir()
        (out / "deep" / "weights.bin").write_bytes(name.encode() * 5000)
        (out / "same.txt").write_text("the same in all")
        return []

    return store.build("distill", 1, config={"name": name}, inputs=inputs or {}, producer=produce)


def add_run(store, name, *artifacts):
    rows = [{"row": f"row{number}", "artifact": one.id} for number, one in enumerate(artifacts)]
    write_run(store, name, {"schema": SCHEMA, "name": name, "status": "complete", "rows": rows})


@pytest.fixture
def store(tmp_path):
    """Two runs: `old` on one artifact, `new` on one that was made from another; one artifact of no run; a tag."""
    made = Store(tmp_path / "store")
    add_run(made, "old", build(made, "first"))
    add_run(made, "new", build(made, "child", {"teacher": build(made, "parent").id}))
    build(made, "stray")
    set_tag(made, "baseline", "old")
    return made


@pytest.fixture(scope="module")
def server():
    if server_command() is None:
        pytest.skip(f"no S3-compatible server: {INSTALL}")
    with s3_server() as running:
        yield running


@dataclass
class Place:
    """A location that is empty at first."""

    location: str

    def open(self):
        return RemoteFolder(self.location)

    def change(self, path, content):
        self.open().put(path, content)

    def read(self, path):
        return self.open().read(path, 2**30)


@pytest.fixture
def s3_environment(monkeypatch):
    """Credentials of nobody's, and no configuration of this machine's."""

    def set_endpoint(url):
        for name, value in {
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": "AKIAEARSHOTTESTS0001",
            "AWS_SECRET_ACCESS_KEY": "never/to/be/seen/0123456789abcdef",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": "/nowhere",
            "AWS_SHARED_CREDENTIALS_FILE": "/nowhere",
        }.items():
            monkeypatch.setenv(name, value)

    return set_endpoint


@pytest.fixture(params=["folder", "s3"])
def place(request, tmp_path):
    if request.param == "folder":
        return Place(str(tmp_path / "remote"))
    request.getfixturevalue("s3_environment")(request.getfixturevalue("server").url)
    return Place(f"s3://{BUCKET}/{tmp_path.name}/cache")


@pytest.fixture
def folder(tmp_path):
    return Place(str(tmp_path / "remote"))


def files(root):
    """Path -> bytes of all that a store shares."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for part in ("artifacts", "runs", "tags.json")
        for path in ([root / part] if (root / part).is_file() else (root / part).rglob("*"))
        if path.is_file()
    }


def send(store, place, *references):
    return push(store, place.open(), references, Silent())


def fetch(store, place, *references):
    return pull(store, place.open(), references, Silent())


# ---- there and back


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


# ---- cut short


class CutShort(Silent):
    """Ends the work after some artifacts."""

    def __init__(self, after, action):
        self.left, self.action = after, action

    def advance(self, steps=1, note=""):
        self.left -= 1
        if self.left == 0:
            self.action()


def interrupt():
    raise KeyboardInterrupt


def test_a_push_that_is_cut_short_goes_on(store, place, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        push(store, place.open(), (), CutShort(2, interrupt))
    early = Store(tmp_path / "early")
    assert (len(fetch(early, place).artifacts), run_names(early)) == (2, [])  # whole ones, and no run without its parts
    assert (len(send(store, place).artifacts), len(fetch(early, place).artifacts)) == (2, 2)
    assert files(early.root) == files(store.root)


def test_a_pull_that_is_cut_short_goes_on(store, place, tmp_path):
    send(store, place)
    other = Store(tmp_path / "other")
    with pytest.raises(KeyboardInterrupt):
        pull(other, place.open(), (), CutShort(2, interrupt))
    assert run_names(other) == [] and not list((other.root / "tmp").glob("*"))
    assert fetch(other, place).known == 2
    assert files(other.root) == files(store.root)


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_half_a_file_is_never_seen(store, folder, tmp_path, monkeypatch, error):
    whole = RemoteFolder._write

    def half(self, path, source):
        if isinstance(source, Path) and source.name == "weights.bin":
            source = source.read_bytes()[:100]
            whole(self, path, source)
            raise error
        whole(self, path, source)

    monkeypatch.setattr(RemoteFolder, "_write", half)
    with pytest.raises((ToolError, KeyboardInterrupt)):
        send(store, folder)
    monkeypatch.undo()
    root = Path(folder.location)
    assert not [path for path in root.rglob("*") if path.is_file() and path.stat().st_size == 100]
    assert not (root / "artifacts").exists()
    send(store, folder)
    other = Store(tmp_path / "other")
    fetch(other, folder)
    assert files(other.root) == files(store.root)


def test_a_folder_that_disappears(store, folder):
    def vanish():
        shutil.rmtree(folder.location)
        Path(folder.location).write_text("the mount is gone")

    before = files(store.root)
    with pytest.raises(ToolError, match="cannot be reached") as caught:
        push(store, folder.open(), (), CutShort(1, vanish))
    assert caught.value.exit_code == 3 and "run the same command again" in caught.value.hint
    assert files(store.root) == before
    Path(folder.location).unlink()
    assert len(send(store, folder).artifacts) == 4


def test_a_server_that_disappears(store, s3_environment, tmp_path):
    if server_command() is None:
        pytest.skip(f"no S3-compatible server: {INSTALL}")
    before = files(store.root)
    with s3_server() as dying:
        s3_environment(dying.url)
        place = Place(f"s3://{BUCKET}/cache")
        begun = time.monotonic()
        with pytest.raises(ToolError, match="cannot be reached") as caught:
            push(store, place.open(), (), CutShort(1, dying.stop))
    assert caught.value.exit_code == 3 and time.monotonic() - begun < 120
    assert files(store.root) == before
    with pytest.raises(ToolError, match="cannot be reached"):
        fetch(Store(tmp_path / "other"), place)


def test_no_such_bucket(store, server, s3_environment):
    s3_environment(server.url)
    with pytest.raises(ToolError, match=r"no such place|cannot be reached"):
        send(store, Place("s3://no-such-bucket/cache"))


# ---- hostile remotes


def manifest_of(store, name):
    (found,) = [folder for folder in store.folders() if store.open(folder).manifest.config["name"] == name]
    return found.name, json.loads((found / "manifest.json").read_text())


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
    send(store, place)
    name, manifest = manifest_of(store, "parent")
    place.change(f"artifacts/{name}.json", repaired(change(manifest)))
    other = Store(tmp_path / "other")
    with pytest.raises(ArtifactError, match=said) as caught:
        fetch(other, place, "new")
    assert "artifacts/" in caught.value.message or "blobs/" in caught.value.message
    assert str(other.root / "tmp") not in caught.value.message
    assert run_names(other) == [] and name not in [folder.name for folder in other.folders()]
    assert not list(tmp_path.rglob("evil.txt")) and not Path("/tmp/evil.txt").exists()
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
        with pytest.raises(ArtifactError, match=said):
            fetch(other, folder, "new")
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


# ---- what does not fit


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
