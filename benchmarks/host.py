"""What surrounds a graph on this machine, and what the whole path costs: python benchmarks/host.py MODEL.tflite...

Prints for each stream model, on one pinned core, means over the quickest quarter so that a busy machine disturbs less:

    by hop    one hop at a time, sound in to sound out: what a device that must not wait does
    by block  64 hops at a time: what enhancing a file does
    graph     microseconds a hop inside the graph
    surround  microseconds a hop for all the rest: framing, FFT, features, states, mask, overlap-add
    rtf       real-time factor of the whole

Targets: surround at most the graph itself, rtf at most 0.004 for an int8 student.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import numpy as np

from earshot.targets.agent import BLOCK_HOPS, StreamEnhancer, processor, swinging_noise
from earshot.targets.stream import open_stream

SECONDS = 20
ROUNDS = 5


def figures(stream: StreamEnhancer, spent: list[int], hops: int) -> tuple[float, float]:
    """Microseconds a hop inside the graph and around it, in blocks of `hops`; `spent` receives every invoke's time."""
    size = hops * stream.hop
    sound = swinging_noise(SECONDS * stream.rate // size * size, stream.rate).reshape(-1, size)
    times = []
    for _ in range(ROUNDS):
        for block in sound:
            del spent[:]
            start = time.perf_counter_ns()
            stream.process(block)
            times.append((time.perf_counter_ns() - start, sum(spent)))
    times.sort()
    whole, graph = np.mean(times[: len(times) // 4], axis=0) / 1e3 / hops
    return float(graph), float(whole - graph)


def main() -> None:
    """Prints one line a model."""
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    core = max(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {core})
    print(f"{processor()}, core {core}, load {os.getloadavg()[0]:.1f}")
    print(f"{'':30}{'graph us':>10}{'surround us':>13}{'rtf':>9}")
    for path in sys.argv[1:]:
        stream = open_stream(Path(path))
        spent = stream.graph.time_invokes()
        for name, hops in (("by hop", 1), ("by block", BLOCK_HOPS)):
            graph, surround = figures(stream, spent, hops)
            rtf = (graph + surround) * 1e-6 * stream.rate / stream.hop
            print(f"{Path(path).name:20} {name:9}{graph:10.1f}{surround:13.1f}{rtf:9.4f}")


if __name__ == "__main__":
    main()
