"""Makes a study's steps on the nodes of a Ray cluster.

Every step is a Ray task with a share of a node: Ray places it, and this process hands out what can be made, keeps what
comes back, and gives a step that was lost with its node or worker to Ray again. Nodes share no disk with the store; see
`ray_worker`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from earshot.core.errors import EarshotError, ToolError
from earshot.pipeline.progress import Progress
from earshot.pipeline.stages.step import Step
from earshot.pipeline.store import Store
from earshot.pipeline.study.cells import open_study_data
from earshot.pipeline.study.config import Study
from earshot.pipeline.study.order import Done, Order, Sign
from earshot.pipeline.study.parcel import pack, unpack
from earshot.pipeline.study.ray_check import at_node, check_nodes
from earshot.pipeline.study.ray_cluster import Cluster, Share, connected, first_line, share
from earshot.pipeline.study.ray_worker import Mailbox, MisfitError, make, packed_up

TRIES = 3
_LISTEN_SECONDS = 1.0
_LOOK_SECONDS = 5.0


@dataclass(frozen=True)
class RayEngine:
    """A Ray cluster.

    Attributes:
        address: of its head, `HOST:6379` on a node of it, `ray://HOST:10001` elsewhere; default: RAY_ADDRESS, or the
            cluster that this machine is a node of.
        workers: steps at a time; default: what its nodes have room for.
    """

    address: str | None = None
    workers: int | None = None

    @contextmanager
    def crew(
        self, study: Study, steps: Sequence[Step], missing: int, store: Store, progress: Progress
    ) -> Iterator[RayCrew]:
        """See `Engine`.

        Raises:
            ToolError: Ray is not installed, no cluster answers, no node lends a CPU, or one has other versions.
            DataError: the sound of a node is missing or not the same as here.
            UsageError: a node has other code of the user's own.
        """
        with connected(self.address) as cluster:
            nodes = cluster.nodes()
            room = share(nodes, self.workers, len(steps))
            luggage = cluster.ray.put(packed_up(study, open_study_data(study, store.root / "cache"), room.threads))
            looking = progress.beside()
            looking.start(f"nodes of {cluster.address}: {', '.join(node.name for node in nodes if node.cpus)}", None)
            check_nodes(cluster, luggage, [step.id for step in steps])
            looking.finish(f"{room.threads} CPUs a step")
            crew = RayCrew(cluster, room, luggage, self.workers, progress)
            try:
                yield crew
            finally:
                crew.stop()


@dataclass
class _Task:
    """A step on its way: where it is made, as far as is known, and how often a worker was lost with it."""

    step: Step
    order: Order
    node: str = ""
    lost: int = 0


class _Bar:
    """A progress that knows whether a task of it is open, so that a lost step's can be closed."""

    def __init__(self, progress: Progress) -> None:
        self._progress, self._open = progress, False

    def draw(self, sign: Sign) -> None:
        """Draws a sign."""
        self._open = sign.method != "finish"
        sign.draw(self._progress)

    def close(self, note: str = "") -> None:
        """Closes the task that is open."""
        if self._open:
            self.draw(Sign("finish", (note,)))


class RayCrew:
    """The nodes; see `Crew`.

    Args:
        cluster: theirs.
        room: what a step takes of a node.
        luggage: reference to the study's luggage.
        workers: steps at a time; None leaves it to Ray how many there is room for.
        progress: bars are drawn beside it.
    """

    def __init__(self, cluster: Cluster, room: Share, luggage: Any, workers: int | None, progress: Progress) -> None:
        self._cluster, self._room, self._luggage, self._workers = cluster, room, luggage, workers
        self._progress, self._idle = progress, list[_Bar]()
        self._bars: dict[str, _Bar] = {}
        self._tasks: dict[Any, _Task] = {}
        self._sent: dict[str, Any] = {}
        self._looked = time.monotonic()
        self._names = {node.id: node.name for node in cluster.nodes()}
        self._make = cluster.ray.remote(make)
        self._letters: Any = None
        self._mailbox = cluster.ray.remote(Mailbox).options(**cluster.here()).remote()

    @property
    def free(self) -> bool:
        """Whether fewer steps are on their way than were asked for at a time."""
        return self._workers is None or len(self._tasks) < self._workers

    def give(self, step: Step, order: Order) -> None:
        """Sends a step to whichever node has room, with its inputs."""
        self._submit(_Task(step, order))

    def hear(self) -> Sequence[Done]:
        """What ended.

        Raises:
            ToolError: no node is left that has room for a step, or the cluster is gone.
            EarshotError: a node that came later cannot make steps of this study.
        """
        while True:
            with self._cluster.answering():
                ready, _ = self._cluster.ray.wait(list(self._tasks), timeout=_LISTEN_SECONDS)
            self._draw()
            ended = [done for reference in ready if (done := self._ended(reference)) is not None]
            if ended:
                return ended
            if ready or time.monotonic() - self._looked > _LOOK_SECONDS:
                self._look()

    def stop(self) -> None:
        """Ends what is still being made; its worker dies with it."""
        with suppress(OSError, self._cluster.ray.exceptions.RayError):
            self._cluster.reach()
            for reference in self._tasks:
                self._cluster.ray.cancel(reference, force=True)
            self._cluster.ray.kill(self._mailbox)

    def _submit(self, task: _Task) -> None:
        for folder in task.order.inputs.values():
            if folder.name not in self._sent:
                self._sent[folder.name] = self._cluster.ray.put(pack(folder))
        inputs = {role: self._sent[folder.name] for role, folder in task.order.inputs.items()}
        options = {**self._room.resources(task.step), "max_retries": 0, "scheduling_strategy": "SPREAD"}
        with self._cluster.answering():
            making = self._make.options(name=task.step.title, **options)
            reference = making.remote(self._luggage, task.step.id, self._mailbox, list(inputs), *inputs.values())
        self._tasks[reference] = task

    def _ended(self, reference: Any) -> Done | None:
        """How a task ended; None for one that was lost and is tried again."""
        task = self._tasks.pop(reference)
        try:
            done, files = self._cluster.get(reference)
        except self._cluster.ray.exceptions.RayTaskError as error:
            raise self._misfit(task, error.cause) from error
        except self._cluster.ray.exceptions.RayError as error:
            return self._lost(task, error)
        self._put_away(task)
        try:
            unpack(files, task.order.out)
        except ToolError as error:
            return Done(task.step.id, error=error)
        return done

    def _lost(self, task: _Task, error: Exception) -> Done | None:
        self._put_away(task, "lost")
        task.lost += 1
        where = f"a worker on {self._names.get(task.node, 'a node')} was lost ({first_line(error)})"
        if task.lost == TRIES:
            hint = "run the study again; too little memory? give the nodes more, or fewer --num-cpus"
            return Done(task.step.id, error=ToolError(f"{task.step.title}: given up, for the third time {where}", hint))
        told = self._progress.beside()
        told.start(task.step.title, None)
        told.finish(f"{where}: begun again")
        self._submit(task)
        return None

    def _misfit(self, task: _Task, error: BaseException) -> EarshotError:
        """A node that cannot make steps would take one after the other and fail them all: the study ends."""
        if isinstance(error, MisfitError):
            task.node, error = error.args
        if task.node not in self._names:
            self._look()
        name = self._names.get(task.node, "that came later")
        if isinstance(error, EarshotError):
            return at_node(name, error)
        return ToolError(f"node {name}: {task.step.title}: {first_line(error)}", "install the same earshot there")

    def _look(self) -> None:
        """Ray would wait forever for room that no node has any more."""
        self._looked = time.monotonic()
        nodes = self._cluster.nodes()
        self._names |= {node.id: node.name for node in nodes}
        for task in self._tasks.values():
            self._room.require(nodes, task.step)

    def _draw(self) -> None:
        """Draws what nodes have told since the last time. Progress is worth no wait, and no error."""
        ray = self._cluster.ray
        if self._letters is None:
            self._letters = self._mailbox.fetch.remote()
        with self._cluster.answering():
            arrived, _ = ray.wait([self._letters], timeout=0)
        if not arrived:
            return
        self._letters = None
        try:
            signs = ray.get(arrived[0])
        except ray.exceptions.RayError:
            return
        tasks = {task.step.id: task for task in self._tasks.values()}
        for identity, node, sign in signs:
            if identity not in tasks:
                continue
            tasks[identity].node = node
            if sign is not None:
                if identity not in self._bars:
                    self._bars[identity] = self._idle.pop() if self._idle else _Bar(self._progress.beside())
                self._bars[identity].draw(sign)

    def _put_away(self, task: _Task, note: str = "") -> None:
        bar = self._bars.pop(task.step.id, None)
        if bar is not None:
            bar.close(note)
            self._idle.append(bar)
