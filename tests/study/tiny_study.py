"""A study of seconds: networks of 400 parameters, three steps each, on seven short mixes of the pack."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from tiny_recipe import RECIPE, SIZES, STEPS, write_recipe

STUDY: dict[str, Any] = {
    "name": "tiny",
    "frontend": RECIPE["frontend"],
    "teachers": {"wide": {"params": SIZES | {"hidden": 12}, "train": STEPS}},
    "students": {"narrow": {"params": SIZES}},
    "methods": {"output": {"method": "output"}, "latent": {"method": "latent_cosine", "weight": 0.1}},
    "seeds": [0, 1],
    "train": STEPS,
    "metrics": ["si_sdr"],
}


def step_count(students: int = 1, methods: int = 2, seeds: int = 2) -> int:
    """Steps of a study with one teacher: scoring the noisy input; training, exporting, scoring all others."""
    return 1 + 3 * (1 + students * (1 + methods) * seeds)


def write_study(folder: Path, **changes: Any) -> Path:
    """The study and its manifest of sounds, in a new folder."""
    data = yaml.safe_load(write_recipe(folder).read_text())["data"]
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(STUDY | {"data": data} | changes))
    return path
