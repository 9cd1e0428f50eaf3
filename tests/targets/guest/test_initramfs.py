"""The archive writer, read back by cpio itself."""

import shutil
import subprocess

import pytest

from earshot.targets.guest.initramfs import Initramfs

needs_cpio = pytest.mark.skipif(not shutil.which("cpio"), reason="cpio reads archives back: apt-get install cpio")


def write(path):
    with path.open("wb") as file, Initramfs(file) as archive:
        archive.folder("tmp", 0o1777)
        archive.write("usr/lib/a", b"abc", 0o644)
        archive.write("usr/lib/a", b"a second one", 0o755)
        archive.write("init", b"#!/bin/sh\n" * 1000, 0o755)
        archive.write("empty", b"")
        archive.link("bin/sh", "/usr/bin/dash")


@needs_cpio
def test_cpio_reads_what_was_written(tmp_path):
    write(tmp_path / "archive")
    with (tmp_path / "archive").open("rb") as file:
        done = subprocess.run(["cpio", "-idm", "--quiet"], stdin=file, cwd=tmp_path, capture_output=True, check=True)
    assert done.stderr == b""
    assert (tmp_path / "usr/lib/a").read_bytes() == b"abc"  # the first to take a path keeps it
    assert (tmp_path / "init").read_bytes() == b"#!/bin/sh\n" * 1000
    assert (tmp_path / "empty").read_bytes() == b""
    assert (tmp_path / "bin/sh").readlink().as_posix() == "/usr/bin/dash"
    modes = {name: (tmp_path / name).stat().st_mode & 0o7777 for name in ("tmp", "usr/lib/a", "init")}
    assert modes == {"tmp": 0o1777, "usr/lib/a": 0o644, "init": 0o755}


@needs_cpio
def test_folders_come_before_what_is_in_them_and_all_is_roots(tmp_path):
    write(tmp_path / "archive")
    with (tmp_path / "archive").open("rb") as file:
        listed = subprocess.run(["cpio", "-itnv", "--quiet"], stdin=file, capture_output=True, check=True, text=True)
    lines = [line.split() for line in listed.stdout.splitlines()]
    names = [line[8] for line in lines]
    assert names == ["tmp", "usr", "usr/lib", "usr/lib/a", "init", "empty", "bin", "bin/sh"]
    assert {(line[2], line[3]) for line in lines} == {("0", "0")}


@needs_cpio
def test_an_archive_that_was_not_ended_is_refused(tmp_path):
    write(tmp_path / "archive")
    content = (tmp_path / "archive").read_bytes()
    ended = subprocess.run(["cpio", "-it"], input=content, capture_output=True, check=False)
    cut = subprocess.run(["cpio", "-it"], input=content[: content.rindex(b"070701")], capture_output=True, check=False)
    assert (ended.returncode, cut.returncode != 0) == (0, True)
