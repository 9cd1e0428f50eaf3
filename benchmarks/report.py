"""How long the HTML page of a run takes, and how large it is: the code behind `earshot report` and `earshot gate`.

    earshot run RECIPE --data DIR --store STORE
    python benchmarks/report.py [RUN] --store STORE [--repeats 5]

Every command is a process of its own, from its start to its end. Wanted: a page of 120 clips in under 10 s and 5 MB, a
gate in under 1 s. Prints Markdown.
"""

from __future__ import annotations

import argparse
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from earshot.ci.run_file import read_run
from earshot.pipeline.evidence import gather
from earshot.pipeline.runs import find_run
from earshot.pipeline.store import Store

KINDS = {"sound": r"data:audio/flac;base64,([\w+/=]*)", "spectrograms": r"data:image/png;base64,([\w+/=]*)"}


def seconds(*command: str) -> tuple[float, float]:
    """Wall and processor time of `earshot COMMAND`. Exits when it failed; a missed budget is no failure."""
    begun, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    start = [sys.executable, "-c", "from earshot.pipeline.cli.main import main; main()"]
    done = subprocess.run([*start, *command], capture_output=True, text=True, check=False)
    if done.returncode > 1:
        sys.exit(done.stderr)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - begun, used


def main() -> None:
    """Runs the commands and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="?", default="latest")
    parser.add_argument("--store", type=Path, default=Path(".earshot"))
    parser.add_argument("--repeats", type=int, default=5)
    asked = parser.parse_args()
    store = Store(asked.store)
    run = read_run(find_run(store, asked.run))
    clips = max((len(one.clips) for one in gather(run, store).scores.values()), default=0)
    where = ("--store", str(asked.store))
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "page.html"
        commands = {
            "earshot gate RUN": ("gate", asked.run, *where),
            "earshot report RUN page.html --no-sound": ("report", asked.run, str(page), "--no-sound", *where),
            "earshot report RUN page.html": ("report", asked.run, str(page), *where),
        }
        print(f"{run.name}: {clips} clips, {len(run.rows)} rows, {asked.repeats} repeats\n")
        print("| command | median (s) | fastest to slowest (s) | processor, median (s) | page (MB) |")
        print("| --- | --- | --- | --- | --- |")
        for shown, command in commands.items():
            taken = [seconds(*command) for _ in range(asked.repeats)]
            wall, used = (sorted(column) for column in zip(*taken, strict=True))
            size = f"{page.stat().st_size / 1e6:.2f}" if command[0] == "report" else "-"
            middle, busy = statistics.median(wall), statistics.median(used)
            print(f"| `{shown}` | {middle:.2f} | {wall[0]:.2f} to {wall[-1]:.2f} | {busy:.2f} | {size} |")
        content = page.read_text(encoding="utf-8")
    parts = {kind: sum(map(len, re.findall(pattern, content))) for kind, pattern in KINDS.items()}
    players = len(re.findall(r"<audio ", content))
    print(f"\nIn the page: {players} sounds {parts['sound'] / 1e6:.2f} MB, "
          f"spectrograms {parts['spectrograms'] / 1e6:.2f} MB, "
          f"the rest {(len(content) - sum(parts.values())) / 1e6:.2f} MB.")  # fmt: skip


if __name__ == "__main__":
    main()
