"""One line for each recipe that was run: network, teacher, method, cost, and quality as float and as int8.

    for RECIPE in latent16k mobile48k ...; do earshot run $RECIPE --data DIR --store STORE; done
    python benchmarks/systems.py [--target NAME] STORE RECIPE...

Prints a Markdown table from the newest finished run of each recipe; what a run does not hold is a dash. The real-time
factor is that of one target, host where none is named.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

FLOAT, INT8, WIDE = "convert:float32", "convert:int8", "convert:int16x8"
HEADER = (
    "recipe", "student ← teacher, method", "parameters (k)", "MAC/s (M)", "latency (ms)", "clips",
    "PESQ noisy / teacher / float / int8", "STOI", "SI-SDR (dB)",
    "int8 - float: PESQ, SI-SDR", "16x8 - float", "RTF int8",
)  # fmt: skip


def newest(store: Path, recipe: str) -> dict[str, Any]:
    """The newest finished run of a recipe. Exits where there is none."""
    runs = [json.loads(path.read_text()) for path in sorted((store / "runs").glob(f"{recipe}-*.json"))]
    done = [run for run in runs if run["recipe"]["name"] == recipe and run["status"] == "complete"]
    if not done:
        sys.exit(f"{store}: no finished run of {recipe}; run: earshot run {recipe} --store {store}")
    return max(done, key=lambda run: run["name"])


def line(run: dict[str, Any], target: str = "host") -> tuple[str, ...]:
    """The cells of a run's line; of what was measured on targets, those of one."""
    recipe = run["recipe"]
    found = {
        (row["row"], one["metric"]): one
        for row in run["rows"]
        for one in row["measurements"]
        if one.get("group") is None
        and one.get("variant") in (None, row["row"].rpartition(":")[2])
        and one.get("target") in (None, target)
    }

    def number(row: str, metric: str) -> float | None:
        return found.get((row, metric), {}).get("value")

    def value(row: str, metric: str, digits: int, unit: float = 1) -> str:
        one = number(row, metric)
        return "-" if one is None else f"{one / unit:.{digits}f}"

    def both(metric: str, digits: int) -> str:
        return " / ".join(value(row, metric, digits) for row in ("noisy", "teacher", FLOAT, INT8))

    def difference(form: str, metric: str, digits: int) -> str:
        made, real = number(form, metric), number(FLOAT, metric)
        return "-" if made is None or real is None else f"{made - real:+.{digits}f}"

    teacher, distill = recipe["teacher"], recipe["distill"]
    how = distill["method"] if not distill.get("online") else f"online {', '.join(distill['online']['metrics'])}"
    who = f"{recipe['student']['network']} ← {teacher['network'] if teacher else 'none'}, {how}"
    sizes = [value(row, "parameters", 1, 1000) for row in ("distill", "teacher")]
    clips = {found.get((FLOAT, metric), {}).get("n") for metric in ("pesq_wb", "stoi", "si_sdr")} - {None}
    return (
        recipe["name"],
        who,
        sizes[0] if sizes[1] == "-" else " of ".join(sizes),
        value("distill", "macs_per_second", 1, 1e6),
        value("distill", "algorithmic_latency_ms", 0),
        "/".join(map(str, sorted(clips))) or "-",
        both("pesq_wb", 2),
        both("stoi", 3),
        both("si_sdr", 2),
        *(f"{difference(form, 'pesq_wb', 3)}, {difference(form, 'si_sdr', 2)}" for form in (INT8, WIDE)),
        value(INT8, "rtf", 4),
    )


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("recipes", nargs="+", metavar="RECIPE")
    parser.add_argument("--target", default="host")
    given = parser.parse_args()
    print(f"| {' | '.join(HEADER)} |\n|{' --- |' * len(HEADER)}")
    for recipe in given.recipes:
        print(f"| {' | '.join(line(newest(given.store, recipe), given.target))} |")


if __name__ == "__main__":
    main()
