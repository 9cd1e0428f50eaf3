"""The store: whole or absent, whatever happens to the process, the disk or the bytes."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from earshot.core.errors import ArtifactError, ToolError
from earshot.core.files import digest_json, sha256_file
from earshot.core.measurement import Measurement
from earshot.pipeline.manifest import MAX_MANIFEST_BYTES, identity
from earshot.pipeline.store import Artifact, Store

CONFIG = {"epochs": 3}
INPUTS = {"data": "ab" * 32}


def build(store: Store, text: str = "weights", calls: list[Path] | None = None, **changes: object) -> Artifact:
    def producer(out: Path, work: Path) -> list[Measurement]:
        if calls is not None:
            calls.append(out)
        (out / "nested").mkdir()
        (out / "nested" / "payload.bin").write_text(text)
        (out / "notes.json").write_text("{}")
        return [Measurement("parameters", 12.0, "1")]

    arguments = {"stage": "distill", "version": 1, "config": CONFIG, "inputs": INPUTS, **changes}
    return store.build(**arguments, producer=producer)  # type: ignore[arg-type]


@pytest.fixture
def damage() -> list[str]:
    return []


@pytest.fixture
def store(tmp_path: Path, damage: list[str]) -> Store:
    return Store(tmp_path / "home", damage.append)


def test_identity_is_the_documented_hash() -> None:
    expected = digest_json({"stage": "distill", "version": 1, "config": CONFIG, "inputs": INPUTS})
    assert identity("distill", 1, CONFIG, INPUTS) == expected


@pytest.mark.parametrize(
    "change", [{"stage": "prune"}, {"version": 2}, {"config": {"epochs": 4}}, {"inputs": {"data": "cd" * 32}}]
)
def test_identity_changes_with_everything_that_decides_the_result(change: dict) -> None:
    base = {"stage": "distill", "version": 1, "config": CONFIG, "inputs": INPUTS}
    assert identity(**{**base, **change}) != identity(**base)
    assert identity(**{**base, "config": dict(reversed(CONFIG.items()))}) == identity(**base)


def test_a_built_artifact_is_found_with_its_files_and_measurements(store: Store, damage: list[str]) -> None:
    made = build(store, seed=7)
    found = store.find(made.id)
    assert found == made
    assert found.path.name == f"distill-{made.id[:16]}"
    assert found.file("nested/payload.bin").read_text() == "weights"
    assert found.manifest.files["nested/payload.bin"].sha256 == sha256_file(found.file("nested/payload.bin"))
    assert found.measurements == [Measurement("parameters", 12.0, "1")]
    assert found.manifest.seed == 7
    assert damage == []
    with pytest.raises(ArtifactError, match="no file 'other'"):
        found.file("other")


def test_an_intact_artifact_is_not_made_again_and_another_identity_is(store: Store) -> None:
    calls: list[Path] = []
    build(store, calls=calls)
    build(store, calls=calls)
    assert len(calls) == 1
    build(store, calls=calls, config={"epochs": 4})
    assert len(calls) == 2


def test_a_flipped_byte_is_reported_and_the_artifact_made_anew(store: Store, damage: list[str]) -> None:
    payload = build(store).file("nested/payload.bin")
    data = bytearray(payload.read_bytes())
    data[0] ^= 1
    payload.write_bytes(data)

    assert store.find(identity("distill", 1, CONFIG, INPUTS)) is None
    assert "payload.bin" in damage[0]
    assert "bytes were changed" in damage[0]
    again = build(store)
    assert again.file("nested/payload.bin").read_text() == "weights"
    assert list((store.root / "tmp").iterdir()) == []


@pytest.mark.parametrize("how", ["missing", "longer", "link"])
def test_a_payload_that_is_not_what_was_written_counts_as_damaged(store: Store, damage: list[str], how: str) -> None:
    payload = build(store).file("nested/payload.bin")
    if how == "missing":
        payload.unlink()
    elif how == "longer":
        payload.write_text("weights and more")
    else:  # the right bytes, but outside the store
        elsewhere = store.root / "elsewhere"
        elsewhere.write_text("weights")
        payload.unlink()
        payload.symlink_to(elsewhere)
    assert store.find(identity("distill", 1, CONFIG, INPUTS)) is None
    assert len(damage) == 1


def edit(manifest: dict, how: str) -> dict | str:
    entry = {"sha256": sha256_file(Path("/etc/hostname")), "bytes": Path("/etc/hostname").stat().st_size}
    names = {"absolute": "/etc/hostname", "climbing": "../../../etc/hostname", "backslash": "a\\b", "dot": "./a"}
    if how in names:
        files = {names[how]: entry}
        table = {name: {"sha256": item["sha256"], "bytes": item["bytes"]} for name, item in files.items()}
        return manifest | {"files": files, "digest": digest_json(table)}
    return {
        "schema": manifest | {"schema": "earshot.artifact/2"},
        "key": manifest | {"surprise": 1},
        "config": manifest | {"config": {"epochs": 99}},
        "measurement": manifest | {"measurements": [{"metric": "rtf", "provenance": "guessed"}]},
        "nan": json.dumps(manifest).replace('"seed": 0', '"seed": NaN'),
        "deep": "[" * 100_000,
        "huge": json.dumps(manifest | {"created": "x" * MAX_MANIFEST_BYTES}),
        "list": "[]",
        "text": "hello",
    }[how]


HOSTILE = "absolute climbing backslash dot schema key config measurement nan deep huge list text"


@pytest.mark.parametrize("how", HOSTILE.split())
def test_a_hostile_manifest_is_refused(store: Store, damage: list[str], how: str) -> None:
    made = build(store)
    path = made.path / "manifest.json"
    edited = edit(json.loads(path.read_text()), how)
    path.write_text(edited if isinstance(edited, str) else json.dumps(edited))
    with pytest.raises(ArtifactError) as caught:
        store.open(made.path)
    assert "manifest.json" in caught.value.message
    assert store.find(made.id) is None
    assert damage


def test_an_unchanged_manifest_that_was_rewritten_still_counts(store: Store, damage: list[str]) -> None:
    """Negative control of the test above: rewriting alone is no damage."""
    made = build(store)
    path = made.path / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text())))
    assert store.find(made.id) is not None
    assert damage == []


def test_a_renamed_folder_is_refused(store: Store) -> None:
    made = build(store)
    other = made.path.rename(made.path.with_name("prune-" + made.id[:16]))
    with pytest.raises(ArtifactError, match="identity"):
        store.open(other)


def test_a_producer_that_fails_leaves_nothing_but_its_scratch(store: Store) -> None:
    def producer(out: Path, work: Path) -> list[Measurement]:
        (out / "half").write_text("half")
        (work / "epoch1").write_text("checkpoint")
        raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        store.build("distill", 1, config=CONFIG, inputs=INPUTS, producer=producer)
    assert store.folders() == []
    assert list((store.root / "tmp").iterdir()) == []
    assert [path.name for path in (store.root / "work").rglob("epoch*")] == ["epoch1"]


def test_scratch_survives_a_failure_and_goes_with_success(store: Store) -> None:
    seen = []

    def producer(out: Path, work: Path) -> list[Measurement]:
        seen.append(sorted(path.name for path in work.iterdir()))
        (work / f"epoch{len(seen)}").touch()
        if len(seen) == 1:
            raise RuntimeError
        return []

    with pytest.raises(RuntimeError):
        store.build("distill", 1, config=CONFIG, inputs=INPUTS, producer=producer)
    store.build("distill", 1, config=CONFIG, inputs=INPUTS, producer=producer)
    assert seen == [[], ["epoch1"]]
    assert list((store.root / "work").iterdir()) == []


def test_resolve_finds_by_name_and_prefix_and_nothing_else(store: Store) -> None:
    made = build(store)
    assert store.resolve(made.path.name) == store.resolve(made.id[:6]) == store.resolve(made.id) == made
    for wrong in ("dis", made.id[:3], "ffffffff", "../" + made.path.name):
        with pytest.raises(ArtifactError, match="artifact"):
            store.resolve(wrong)


# One process that builds the same artifact over and over, damaging it in between, until it is killed.
BUSY = """
import sys
from pathlib import Path
from earshot.pipeline.store import Store

store = Store(Path(sys.argv[1]))

def producer(out, work):
    for index in range(20):
        (out / f"part{index}").write_bytes(bytes([index]) * 4096)
    return []

print("ready", flush=True)
while True:
    made = store.build("distill", 1, config={"parts": 20}, inputs={}, producer=producer)
    made.file("part3").write_bytes(b"damaged")
"""


def test_sigkill_at_any_moment_leaves_a_valid_store(tmp_path: Path) -> None:
    """Real processes, real SIGKILL, at moments spread over many builds."""
    dice = random.Random(1)
    killed = 0
    for _ in range(12):
        process = subprocess.Popen([sys.executable, "-c", BUSY, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(dice.uniform(0, 0.12))
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL

        store = Store(tmp_path)
        for folder in store.folders():  # what stands in the store has a manifest that holds and all its files
            manifest = json.loads((folder / "manifest.json").read_text())
            assert {path.name for path in folder.iterdir()} == {*manifest["files"], "manifest.json"}
            changed = [n for n, e in manifest["files"].items() if sha256_file(folder / n) != e["sha256"]]
            assert changed in ([], ["part3"])  # `part3` is what the process damages on purpose

    rebuilt = Store(tmp_path).build("distill", 1, config={"parts": 20}, inputs={}, producer=_twenty_parts)
    assert Store(tmp_path).find(rebuilt.id) == rebuilt
    assert killed == 12
    assert list(tmp_path.glob("tmp/*")) == []  # where the last one killed was whole, `tmp` itself is swept away


def _twenty_parts(out: Path, work: Path) -> list[Measurement]:
    for index in range(20):
        (out / f"part{index}").write_bytes(bytes([index]) * 4096)
    return []


HOLDER = """
import sys
from pathlib import Path
from earshot.pipeline.store import Store

with Store(Path(sys.argv[1])).lock():
    print("held", flush=True)
    sys.stdin.readline()
"""


def test_a_second_process_is_told_who_holds_the_store(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(ToolError, match=rf"pid {holder.pid}\b") as caught:
            build(Store(tmp_path))
        assert "--wait" in (caught.value.hint or "")
        holder.stdin.close()
        holder.wait(timeout=10)
    assert build(Store(tmp_path)).id  # free again


def test_waiting_for_the_store_succeeds_once_the_other_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        subprocess.Popen(["/bin/sh", "-c", f"sleep 0.3; kill -9 {holder.pid}"])
        began = time.monotonic()
        with Store(tmp_path).lock(wait=True):
            assert time.monotonic() - began > 0.1


def test_the_lock_is_reentrant_and_keeps_the_temporary_folder_of_the_outer_build(store: Store) -> None:
    def producer(out: Path, work: Path) -> list[Measurement]:
        (out / "outer").touch()
        build(store, config={"inner": True})
        assert (out / "outer").exists()
        return []

    with store.lock():
        store.build("distill", 1, config=CONFIG, inputs=INPUTS, producer=producer)
    assert len(store.folders()) == 2


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 kB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("kilobytes", [1000, 252])
def test_a_full_disk_is_named_and_leaves_nothing_half_written(small_disk: Path, kilobytes: int) -> None:
    """Once the payload does not fit, once the payload just fits and the manifest does not."""

    def producer(out: Path, work: Path) -> list[Measurement]:
        free = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
        size = kilobytes * 1000 if kilobytes == 1000 else free
        (out / "payload").write_bytes(b"x" * size)
        return []

    store = Store(small_disk / "home")
    before = build(store)
    with pytest.raises(ToolError, match="no space left") as caught:
        store.build("prune", 1, config={}, inputs={}, producer=producer)
    assert "EARSHOT_HOME" in (caught.value.hint or "")
    assert store.folders() == [before.path]
    assert store.find(before.id) == before
    assert list((store.root / "tmp").iterdir()) == []


def test_a_full_disk_told_only_by_a_librarys_text_is_recognised(store: Store) -> None:
    def producer(out: Path, work: Path) -> list[Measurement]:
        raise Exception("Error while serializing: I/O error: No space left on device (os error 28)")

    with pytest.raises(ToolError, match="no space left"):
        store.build("prune", 1, config={}, inputs={}, producer=producer)


@pytest.mark.parametrize("identity", ["", "**", "*", "../../x", "[a", "a\0b", "/etc", "a\nb", "é" * 64])
def test_what_is_no_identity_finds_nothing(store: Store, damage: list[str], identity: str) -> None:
    """Identities come from run files, which may have come from elsewhere; a folder is looked up by them."""
    made = build(store)
    assert store.find(identity) is None and not store.holds(identity) and damage == []
    assert store.find(made.id) is not None and store.holds(made.id)
