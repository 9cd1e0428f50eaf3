"""The Dockerfile and the workflow name commands, files and packages that exist."""

import json
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
KNOWN = {"FROM", "RUN", "ARG", "ENV", "WORKDIR", "COPY", "USER", "ENTRYPOINT", "CMD"}


def instructions(text):
    """A Dockerfile's instructions as (name, rest), comments dropped and continued lines joined."""
    kept = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    lines = kept.replace("\\\n", " ").splitlines()
    return [tuple(line.strip().split(maxsplit=1)) for line in lines if line.strip()]


@pytest.fixture(scope="module")
def dockerfile():
    return instructions((ROOT / "ci" / "Dockerfile").read_text())


@pytest.fixture(scope="module")
def workflow():
    return yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())


def let_through():
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in lines
    return {line[1:] for line in lines if line.startswith("!")}


def shell_is_sound(script):
    return subprocess.run(["sh", "-n"], input=script, text=True, capture_output=True, check=False).returncode == 0


def test_dockerfile_is_well_formed(dockerfile):
    assert {name for name, _ in dockerfile} <= KNOWN
    assert dockerfile[0] == ("FROM", "python:3.11-slim-bookworm")
    assert all(shell_is_sound(rest) for name, rest in dockerfile if name == "RUN")
    assert not shell_is_sound("if true; do")  # negative control
    assert json.loads(dict(dockerfile)["ENTRYPOINT"]) == ["earshot"]
    assert dict(dockerfile)["USER"] == "earshot"


def test_the_entrypoint_is_a_command_of_the_package():
    assert "earshot" in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]


def test_versions_come_from_the_lock_alone(dockerfile):
    installs = [rest for name, rest in dockerfile if name == "RUN" and "pip install" in rest]
    assert len(installs) == 2
    assert installs[0].endswith(" torch")
    assert all("--constraint requirements.lock" in install and "==" not in install for install in installs)
    assert re.search(r"^torch==2\.13\.0\b", (ROOT / "requirements.lock").read_text(), re.MULTILINE)


def test_the_builder_gets_every_package_and_nothing_else(dockerfile):
    allowed = let_through()
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = {package.split(".")[1] for package in packages if "." in package}
    files = {"__init__.py", "LICENSE", "README.md", "pyproject.toml", "requirements.lock"}
    assert allowed == folders | files
    assert all((ROOT / name).exists() for name in allowed)
    copied = {source for name, rest in dockerfile if name == "COPY" for source in rest.split()[:-1]}
    assert copied <= allowed | {"."}


def test_workflow_uses_targets_that_the_makefile_has(workflow):
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    scripts = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    used = {target for script in scripts for target in re.findall(r"^make ([a-z]+)", script, re.MULTILINE)}
    used |= set(re.findall(r"^make ([a-z]+)", (ROOT / ".ci" / "run").read_text(), re.MULTILINE))
    assert ".ci/run" in " ".join(scripts)
    assert {"setup", "test", "run", "lint"} == used
    assert used <= targets
    assert all(shell_is_sound(script) for script in scripts)


def test_ci_installs_each_program_by_a_package_that_brings_it():
    """The first name of each line is a program, looked for where the packages of that line put it."""
    lines = re.findall(r"^need (\S+) ([a-z0-9. +-]+)", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    assert len(lines) >= 10
    if not shutil.which("dpkg"):
        pytest.skip("only Debian knows which package a program belongs to")
    for program, packages in lines:
        path = shutil.which(program, path=f"/usr/bin:/usr/sbin:{os.environ['PATH']}")
        if path and path.startswith("/usr/"):
            owner = subprocess.run(["dpkg", "-S", path], capture_output=True, text=True, check=False).stdout
            assert not owner or owner.partition(":")[0] in packages.split(), owner


def test_workflow_and_image_agree(workflow, dockerfile):
    systems = [step["run"] for step in workflow["jobs"]["pipeline"]["steps"] if step.get("name") == "System tools"]
    (image,) = [rest for name, rest in dockerfile if name == "RUN" and "apt-get install" in rest]

    def packages(script):
        return set(re.search(r"--yes ([a-z0-9 -]+)", script).group(1).split())

    assert packages(systems[0]) == packages(image) >= {"gcc", "make", "libsndfile1"}
    assert workflow["jobs"]["test"]["steps"][1]["with"]["python-version"] == "3.11"
    assert any("ci/Dockerfile" in step.get("run", "") for step in workflow["jobs"]["image"]["steps"])


def test_workflow_has_least_rights_and_time_limits(workflow):
    assert workflow["permissions"] == {"contents": "read"}
    assert all("timeout-minutes" in job for job in workflow["jobs"].values())
    assert set(workflow[True]) == {"push", "pull_request"}  # YAML 1.1 reads the key `on` as true


@pytest.mark.parametrize(
    ("tools", "required"),
    [(("qemu-system-arm", "arm-none-eabi-gcc"), "1"), (("qemu-system-arm",), ""), (("arm-none-eabi-gcc",), "")],
)
def test_targets_have_to_be_ready_where_their_tools_are(tmp_path, tools, required):
    block = re.search(r"^if command -v qemu-system-arm .*?^fi$", (ROOT / ".ci" / "run").read_text(), re.M | re.S)
    for tool in tools:
        (tmp_path / tool).write_text("#!/bin/sh\n")
        (tmp_path / tool).chmod(0o755)
    script = f'{block[0]}\nprintf "%s" "${{EARSHOT_REQUIRE_TARGETS:-}}"'
    bash = shutil.which("bash")
    done = subprocess.run([bash, "-c", script], env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=True)
    assert done.stdout == required
