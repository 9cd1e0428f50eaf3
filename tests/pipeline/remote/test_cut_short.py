"""What is cut short: interrupted, killed, a location that disappears in the middle of a file."""

import contextlib
import hashlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner
from places import Place, add_run, fetch, files, send
from s3_server import BUCKET, INSTALL, s3_server, server_command

from earshot.core.errors import ArtifactError, ToolError
from earshot.pipeline.cli.main import application
from earshot.pipeline.progress import Silent
from earshot.pipeline.remote.folder import ABANDONED_SECONDS, RemoteFolder
from earshot.pipeline.remote.pull import pull
from earshot.pipeline.remote.push import push
from earshot.pipeline.runs import run_names
from earshot.pipeline.store import Store


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


KILLED = """
import os, sys
from pathlib import Path
from earshot.pipeline.progress import Silent
from earshot.pipeline.remote import folder
from earshot.pipeline.remote.push import push
from earshot.pipeline.store import Store

def half(self, path, source):
    self._system.pipe_file(path, source[:100] if isinstance(source, bytes) else source.read_bytes()[:100])
    if isinstance(source, Path) and source.name == "weights.bin":
        os.kill(os.getpid(), 9)
    whole(self, path, source)

whole, folder.RemoteFolder._write = folder.RemoteFolder._write, half
push(Store(Path(sys.argv[1])), folder.RemoteFolder(sys.argv[2]), (), Silent())
"""


def test_what_a_killed_push_left_goes_after_a_day(store, folder, tmp_path):
    done = subprocess.run([sys.executable, "-c", KILLED, str(store.root), folder.location], check=False)
    assert done.returncode == -9
    waiting = Path(folder.location) / "tmp"
    (left,) = waiting.iterdir()
    assert left.stat().st_size == 100
    send(store, folder)
    assert list(waiting.iterdir()) == [left]  # it may be another push at work
    before = time.time() - ABANDONED_SECONDS
    os.utime(left, (before + 60, before + 60))
    send(store, folder)
    assert list(waiting.iterdir()) == [left]
    os.utime(left, (before - 60, before - 60))
    send(store, folder)
    assert list(waiting.iterdir()) == []
    other = Store(tmp_path / "other")
    fetch(other, folder)
    assert files(other.root) == files(store.root)


class Wire:
    """A connection to a server that is cut for good, both ways, after so many bytes have gone up."""

    def __init__(self, url, bytes_up):
        address = urlsplit(url)
        self._server, self._left, self.cut = (address.hostname, address.port), bytes_up, threading.Event()
        self._open, self._listener = [], socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                ours = self._listener.accept()[0]
                theirs = socket.create_connection(self._server)
                self._open += [ours, theirs]
                threading.Thread(target=self._carry, args=(ours, theirs, True), daemon=True).start()
                threading.Thread(target=self._carry, args=(theirs, ours, False), daemon=True).start()

    def _carry(self, source, sink, up):
        with contextlib.suppress(OSError):
            while data := source.recv(4096):
                self._left -= len(data) if up else 0
                if self._left < 0:
                    self.end()
                    return
                sink.sendall(data)

    def end(self):
        self.cut.set()
        for one in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


@pytest.mark.parametrize("bytes_up", [4_000, 120_000, 260_000])
def test_a_connection_cut_in_the_middle_leaves_nothing_half_there(
    tmp_path, server, s3_environment, monkeypatch, bytes_up
):
    """The server lives on, so that what arrived can be looked at."""
    store = Store(tmp_path / "store")
    add_run(store, "big", build_big(store))
    place = Place(f"s3://{BUCKET}/{tmp_path.name}/cut{bytes_up}")
    wire = Wire(server.url, bytes_up)
    s3_environment(wire.url)
    done = CliRunner().invoke(application, ["push", place.location, "--store", str(store.root), "--quiet"])
    assert wire.cut.is_set() and done.exit_code == 3
    assert f"error: {place.location}: cannot be reached" in done.stderr
    assert "fix: run the same command again: what has arrived is not sent again" in done.stderr
    s3_environment(server.url)
    there = place.open()
    assert not there.sizes("runs") and not there.sizes("artifacts")
    whole = {sha256: size for path, size in there.sizes("blobs").items() for sha256 in [path.rpartition("/")[2]]}
    for sha256, size in whole.items():
        content = place.read(f"blobs/{sha256[:2]}/{sha256}")
        assert (hashlib.sha256(content).hexdigest(), len(content)) == (sha256, size)
    with pytest.raises(ArtifactError):
        fetch(Store(tmp_path / "early"), place, "big")
    assert send(store, place).runs == ("big",)
    other = Store(tmp_path / "other")
    assert fetch(other, place).runs == ("big",)
    assert files(other.root) == files(store.root)


def build_big(store):
    """An artifact of five files, 50 kB each."""

    def produce(out, work):
        for number in range(5):
            (out / f"part{number}.bin").write_bytes(random.Random(number).randbytes(50_000))
        return []

    return store.build("distill", 1, config={"name": "big"}, inputs={}, producer=produce)


def test_a_server_killed_in_the_middle_is_exit_code_3(store, s3_environment, tmp_path, monkeypatch):
    if server_command() is None:
        pytest.skip(f"no S3-compatible server: {INSTALL}")
    whole, sent = RemoteFolder._write, []
    with s3_server() as dying:
        s3_environment(dying.url)

        def killing(self, path, source):
            sent.append(path)
            if len(sent) == 4:
                os.kill(dying.process.pid, signal.SIGKILL)
                dying.process.wait()
            whole(self, path, source)

        monkeypatch.setattr(RemoteFolder, "_write", killing)
        ask = ["push", f"s3://{BUCKET}/cache", "--store", str(store.root), "--quiet"]
        done = CliRunner().invoke(application, ask)
    assert (done.exit_code, len(sent)) == (3, 4)
    assert f"error: s3://{BUCKET}/cache: cannot be reached" in done.stderr and "fix: run the same" in done.stderr
