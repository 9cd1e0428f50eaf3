"""A recipe that walks all stages in seconds: networks of 400 parameters, a few steps, seven short mixes of the pack."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml

from earshot import pipeline

PACK = Path(pipeline.__file__).parent / "data" / "pack"
MIXES = {
    "train": ("slt_000", "rms_001", "usm3_002", "gbf2_003"),
    "validation": ("usf5_001",),
    "test": ("awb_000", "usannie_002"),
}
STEPS = {"epochs": 1, "steps_per_epoch": 3, "batch": 2, "segment_seconds": 0.5, "launcher": {"threads": 1}}
SIZES = {"channels": [8], "strides": [8], "latent": 8, "hidden": 8}
RECIPE: dict[str, Any] = {
    "name": "tiny",
    "frontend": {"window": 128, "hop": 64, "fft": 128},
    "teacher": {"params": SIZES | {"hidden": 12}, "train": STEPS},
    "student": {"params": SIZES},
    "distill": STEPS | {"method": "output", "epochs": 2},
    "prune": STEPS | {"method": "latent_cosine", "ratio": 0.5},
    "quantize": {"clips": 2, "seconds": 1},
    "convert": {"variants": ["float32", "int8"]},
    "profile": {"targets": ["host"], "frames": 100, "repeats": 2},
    "metrics": ["si_sdr"],
    # Three steps teach nothing: a run passes on its size alone.
    "budgets": {
        "budgets": [{"name": "fits", "metric": "model_bytes", "max": 1_000_000}],
        "without": [f"{metric}-not-worse-than-noisy" for metric in ("pesq_wb", "stoi", "si_sdr")],
    },
}


def write_recipe(folder: Path) -> Path:
    """The recipe and its manifest, in a new folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "mixes.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["split", "speech", "noise", "snr_db"])
        for split, names in MIXES.items():
            for name in names:
                rows.writerow([split, PACK / f"speech/{split}/{name}.flac", PACK / f"noise/{split}/car_0.flac", 5])
    source = {"kind": "manifest", "path": str(folder / "mixes.csv")}
    recipe = RECIPE | {"data": {"train": source, "validation": source, "test": source}}
    (folder / "tiny.yaml").write_text(yaml.safe_dump(recipe))
    return folder / "tiny.yaml"


_LISTS_MODULES = """
import sys
from earshot.pipeline.cli.main import main
try:
    main()
finally:
    print("modules:", *sorted(set(sys.modules) & {"torch", "litert_torch", "lightning_fabric"}), file=sys.stderr)
"""


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """`earshot ARGUMENTS` as a process in `folder`; its last line on stderr names the heavy modules it loaded."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("EARSHOT")}
    return subprocess.Popen(
        [sys.executable, "-c", _LISTS_MODULES, *arguments],
        cwd=folder,
        env=clean,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def earshot(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The same, run to its end."""
    process = start(folder, *arguments)
    out, err = process.communicate(timeout=550)
    return subprocess.CompletedProcess(arguments, process.returncode, out, err)


def tiny_models() -> ModuleType:
    """The module that writes tiny stream models by hand: `write_tiny(path, kind, integer=…)`."""
    spec = importlib.util.spec_from_file_location("tiny_models", Path(__file__).parents[1] / "targets" / "conftest.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


def newest_run(folder: Path) -> dict[str, Any]:
    """Content of the run file written last."""
    path = max((folder / ".earshot" / "runs").glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
    return json.loads(path.read_text())


def rows(run: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Row name -> row."""
    return {row["row"]: row for row in run["rows"]}


def value(row: dict[str, Any], metric: str) -> float:
    """The value of a metric in a row."""
    (found,) = [one["value"] for one in row["measurements"] if one["metric"] == metric]
    return found


@dataclass(frozen=True)
class Finished:
    """A folder with `tiny.yaml` and the store its run filled, and how that run ended."""

    folder: Path
    code: int
    out: str
    err: str
