"""What a study on a Ray cluster rests on, without a cluster: shares, parcels, and whether a node fits."""

from __future__ import annotations

import pickle
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_recipe import PACK, earshot
from tiny_study import write_study

from earshot.core.errors import DataError, ToolError, UsageError
from earshot.pipeline.study.cells import matrix, open_study_data
from earshot.pipeline.study.config import load_study
from earshot.pipeline.study.local_engine import WORKER_BYTES
from earshot.pipeline.study.parcel import pack, unpack
from earshot.pipeline.study.ray_cluster import Node, Share, connected, share
from earshot.pipeline.study.ray_worker import Luggage, differing, examine, packed_up

GB = 10**9


def node(cpus: int, gpus: float = 0, memory: float = 64 * GB) -> Node:
    return Node("id", "name", cpus, gpus, memory)


@pytest.mark.parametrize(
    ("nodes", "workers", "steps", "found"),
    [
        ([node(8), node(8)], None, 100, (1, 2 * GB, 0)),
        ([node(8), node(8)], None, 4, (4, 2 * GB, 0)),  # 16 CPUs for four steps
        ([node(8), node(8)], 8, 100, (2, 2 * GB, 0)),
        ([node(16), node(2)], None, 2, (2, 2 * GB, 0)),  # each node can stand in for any other
        ([node(16), node(0)], None, 2, (8, 2 * GB, 0)),  # but for a head that lends nothing
        ([node(8, memory=4 * GB), node(8, memory=4 * GB)], None, 100, (4, 2 * GB, 0)),  # memory for four steps
        ([node(1, memory=GB)], None, 3, (1, 0, 0)),  # too little for what a step should have: it is tried
        ([node(8, gpus=1), node(8)], None, 4, (4, 2 * GB, 0.5)),  # the two steps of a node share its GPU
        ([node(6, gpus=2)], None, 6, (1, 2 * GB, 0.3333)),
        ([node(4, gpus=4)], None, 1, (4, 2 * GB, 1)),
    ],
)
def test_steps_share_the_nodes(nodes: list[Node], workers: int | None, steps: int, found: tuple[float, ...]) -> None:
    assert WORKER_BYTES == 2 * GB
    one = share(nodes, workers, steps)
    assert (one.threads, one.memory, one.gpu) == found


def test_a_cluster_without_cpus_is_refused() -> None:
    with pytest.raises(ToolError, match="no node of the Ray cluster lends a CPU"):
        share([node(0)], None, 1)


def test_training_takes_its_part_of_a_gpu_and_room_must_exist(tmp_path: Path) -> None:
    study = load_study(str(write_study(tmp_path)))
    steps = matrix(study, open_study_data(study, tmp_path)).steps.values()
    room = Share(threads=2, memory=GB, gpu=0.25)
    gpus = {step.stage: room.resources(step)["num_gpus"] for step in steps}
    assert gpus == {"distill": 0.25, "export": 0, "quality": 0}
    training = next(step for step in steps if step.stage == "distill")
    room.require([node(1), node(2, gpus=1)], training)
    for short in (node(1, gpus=1), node(2), node(2, gpus=1, memory=GB / 2)):
        with pytest.raises(ToolError, match=r"no node is left .* 2 CPUs and 0\.25 GPUs"):
            room.require([short], training)
    launcher = training.config["settings"]["launcher"]
    several = replace(training, config={"settings": {"launcher": {**launcher, "devices": 2}}})
    assert room.resources(several)["num_gpus"] == 2
    without = replace(training, config={"settings": {"launcher": {**launcher, "accelerator": "cpu"}}})
    assert room.resources(without)["num_gpus"] == 0


def test_a_parcel_arrives_whole_or_not_at_all(tmp_path: Path) -> None:
    sent = tmp_path / "sent"
    (sent / "deep").mkdir(parents=True)
    (sent / "a").write_bytes(b"\0\xff")
    (sent / "deep" / "b").write_text("b")
    parcel = pickle.loads(pickle.dumps(pack(sent)))
    arrived = unpack(parcel, tmp_path / "arrived")
    found = [path for path in arrived.rglob("*") if path.is_file()]
    assert {path.relative_to(arrived).as_posix(): path.read_bytes() for path in found} == {
        "a": b"\0\xff",
        "deep/b": b"b",
    }
    for files in ({**parcel.files, "a": b"\0\xfe"}, {"a": parcel.files["a"]}, {"c": b"", **parcel.files}):
        with pytest.raises(ToolError, match="damaged on its way"):
            unpack(replace(parcel, files=files), tmp_path / "damaged")
    assert not (tmp_path / "damaged").exists()


@pytest.fixture
def luggage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Luggage, list[str]]:
    """Of a study with relative paths and a teacher given as a file, as it arrives at a node with another folder."""
    (tmp_path / "head").mkdir()
    (tmp_path / "node").mkdir()
    monkeypatch.chdir(tmp_path / "head")
    monkeypatch.setenv("EARSHOT_CACHE", str(tmp_path / "node" / "cache"))
    Path("teacher.safetensors").write_bytes(b"weights")
    path = write_study(Path(), teachers={"wide": {"checkpoint": "teacher.safetensors"}})
    path.write_text(path.read_text().replace(str(Path().absolute()), "."))
    study = load_study(str(path))
    data = open_study_data(study, Path("cache"))
    sent = pickle.dumps(packed_up(study, data, 3))
    wanted = list(matrix(study, data).steps)
    Path("teacher.safetensors").unlink()  # it travels
    monkeypatch.chdir(tmp_path / "node")
    return pickle.loads(sent), wanted


def test_a_node_plans_the_same_steps_from_what_it_is_sent(luggage: tuple[Luggage, list[str]]) -> None:
    sent, wanted = luggage
    assert len(wanted) > 10
    assert examine(sent, wanted) is None
    assert isinstance(examine(sent, [*wanted, "0" * 64]), UsageError)


def test_a_node_with_other_sound_or_none_does_not_fit(luggage: tuple[Luggage, list[str]], tmp_path: Path) -> None:
    sent, wanted = luggage
    table = tmp_path / "head" / "mixes.csv"
    text = table.read_text()
    assert str(PACK / "speech") in text
    lines = text.splitlines()
    changed = [line.replace(",5", ",6") if line.startswith("test") else line for line in lines]
    table.write_text("\n".join(changed))
    misfit = examine(sent, wanted)
    assert isinstance(misfit, DataError)
    assert misfit.message == "the test sound is not the same there as here"
    table.unlink()
    misfit = examine(sent, wanted)
    assert isinstance(misfit, DataError)
    assert "mixes.csv" in misfit.message


def test_versions_differ_by_more_than_their_build() -> None:
    ours = {"earshot": "0.1.0", "torch": "2.13.0"}
    assert differing(ours, {"earshot": "0.1.0", "torch": "2.13.0+cu126", "jax": "1"}) == ""
    assert differing(ours, {"earshot": "0.1.1"}) == (
        "earshot is 0.1.1 there and 0.1.0 here, torch is missing there and 2.13.0 here"
    )


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("127.0.0.1:1", "127.0.0.1:1: no Ray cluster answers"),
        ("ray://127.0.0.1:1", "ray://127.0.0.1:1: no Ray cluster answers"),
        ("no-such-host.invalid:6379", "no-such-host.invalid:6379: no Ray cluster answers"),
        ("rubbish", "rubbish: not the address of a Ray cluster"),
        ("host:port", "host:port: not the address of a Ray cluster"),
    ],
)
def test_a_cluster_that_is_not_there_is_named(address: str, says: str) -> None:
    pytest.importorskip("ray", reason="pip install 'earshot[scale]'")
    with pytest.raises(ToolError, match=says) as caught, connected(address):
        pass
    assert "ray start --head" in str(caught.value.hint)


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ToolError) as caught, connected(None):
        pass
    assert (caught.value.hint, caught.value.exit_code) == ("pip install 'earshot[scale]'", 3)


def test_an_address_needs_its_engine(tmp_path: Path) -> None:
    write_study(tmp_path)
    done = earshot(tmp_path, "study", "study.yaml", "--address", "127.0.0.1:6379")
    assert done.returncode == 2, done.stderr
    assert "add --engine ray" in done.stderr
