"""What models cost on the emulated Raspberry Pis, each profiled twice: python benchmarks/pi_emulated.py MODEL.tflite...

Prints for each board and model, all emulated, of the least disturbed of 50 frames:

    graph      instructions of one step of the network
    frame      instructions of one hop, sound in to sound out
    rss        peak resident memory of the agent's process, MB
    differ     values of the masks of 20 frames that differ from this machine's
    again      whether a second run, on a guest started anew, counted the same

and for each run the seconds that it took here, start of the guest included: at most 60.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from earshot.core.errors import EarshotError
from earshot.pipeline.progress import Silent
from earshot.targets.base import ProfileConfig
from earshot.targets.registry import open_target

BOARDS = ("pi3-emulated", "pi4-emulated", "pi5-emulated")
METRICS = ("graph_instructions_per_frame", "instructions_per_frame", "output_mismatches", "peak_rss_bytes")


def figures(board: str, models: dict[str, Path]) -> tuple[dict[str, list[float]], str, float]:
    """The metrics of every model, the emulator, and the seconds it took."""
    began = time.monotonic()
    results = open_target(board).profile(models, ProfileConfig(), Silent())
    found = {}
    for result in results:
        values = {measurement.metric: measurement.value or 0.0 for measurement in result.measurements}
        found[result.variant] = [values[metric] for metric in METRICS]
    return found, results[0].environment["emulator"], time.monotonic() - began


def main() -> None:
    """Prints one line a board and model."""
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    models = {Path(path).name: Path(path) for path in sys.argv[1:]}
    print(f"{'':14}{'':26}{'graph':>12}{'frame':>12}{'rss MB':>9}{'differ':>8}  again")
    for board in BOARDS:
        try:
            (first, emulator, took), (second, _, took_again) = (figures(board, models) for _ in range(2))
        except EarshotError as error:
            sys.exit(f"{error.message}\n{error.hint or ''}")
        for name, (graph, frame, differ, rss) in first.items():
            again = "same" if second[name][:3] == first[name][:3] else f"differs: {second[name][:3]}"
            print(f"{board:14}{name:26}{graph:12,.0f}{frame:12,.0f}{rss / 1e6:9.1f}{differ:8.0f}  {again}")
        print(f"{board:14}{emulator}; {took:.0f} s and {took_again:.0f} s")


if __name__ == "__main__":
    main()
