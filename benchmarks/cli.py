"""How long the command line takes to answer: python benchmarks/cli.py [-- COMMAND ARGUMENTS...]

Prints the median and worst wall time of whole processes; `earshot --help` must stay under 0.5 s.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

REPEATS = 10
COMMANDS = (["--help"], ["--version"], ["run", "--help"], ["plan"], ["artifacts", "list"], ["targets"], ["doctor"])


def seconds(arguments: list[str]) -> tuple[float, int]:
    """Wall time and exit code of one `earshot` process."""
    program = "from earshot.pipeline.cli.main import main; main()"
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, check=False)
    return time.perf_counter() - began, done.returncode


def main() -> None:
    """Measures the usual commands, or the one given."""
    commands = [sys.argv[sys.argv.index("--") + 1 :]] if "--" in sys.argv else COMMANDS
    print(f"{'earshot':30} {'median ms':>10} {'worst ms':>10} {'exit':>5}   ({REPEATS} processes each)")
    for arguments in commands:
        seconds(arguments)  # the first fills the file cache
        runs = [seconds(arguments) for _ in range(REPEATS)]
        times = [1e3 * taken for taken, _ in runs]
        print(f"{' '.join(arguments):30} {statistics.median(times):10.0f} {max(times):10.0f} {runs[-1][1]:5d}")


if __name__ == "__main__":
    main()
