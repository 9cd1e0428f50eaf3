"""How long a recipe takes cold and with everything cached.

    python benchmarks/pipeline.py [RECIPE] [-- ARGUMENTS OF earshot run]

Prints seconds for a first run in an empty store and for a second one in the same store, and whether the second imported
torch. The exit code of the runs is the gate's verdict and is only reported.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def timed_run(arguments: list[str], store: Path) -> tuple[float, int, bool]:
    """Seconds, exit code, and whether torch was imported."""
    environment = {**os.environ, "PYTHONPROFILEIMPORTTIME": "1"}
    command = [sys.executable, "-c", "from earshot.pipeline.cli.main import main; main()", "run", *arguments]
    begun = time.monotonic()
    done = subprocess.run(
        [*command, "--quiet", "--store", str(store)], env=environment, capture_output=True, text=True, check=False
    )
    seconds = time.monotonic() - begun
    imported = any(line.rpartition("|")[2].strip() == "torch" for line in done.stderr.splitlines())
    return seconds, done.returncode, imported


def main() -> None:
    """Runs twice and prints both."""
    recipe, _, extra = " ".join(sys.argv[1:]).partition("--")
    arguments = [*(recipe.split() or ["quickstart"]), *extra.split()]
    print(f"{' '.join(arguments)} on {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as folder:
        for name in ("cold", "cached"):
            seconds, code, imported = timed_run(arguments, Path(folder))
            print(f"{name:8}{seconds:8.1f} s   exit {code}   torch {'imported' if imported else 'not imported'}")


if __name__ == "__main__":
    main()
