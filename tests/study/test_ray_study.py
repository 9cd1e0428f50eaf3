"""A study on a real Ray cluster on loopback: a node is killed half-way, and the result is the local one to the byte."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from ray_nodes import Nodes
from test_study_engine import DIES, artifacts
from tiny_recipe import SIZES, STEPS, earshot, start
from tiny_study import write_study

from earshot.core.errors import ToolError
from earshot.pipeline.manifest import read_manifest
from earshot.pipeline.study.ray_check import _asked
from earshot.pipeline.study.ray_cluster import connected

pytest.importorskip("ray", reason="pip install 'earshot[scale]'")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

HANGS = """
import os, time
from pathlib import Path
from earshot.models.dae_unet import DaeUnet

class Hangs(DaeUnet):
    '''Is never built on the node that the file HANGS names, and says so in the file HANGS.reached.'''

    def __init__(self, *arguments, **named):
        mark = os.environ.get("HANGS")
        if mark and Path(mark).read_text() == os.environ["NODE"]:
            Path(mark).with_suffix(".reached").touch()
            time.sleep(3600)
        super().__init__(*arguments, **named)
"""
NETWORKS: dict[str, Any] = {
    "teachers": {"wide": {"network": "users_hangs:Hangs", "params": SIZES | {"hidden": 12}, "train": STEPS}},
    "students": {"narrow": {"network": "users_hangs:Hangs", "params": SIZES}},
}
RESULT = Path(".earshot") / "studies" / "tiny" / "result.csv"
MADE = 1 + 3 * 3  # noisy; teacher, student alone and taught


@pytest.fixture
def cluster() -> Iterator[Nodes]:
    # A short path: Ray puts sockets there.
    with tempfile.TemporaryDirectory(prefix="ray-") as folder:
        nodes = Nodes(Path(folder))
        try:
            yield nodes
        finally:
            nodes.stop()
            left = [p for p in psutil.process_iter(["cmdline"]) if folder in " ".join(p.info["cmdline"] or ())]
            assert not left, f"processes of the cluster go on: {left}"


def test_a_node_dies_and_nothing_is_lost(tmp_path: Path, cluster: Nodes) -> None:
    here, there = tmp_path / "local", tmp_path / "ray"
    hangs = tmp_path / "hangs"
    hangs.write_text("second")
    for folder in (here, there):
        folder.mkdir()
        (folder / "users_hangs.py").write_text(HANGS)
        (folder / "users_dies.py").write_text(DIES)
        write_study(folder, **NETWORKS, methods={"latent": {"method": "latent_cosine"}}, seeds=[0])
    environment = {"PYTHONPATH": str(there), "HANGS": str(hangs)}
    cluster.start("first", **environment)
    cluster.start("second", **environment)
    command = ("study", "study.yaml", "--engine", "ray", "--address", cluster.address)

    process = start(there, *command)
    wait_for(process, lambda: hangs.with_suffix(".reached").exists() and len(artifacts(there)) >= 2)
    assert cluster.workers("second")
    before = artifacts(there)
    cluster.kill("second")
    _, err = process.communicate(timeout=1000)
    assert process.returncode == 0, err
    assert err.count("was lost") == 1
    assert "begun again" in err
    assert f"{MADE} steps made, 0 used again" in err
    after = artifacts(there)
    assert len(after) == MADE
    assert before.items() <= after.items(), "something that was finished was made again"
    assert not list((there / ".earshot" / "tmp").glob("*"))

    one_thread_each = str(len(os.sched_getaffinity(0)))
    local = earshot(here, "study", "study.yaml", "--workers", one_thread_each)
    assert local.returncode == 0, local.stderr
    assert (there / RESULT).read_bytes() == (here / RESULT).read_bytes()
    assert digests(there) == digests(here)

    # A finished study needs no cluster.
    again = earshot(there, "study", "study.yaml", "--engine", "ray", "--address", "127.0.0.1:1")
    assert again.returncode == 0, again.stderr
    assert f"0 steps made, {MADE} used again" in again.stderr

    hangs.write_text("first")
    interrupted(there, hangs, cluster)


def interrupted(folder: Path, hangs: Path, cluster: Nodes) -> None:
    """An interrupt ends what nodes are doing."""
    workers = hanging(folder, hangs, cluster)
    workers.process.send_signal(signal.SIGINT)
    _, err = workers.process.communicate(timeout=300)
    assert workers.process.returncode == 130, err
    _, orphans = psutil.wait_procs(workers.remote, timeout=60)
    assert not orphans, f"workers of an interrupted study go on: {orphans}"


@dataclass(frozen=True)
class Hanging:
    """A study and the processes of the node that make its steps for ever."""

    process: subprocess.Popen[str]
    remote: list[psutil.Process]


def hanging(folder: Path, hangs: Path, cluster: Nodes, seed: int = 7) -> Hanging:
    """Starts a study that comes to a halt on the first node."""
    write_study(folder, **NETWORKS, methods={"dies": {"method": "users_dies:Dies"}}, seeds=[seed])
    reached = hangs.with_suffix(".reached")
    reached.unlink()
    process = start(folder, "study", "study.yaml", "--engine", "ray", "--address", cluster.address)
    wait_for(process, reached.exists)
    workers = cluster.workers("first")
    assert workers
    return Hanging(process, workers)


def test_a_node_that_does_not_fit_is_named(tmp_path: Path, cluster: Nodes) -> None:
    """The sound lies in each node's own working folder, as on machines that share no disk."""
    write_study(tmp_path)
    path = tmp_path / "study.yaml"
    path.write_text(path.read_text().replace(str(tmp_path), "/proc/self/cwd"))
    shadow = tmp_path / "shadow"
    cluster.start("first", PYTHONPATH=str(shadow))
    command = ("study", "study.yaml", "--quiet", "--engine", "ray", "--address", cluster.address)

    done = earshot(tmp_path, *command)
    assert done.returncode == 2, done.stderr
    assert "error: node " in done.stderr
    assert "/proc/self/cwd/mixes.csv" in done.stderr

    text = (tmp_path / "mixes.csv").read_text()
    shutil.copy(tmp_path / "mixes.csv", cluster.folder / "first")
    (cluster.folder / "first" / "mixes.csv").write_text(text.replace(",5", ",6"))
    done = earshot(tmp_path, *command)
    assert done.returncode == 2, done.stderr
    assert "sound is not the same there as here" in done.stderr

    (shadow / "earshot-0.0.9.dist-info").mkdir(parents=True)
    (shadow / "earshot-0.0.9.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: earshot\nVersion: 0.0.9\n"
    )
    done = earshot(tmp_path, *command)
    assert done.returncode == 3, done.stderr
    assert "earshot is 0.0.9 there and" in done.stderr
    assert not artifacts(tmp_path)


def test_a_node_that_comes_later_with_other_versions_makes_nothing(tmp_path: Path, cluster: Nodes) -> None:
    """Nobody has looked at it when its first step comes."""
    hangs, shadow = tmp_path / "hangs", tmp_path / "shadow"
    hangs.write_text("first")
    (tmp_path / "users_hangs.py").write_text(HANGS)
    write_study(tmp_path, **NETWORKS, methods={"latent": {"method": "latent_cosine"}}, seeds=[0])
    cluster.start("first", PYTHONPATH=str(tmp_path), HANGS=str(hangs))
    process = start(tmp_path, "study", "study.yaml", "--engine", "ray", "--address", cluster.address)
    wait_for(process, hangs.with_suffix(".reached").exists)
    before = artifacts(tmp_path)

    (shadow / "pesq-0.0.1.dist-info").mkdir(parents=True)
    (shadow / "pesq-0.0.1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: pesq\nVersion: 0.0.1\n")
    cluster.start("second", PYTHONPATH=f"{shadow}:{tmp_path}", HANGS=str(hangs))
    _, err = process.communicate(timeout=600)
    assert process.returncode == 3, err
    assert "error: node " in err and "127.0.0.2" in err
    assert f"pesq is 0.0.1 there and {importlib.metadata.version('pesq')} here" in err
    assert artifacts(tmp_path) == before


def test_a_node_that_cannot_look_is_told_from_one_that_is_gone(cluster: Nodes) -> None:
    def question(where: str, takes: str) -> str:
        if os.environ["NODE"] == where:
            os.kill({"worker": os.getpid(), "node": os.getppid()}[takes], signal.SIGKILL)
            time.sleep(60)
        return os.environ["NODE"]

    cluster.start("first")
    cluster.start("second")
    with connected(cluster.address) as joined:
        assert sorted(answer for _, answer in _asked(joined, question, "none", "")) == ["first", "second"]
        with pytest.raises(ToolError, match=r"node .*127\.0\.0\.2.*: it could not be looked at \(.+\)$"):
            list(_asked(joined, question, "second", "worker"))
        assert [answer for _, answer in _asked(joined, question, "second", "node")] == ["first"]


def wait_for(process: subprocess.Popen[str], reached: object) -> None:
    """Until something is so, or the process has ended."""
    assert callable(reached)
    until = time.monotonic() + 600
    while not reached():
        assert process.poll() is None and time.monotonic() < until, process.communicate(timeout=1)
        time.sleep(0.05)


def digests(folder: Path) -> dict[str, str]:
    """Artifact -> digest of its files, scores' and weights' bytes."""
    return {path.name: read_manifest(path).digest for path in (folder / ".earshot" / "artifacts").iterdir()}
