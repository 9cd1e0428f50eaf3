"""The table of systems, from runs that lack something and runs on several targets."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture(scope="module")
def systems() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "systems.py"
    spec = importlib.util.spec_from_file_location("systems", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def measured(metric: str, value: float | None, **more: Any) -> dict[str, Any]:
    return {"metric": metric, "value": value, "n": 12, **more}


def run(**rows: list[dict[str, Any]]) -> dict[str, Any]:
    names = {"float32": "convert:float32", "int8": "convert:int8"}
    return {
        "recipe": {
            "name": "mine",
            "teacher": None,
            "student": {"network": "dae_unet"},
            "distill": {"method": "none", "online": None},
        },
        "rows": [{"row": names.get(name, name), "measurements": found} for name, found in rows.items()],
    }


def cells(systems: ModuleType, run: dict[str, Any], **given: Any) -> dict[str, str]:
    return dict(zip(systems.HEADER, systems.line(run, **given), strict=True))


def test_the_real_time_factor_is_that_of_one_target(systems: ModuleType) -> None:
    factors = [measured("rtf", 0.01, target="host"), measured("rtf", 0.5, target="pi")]
    for order in (factors, factors[::-1]):
        found = run(int8=[*order, measured("pesq_wb", 2.5, group="quiet")])
        assert cells(systems, found)["RTF int8"] == "0.0100"
        assert cells(systems, found, target="pi")["RTF int8"] == "0.5000"
        assert cells(systems, found, target="phone")["RTF int8"] == "-"


def test_what_a_run_does_not_hold_is_a_dash(systems: ModuleType) -> None:
    found = run(
        distill=[measured("parameters", 1500)], float32=[measured("pesq_wb", 2.0)], int8=[measured("stoi", None)]
    )
    line = cells(systems, found)
    assert line["parameters (k)"] == "1.5"
    assert line["clips"] == "12"
    assert line["PESQ noisy / teacher / float / int8"] == "- / - / 2.00 / -"
    assert {line[name] for name in ("MAC/s (M)", "latency (ms)", "RTF int8")} == {"-"}
    assert line["int8 - float: PESQ, SI-SDR"] == "-, -"
    whole = run(float32=[measured("pesq_wb", 2.0)], int8=[measured("pesq_wb", 1.75)])
    assert cells(systems, whole)["int8 - float: PESQ, SI-SDR"] == "-0.250, -"
