"""Where every tensor lives: the frame and the mask at the caller's, states in memory that lasts, the rest in one arena.

Tensors that are parts of others, and outputs that may take over an input's memory, share a buffer. A state's next value
is written straight over the old one where nothing reads the old one any more; otherwise it is computed in the arena and
copied as soon as that is so. A next value that nothing computes, because it is the frame or another state's old value,
is copied from there before that is overwritten itself; a state that stays as it is is left alone.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter

import numpy as np

from earshot.quantize.c.program import Memory, Step
from earshot.quantize.graph import Graph

ALIGNMENT = 4
_TRIALS = 300
ARENA, FRAME, MASK = "arena", "frame", "mask"


@dataclass(frozen=True)
class Place:
    """Where a tensor's elements begin: `storage` is the arena, the frame, the mask, or a state by its name."""

    storage: str
    offset: int  # bytes


@dataclass(frozen=True)
class Buffer:
    """A piece of the arena that is live from one step to another, both included."""

    name: int
    size: int
    first: int
    last: int

    def meets(self, other: Buffer) -> bool:
        """Whether both are live at once."""
        return self.first <= other.last and other.first <= self.last


@dataclass(frozen=True)
class Commit:
    """After a step, a state's next value is copied over the old one."""

    step: int
    state: str
    tensor: int


@dataclass(frozen=True)
class Layout:
    """Places of all tensors and of the steps' scratch, and what the arena costs."""

    places: Mapping[int, Place]
    scratch: Mapping[int, int]
    commits: tuple[Commit, ...]
    arena_bytes: int
    lower_bound: int

    def resolve(self, memory: Memory, step: int, itemsize: int) -> Place:
        """The place of a call's argument."""
        if memory.scratch:
            return Place(ARENA, self.scratch[step])
        place = self.places[memory.tensor]
        return Place(place.storage, place.offset + memory.offset * itemsize)


def lay_out(
    graph: Graph, steps: Sequence[Step], frame: int, mask: int, states: Mapping[str, tuple[int, int]]
) -> Layout:
    """Plans the memory of a program.

    Args:
        frame, mask: the tensors the caller brings and takes.
        states: name -> tensor that enters, tensor that leaves: computed by a step, the frame, or one that enters, where
            no circle of states exchange their values.
    """
    return _Planner(graph, steps, frame, mask, states).plan()


class _Planner:
    def __init__(
        self, graph: Graph, steps: Sequence[Step], frame: int, mask: int, states: Mapping[str, tuple[int, int]]
    ) -> None:
        self.graph, self.steps, self.states, self.mask = graph, steps, states, mask
        self.storage = {frame: FRAME, mask: MASK} | {entry: name for name, (entry, _) in states.items()}
        self.leaving = {tensor for _, tensor in states.values()}
        self.parents: dict[int, tuple[int, int]] = {}  # tensor -> tensor it lies in, bytes from its start
        self.producer = {tensor: number for number, step in enumerate(steps) for tensor in step.writes}
        self.taken: list[int] = []  # tensors that took over the memory of another
        self.commits: dict[str, int] = {}  # state -> step after which it is copied

    def plan(self) -> Layout:
        self._share_parts()
        self._place_states()
        self._take_over()
        self._give_back()
        buffers = self._buffers()
        offsets, size = arrange(buffers)
        places = {}
        for tensor in {*self.storage, *self.producer}:
            root, offset = self._root(tensor)
            start = offsets.get(root, 0)
            places[tensor] = Place(self.storage.get(root, ARENA), start + offset)
        scratch = {number: offsets[-1 - number] for number, step in enumerate(self.steps) if step.scratch}
        # Of two after one step, the first reads what the second overwrites.
        commits = tuple(
            Commit(step, name, self.states[name][1])
            for name, step in sorted(self.commits.items(), key=lambda item: item[1])
        )
        return Layout(places, scratch, commits, size, lower_bound(buffers))

    def bytes(self, tensor: int) -> int:
        info = self.graph.tensors[tensor]
        return int(np.prod(info.shape, dtype=np.int64)) * np.dtype(info.dtype).itemsize

    def _root(self, tensor: int) -> tuple[int, int]:
        """The tensor whose buffer it lies in, and where."""
        offset = 0
        while tensor in self.parents:
            tensor, inner = self.parents[tensor]
            offset += inner
        return tensor, offset

    def _reads(self) -> dict[int, int]:
        """Root -> the last step that reads it; commits read after their step."""
        last: dict[int, int] = {}
        for number, step in enumerate(self.steps):
            for tensor in step.reads:
                last[self._root(tensor)[0]] = number
        for name, number in self.commits.items():
            root = self._root(self.states[name][1])[0]
            last[root] = max(last.get(root, -1), number)
        return last

    def _share_parts(self) -> None:
        for step in self.steps:
            for part in step.parts:
                size = np.dtype(self.graph.tensors[part.tensor].dtype).itemsize
                if part.tensor in step.writes:
                    # What leaves the model has a place of its own.
                    free = part.tensor != self.mask and part.tensor not in self.leaving
                else:
                    free = (
                        part.tensor in self.producer
                        and part.tensor != self.mask
                        and part.tensor not in self.parents
                        and part.whole != self.mask
                    )
                if free:
                    self.parents[part.tensor] = (part.whole, part.offset * size)

    def _place_states(self) -> None:
        for name in self._order():
            entry, leaving = self.states[name]
            if leaving == entry:
                continue
            last = self._reads().get(entry, -1)
            # Parts of the next value may be written before the whole is.
            parts = [number for tensor, number in self.producer.items() if self._root(tensor)[0] == leaving]
            made = min(parts, default=-1)
            own = leaving not in self.storage and leaving not in self.parents
            over = made >= 0 and entry in self.steps[made].in_place and self._only_reader(made, entry)
            if own and (last < made or (last == made and over)):
                self.storage[leaving] = name
            else:
                self.commits[name] = max(last, self.producer.get(leaving, 0))

    def _order(self) -> list[str]:
        """States such that each comes after those that take its old value."""
        names = {entry: name for name, (entry, _) in self.states.items()}
        takers: dict[str, list[str]] = {name: [] for name in self.states}
        for name, (entry, leaving) in self.states.items():
            if leaving in names and leaving != entry:
                takers[names[leaving]].append(name)
        return list(TopologicalSorter(takers).static_order())

    def _only_reader(self, number: int, tensor: int) -> bool:
        """Whether a step reads a buffer through this one tensor alone, and no state is copied from there after it."""
        root = self._root(tensor)[0]
        copied = (self.states[name][1] for name, step in self.commits.items() if step == number)
        others = (other for other in self.steps[number].reads if other != tensor)
        return all(self._root(other)[0] != root for other in (*others, *copied))

    def _take_over(self) -> None:
        """Lets outputs take over the memory of inputs that nothing reads afterwards."""
        for number, step in enumerate(self.steps):
            if len(step.writes) != 1 or step.writes[0] in self.parents or step.writes[0] in self.storage:
                continue
            sink, last = step.writes[0], self._reads()
            for tensor in step.in_place:
                root = self._root(tensor)[0]
                fits = self.bytes(tensor) == self.bytes(sink) and root not in self.storage and root in self.producer
                # A whole that is still being put together is read later than this.
                if fits and last[root] == number and root != sink and self._only_reader(number, tensor):
                    self.parents[sink] = (tensor, 0)
                    self.taken.append(sink)
                    break

    def _give_back(self) -> None:
        """Undoes take-overs of a part that keep its whole alive for long, as long as less is live at once without."""
        found = [sink for sink in self.taken if self.bytes(self._root(sink)[0]) > self.bytes(sink)]
        least = lower_bound(self._buffers())
        while found:
            bounds = {sink: self._bound_without(sink) for sink in found}
            best = min(found, key=lambda sink: bounds[sink])
            if bounds[best] >= least:
                break
            least = bounds[best]
            del self.parents[best]
            found.remove(best)

    def _bound_without(self, sink: int) -> int:
        """The most bytes live at once if a tensor had a buffer of its own."""
        place = self.parents.pop(sink)
        bound = lower_bound(self._buffers())
        self.parents[sink] = place
        return bound

    def _buffers(self) -> list[Buffer]:
        last = self._reads()
        spans: dict[int, list[int]] = {}
        for number, step in enumerate(self.steps):
            for tensor in step.writes:
                root = self._root(tensor)[0]
                if root not in self.storage:
                    span = spans.setdefault(root, [number, number])
                    span[1] = max(span[1], number, last.get(root, -1))
        found = [Buffer(root, _aligned(self.bytes(root)), *span) for root, span in spans.items()]
        return found + [
            Buffer(-1 - number, _aligned(step.scratch), number, number)
            for number, step in enumerate(self.steps)
            if step.scratch
        ]


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def lower_bound(buffers: Iterable[Buffer]) -> int:
    """The most bytes that are live at one step: no arena is smaller."""
    live: dict[int, int] = {}
    for buffer in buffers:
        for step in range(buffer.first, buffer.last + 1):
            live[step] = live.get(step, 0) + buffer.size
    return max(live.values(), default=0)


def arrange(buffers: Sequence[Buffer]) -> tuple[dict[int, int], int]:
    """Offsets by buffer name, and the size of the arena.

    Greedy by size, each at the lowest gap it fits (Pisarchyk & Lee 2020, arXiv 2001.03288); then orders near the best
    one are tried until the lower bound is met. The same buffers always give the same offsets.
    """
    bound, draw = lower_bound(buffers), random.Random(0)
    orders = [
        sorted(buffers, key=lambda buffer: (-buffer.size, buffer.first, buffer.name)),
        sorted(buffers, key=lambda buffer: (-buffer.size * (buffer.last - buffer.first + 1), buffer.name)),
        sorted(buffers, key=lambda buffer: (buffer.first, -buffer.size, buffer.name)),
    ]
    tried = [(_first_fit(order), order) for order in orders]
    (best, size), order = min(tried, key=lambda item: item[0][1])
    for _ in range(_TRIALS if len(order) > 1 else 0):
        if size <= bound:
            break
        changed = list(order)
        changed.insert(draw.randrange(len(changed)), changed.pop(draw.randrange(len(changed))))
        found, needed = _first_fit(changed)
        if needed <= size:
            best, size, order = found, needed, changed
    return best, size


def _first_fit(order: Sequence[Buffer]) -> tuple[dict[int, int], int]:
    offsets: dict[int, int] = {}
    placed: list[Buffer] = []
    for buffer in order:
        start = 0
        for low, high in sorted((offsets[other.name], other.size) for other in placed if other.meets(buffer)):
            if start + buffer.size <= low:
                break
            start = max(start, low + high)
        offsets[buffer.name] = start
        placed.append(buffer)
    return offsets, max((offsets[buffer.name] + buffer.size for buffer in order), default=0)
