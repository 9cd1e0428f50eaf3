"""A Ray cluster as a study sees it: how it is reached, which nodes it has, and what share of one a step takes.

Ray waits for minutes for a cluster that is not there, and forever for room that no node has: both are looked at first.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

from earshot.core.errors import ToolError
from earshot.pipeline.stages.step import Step
from earshot.pipeline.study.local_engine import WORKER_BYTES

_CLIENT = "ray://"
_ANSWER_SECONDS = 10.0
_NOTICE_SECONDS, _LOOK_SECONDS = 20.0, 0.5
_ADDRESSES = "HOST:6379 from a node of the cluster, ray://HOST:10001 from elsewhere; to begin one: ray start --head"


@dataclass(frozen=True)
class Node:
    """A node that is alive.

    Attributes:
        id: Ray's.
        name: address, and host name where that says more.
        cpus, gpus, memory: what it lends; bytes.
    """

    id: str
    name: str
    cpus: int
    gpus: float
    memory: float


@dataclass(frozen=True)
class Share:
    """What a step takes of a node.

    Attributes:
        threads: CPUs, and threads of a training.
        memory: bytes; 0 where no node has what a step should have.
        gpu: part of a GPU that a training takes, where the cluster has any: the steps of a node share it.
    """

    threads: int
    memory: float
    gpu: float

    def resources(self, step: Step) -> dict[str, float]:
        """What Ray reserves for a step."""
        launcher = step.config["settings"]["launcher"] if step.stage == "distill" else {"accelerator": "cpu"}
        gpus = 0.0
        if self.gpu and launcher["accelerator"] in ("auto", "cuda"):
            gpus = self.gpu if launcher["devices"] == 1 else float(launcher["devices"])
        return {"num_cpus": self.threads, "memory": self.memory, "num_gpus": gpus}

    def require(self, nodes: Sequence[Node], step: Step) -> None:
        """Raises ToolError where no node has room for a step even when it does nothing else."""
        needed = self.resources(step)
        for node in nodes:
            if node.cpus >= needed["num_cpus"] and node.memory >= needed["memory"] and node.gpus >= needed["num_gpus"]:
                return
        what = f"{self.threads} CPUs" + (f" and {needed['num_gpus']:g} GPUs" if needed["num_gpus"] else "")
        raise ToolError(
            f"no node is left in the Ray cluster that lends {what}",
            "add nodes, and run the study again: finished steps are kept",
        )


def share(nodes: Sequence[Node], workers: int | None, steps: int) -> Share:
    """Shares the CPUs evenly among as many steps as there are, as CPUs and memory allow, or as are asked for.

    No step takes more than the smallest node has, so that each node can stand in for any other.
    """
    working = [node for node in nodes if node.cpus]
    if not working:
        raise ToolError("no node of the Ray cluster lends a CPU", "add one with: ray start --address HOST:6379")
    cpus = sum(node.cpus for node in working)
    memory = WORKER_BYTES if max(node.memory for node in working) >= WORKER_BYTES else 0
    fitting = sum(int(node.memory // memory) for node in working) if memory else cpus
    count = workers or min(cpus, fitting, steps)
    threads = max(1, min(cpus // count, *(node.cpus for node in working)))
    gpu = min((min(1.0, node.gpus * threads / node.cpus) for node in working if node.gpus), default=0.0)
    return Share(threads, memory, int(gpu * 1e4) / 1e4)  # Ray counts in ten thousandths


@dataclass(frozen=True)
class Cluster:
    """A cluster that this process is connected to."""

    ray: ModuleType
    address: str

    def nodes(self) -> list[Node]:
        """Those that are alive. Raises ToolError when the cluster is gone."""
        with self.answering():
            self.reach()
            return [_node(entry) for entry in self.ray.nodes() if entry["Alive"]]

    def lost(self, node: Node, error: Exception) -> bool:
        """Whether an error of what ran on a node means that the node is gone, which Ray takes a while to notice."""
        if isinstance(error, self.ray.exceptions.NodeDiedError):
            return True
        until = time.monotonic() + _NOTICE_SECONDS
        while any(one.id == node.id for one in self.nodes()):
            if time.monotonic() > until:
                return False
            time.sleep(_LOOK_SECONDS)
        return True

    def at(self, node: str) -> dict[str, Any]:
        """Options of what takes nothing of a node but has to run there, given the node's id."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        return {"num_cpus": 0, "scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=False)}

    def here(self) -> dict[str, Any]:
        """Options of what has to live as long as this process's connection."""
        return self.at(self.ray.get_runtime_context().get_node_id())

    def get(self, reference: Any) -> Any:
        """What a reference stands for. Raises what its task raised, or ToolError when the cluster is gone."""
        with self.answering():
            return self.ray.get(reference)

    def reach(self) -> None:
        """Raises OSError when the head is gone; Ray ends a process that asks it for anything then, after a minute."""
        if not self.address.startswith(_CLIENT):
            _connect(self.ray.get_runtime_context().gcs_address)

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Turns a lost connection into a ToolError."""
        lost = (self.ray.exceptions.LocalRayletDiedError, self.ray.exceptions.RpcError)
        try:
            yield
        except self.ray.exceptions.RayTaskError:  # an OSError too, where that is what ended the task
            raise
        except (OSError, *lost) as error:
            hint = "start it again, and then the study: finished steps are kept"
            raise ToolError(f"{self.address}: the Ray cluster is gone ({first_line(error)})", hint) from error


@contextmanager
def connected(address: str | None) -> Iterator[Cluster]:
    """A connection to a cluster.

    Args:
        address: `HOST:PORT`, `ray://HOST:PORT`; default: RAY_ADDRESS, or the cluster that this machine is a node of.

    Raises:
        ToolError: Ray is not installed, or no cluster answers there.
    """
    try:
        import ray
    except ImportError as error:
        raise ToolError("the package ray is not installed", "pip install 'earshot[scale]'") from error
    address = address or os.environ.get("RAY_ADDRESS") or "auto"
    if address != "auto":
        _knock(address)
    os.environ.setdefault("RAY_gcs_server_port_wait_time_s", "1")  # one try of half a minute, not twenty
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, RuntimeError, ValueError, TimeoutError, ray.exceptions.RayError) as error:
        raise ToolError(f"{address}: no Ray cluster can be joined ({first_line(error)})", _ADDRESSES) from error
    try:
        yield Cluster(ray, address)
    finally:
        with suppress(ConnectionError):
            ray.shutdown()


def first_line(error: BaseException) -> str:
    """The first line of an error, and the last where that announces it; Ray's are pages long."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return f"{lines[0]} {lines[-1]}" if lines[0].endswith(":") else lines[0]


def _knock(address: str) -> None:
    """Raises ToolError when nothing listens there."""
    try:
        _connect(address)
    except ValueError as error:
        raise ToolError(f"{address}: not the address of a Ray cluster", _ADDRESSES) from error
    except OSError as error:
        raise ToolError(f"{address}: no Ray cluster answers ({error.strerror or error})", _ADDRESSES) from error


def _connect(address: str) -> None:
    """Raises OSError when nothing listens there, ValueError when it is no address."""
    parts = urlsplit(f"//{address.removeprefix(_CLIENT)}")
    if not parts.hostname or not parts.port:
        raise ValueError(address)
    socket.create_connection((parts.hostname, parts.port), timeout=_ANSWER_SECONDS).close()


def _node(entry: dict[str, Any]) -> Node:
    lent = entry["Resources"]
    address, host = entry["NodeManagerAddress"], entry["NodeManagerHostname"]
    name = address if host in ("", address) else f"{host} ({address})"
    return Node(entry["NodeID"], name, int(lent.get("CPU", 0)), lent.get("GPU", 0.0), lent.get("memory", 0.0))
