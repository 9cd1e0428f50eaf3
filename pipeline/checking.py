"""Whether a file that a person or a merge may have harmed still reads: recipes, studies, budgets, baselines and runs.

Nothing is executed and nothing heavy imported: what a hook looks at before each commit.
"""

from __future__ import annotations

import os
from pathlib import Path

from earshot.ci.budget_set import load_budgets
from earshot.ci.evidence import SCHEMA as BASELINE
from earshot.ci.evidence import parse_baseline
from earshot.ci.run_file import parse_run, read_json
from earshot.core.config import load_yaml, parse
from earshot.core.errors import ConfigError
from earshot.pipeline.overrides import expand_variables
from earshot.pipeline.recipe import DATA_VARIABLE, load_recipe
from earshot.pipeline.study.config import Study

YAML, JSON = (".yaml", ".yml"), ".json"


def check_file(path: Path) -> str:
    """Reads a file strictly, as the command it is meant for reads it.

    A YAML file with `schema` holds budgets, one with `students` a study, any other a recipe; a JSON file is a baseline
    or a run. Variables have to be set, all but EARSHOT_DATA: data need not be there to judge a recipe.

    Returns:
        What the file is.

    Raises:
        ConfigError: a mistake in a YAML file, or a file of another ending.
        ArtifactError: a baseline or a run that is missing, damaged, edited or of another schema.
    """
    if path.suffix == JSON:
        return _check_json(path)
    if path.suffix not in YAML:
        raise ConfigError(f"{path}: neither YAML nor JSON", f"give a file that ends in {', '.join((*YAML, JSON))}")
    content = load_yaml(path)
    environment = {DATA_VARIABLE: DATA_VARIABLE, **os.environ}
    if "schema" in content:
        return f"{len(load_budgets(path).resolved())} budgets"
    if "students" in content:
        study = parse(Study, dict(expand_variables(content, environment)), str(path))
        return f"study {study.name}"
    return f"recipe {load_recipe(str(path), environment=environment).name}"


def _check_json(path: Path) -> str:
    value = read_json(path, "run or baseline", "write one with: earshot baseline RUN FILE")
    if isinstance(value, dict) and str(value.get("schema")).startswith(BASELINE.partition("/")[0]):
        return f"baseline, {parse_baseline(value, path).run}"
    return f"run {parse_run(value, str(path)).name}"
