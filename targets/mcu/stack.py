"""The most stack a function can need, from the call graphs that gcc writes: -fcallgraph-info=su, a file a source."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

_NODE = re.compile(r'node: \{ title: "(?P<title>[^"]+)" label: "(?P<label>[^"]*)"')
_EDGE = re.compile(r'edge: \{ sourcename: "(?P<source>[^"]+)" targetname: "(?P<target>[^"]+)"')
_FRAME = re.compile(r"(\d+) bytes \((static|dynamic,bounded)\)")
INDIRECT = "__indirect_call"
# Of the C library, in assembler or leaves of few registers: gcc writes no graph for them. Bytes are generous.
LIBRARY = {"memcpy": 32, "memset": 32, "memmove": 32, "memcmp": 32}


@dataclass
class CallGraph:
    """Bytes of stack each function takes for itself, and whom it calls."""

    frames: dict[str, int] = field(default_factory=dict)
    calls: dict[str, set[str]] = field(default_factory=dict)


def read_call_graph(files: Iterable[Path]) -> CallGraph:
    """The graphs of all sources as one. Functions without a known frame are called, but have none."""
    graph = CallGraph()
    for path in files:
        text = path.read_text(errors="replace")
        for node in _NODE.finditer(text):
            frame = _FRAME.search(node["label"])
            if frame:
                graph.frames[node["title"]] = int(frame[1])
        for edge in _EDGE.finditer(text):
            graph.calls.setdefault(edge["source"], set()).add(edge["target"])
    return graph


def deepest_call(graph: CallGraph, entry: str) -> int | None:
    """Bytes of stack from the call of `entry` to its deepest callee; None where that cannot be known: recursion, calls
    through pointers, functions of a library."""
    depths: dict[str, int | None] = {}

    def depth(function: str, above: tuple[str, ...]) -> int | None:
        if function in above:
            return None
        if function not in depths:
            own = graph.frames.get(function, LIBRARY.get(function))
            below = [depth(called, (*above, function)) for called in graph.calls.get(function, ())]
            depths[function] = None if own is None or None in below else own + max((d for d in below if d), default=0)
        return depths[function]

    return depth(entry, ())
