"""One line for each recipe that was run: network, teacher, method, cost, and quality as float and as int8.

    for RECIPE in latent16k mobile48k ...; do earshot run $RECIPE --data DIR --store STORE; done
    python benchmarks/systems.py STORE RECIPE...

Prints a Markdown table from the newest finished run of each recipe; what a run does not hold is a dash.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
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


def line(run: dict[str, Any]) -> tuple[str, ...]:
    """The cells of a run's line."""
    recipe = run["recipe"]
    found = {
        (row["row"], one["metric"]): one
        for row in run["rows"]
        for one in row["measurements"]
        if one.get("group") is None and one.get("variant") in (None, row["row"].rpartition(":")[2])
    }

    def value(row: str, metric: str, digits: int) -> str:
        one = found.get((row, metric))
        return "-" if one is None else f"{one['value']:.{digits}f}"

    def both(metric: str, digits: int) -> str:
        return " / ".join(value(row, metric, digits) for row in ("noisy", "teacher", FLOAT, INT8))

    def difference(form: str, metric: str, digits: int) -> str:
        pair = [found.get((row, metric)) for row in (form, FLOAT)]
        return "-" if None in pair else f"{pair[0]['value'] - pair[1]['value']:+.{digits}f}"  # type: ignore[index]

    teacher, distill = recipe["teacher"], recipe["distill"]
    how = distill["method"] if not distill["online"] else f"online {', '.join(distill['online']['metrics'])}"
    who = f"{recipe['student']['network']} ← {teacher['network'] if teacher else 'none'}, {how}"
    thousand = [found.get((row, "parameters")) for row in ("distill", "teacher")]
    return (
        recipe["name"],
        who,
        " of ".join(f"{one['value'] / 1000:.1f}" for one in thousand if one),
        f"{found['distill', 'macs_per_second']['value'] / 1e6:.1f}",
        value("distill", "algorithmic_latency_ms", 0),
        str(found[FLOAT, "si_sdr"]["n"]),
        both("pesq_wb", 2),
        both("stoi", 3),
        both("si_sdr", 2),
        *(f"{difference(form, 'pesq_wb', 3)}, {difference(form, 'si_sdr', 2)}" for form in (INT8, WIDE)),
        value(INT8, "rtf", 4),
    )


def main(arguments: Sequence[str]) -> None:
    """Prints the table."""
    if len(arguments) < 2:
        sys.exit(__doc__)
    store, *recipes = arguments
    print(f"| {' | '.join(HEADER)} |\n|{' --- |' * len(HEADER)}")
    for recipe in recipes:
        print(f"| {' | '.join(line(newest(Path(store), recipe)))} |")


if __name__ == "__main__":
    main(sys.argv[1:])
