"""What set-up installs is what the lock says, and what only the system can bring is asked for by its package's name."""

import os
import re
import shutil
import subprocess
import tomllib
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / ".ci" / "tools"


@pytest.fixture(scope="module")
def lock():
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    return [line for line in lines if not line.startswith("#")]


@pytest.fixture(scope="module")
def pins(lock):
    return {canonicalize_name(name): version for name, version in (line.split("==") for line in lock)}


@pytest.fixture(scope="module")
def requirements():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [Requirement(text) for text in [*project["dependencies"], *project["optional-dependencies"]["dev"]]]


def reached(requirements):
    """Names of all distributions that requirements lead to, as the installed ones declare them."""
    found, waiting = {}, list(requirements)
    while waiting:
        requirement = waiting.pop()
        name, extras = canonicalize_name(requirement.name), requirement.extras or {""}
        if extras <= found.setdefault(name, set()):
            continue
        found[name] |= extras
        declared = [Requirement(text) for text in distribution(name).requires or []]
        waiting += [r for r in declared if not r.marker or any(r.marker.evaluate({"extra": e}) for e in extras | {""})]
    return set(found)


def test_the_lock_is_a_constraint_file(lock):
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", line) for line in lock)
    assert lock == sorted(lock, key=str.upper)
    assert len(lock) > 50


def test_the_lock_fits_the_ranges_of_the_project(pins, requirements):
    def unfit(versions):
        return [str(r) for r in requirements if not r.specifier.contains(versions.get(canonicalize_name(r.name), "0"))]

    assert unfit(pins) == []
    assert unfit(pins | {"torch": "2.14.0"}) == ["torch<2.14,>=2.13"]  # negative control
    assert {canonicalize_name(r.name) for r in requirements} <= set(pins)


def test_the_lock_names_all_that_is_installed_and_nothing_else(pins, requirements):
    names = reached(requirements)
    assert {"jax", "markupsafe"} <= names  # brought by others, at more than one remove
    platform = {name for name in names if re.match(r"(nvidia-|triton$|cuda-)", name)}  # torch pins its own
    assert names - platform == set(pins)


# ---- system tools


def run_tools(path, **environment):
    return subprocess.run(
        ["/bin/sh", TOOLS], env={"PATH": str(path), **environment}, capture_output=True, text=True, check=False
    )


@pytest.fixture
def bare(tmp_path):
    """A PATH that holds Python and nothing else."""
    real = subprocess.run(
        ["python3", "-c", "import sys; print(sys._base_executable)"], capture_output=True, text=True, check=True
    )
    wrapper = tmp_path / "python3"
    wrapper.write_text(f'#!/bin/sh\nexec "{real.stdout.strip()}" "$@"\n')
    wrapper.chmod(0o755)
    return tmp_path


def test_a_whole_machine_names_its_python():
    done = run_tools(os.environ["PATH"])
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip().startswith("python3")


def test_missing_compiler_is_named_with_its_package(bare):
    done = run_tools(bare)
    assert done.returncode != 0 and done.stdout == ""
    assert (
        done.stderr == "missing: a C compiler (pesq is built from source). Install it: apt-get install gcc libc6-dev\n"
    )


def test_missing_headers_are_named(bare):
    (bare / "gcc").write_text("#!/bin/sh\nexit 1\n")
    (bare / "gcc").chmod(0o755)
    assert "apt-get install libc6-dev" in run_tools(bare).stderr


def test_missing_python_is_named(tmp_path):
    done = run_tools(tmp_path)
    assert "missing: Python 3.11 or 3.12. Install it: apt-get install python3.11 " in done.stderr
    assert "C compiler" in done.stderr  # everything missing is said at once


def test_another_python_is_not_taken(bare):
    for name in ("python3", "python3.11"):
        (bare / name).write_text("#!/bin/sh\nexit 1\n")  # as an older one answers
        (bare / name).chmod(0o755)
    assert "missing: Python 3.11 or 3.12" in run_tools(bare).stderr
    assert "(PYTHON=mine is neither)" in run_tools(bare, PYTHON="mine").stderr


def test_missing_modules_of_python_are_named(bare):
    (bare / "python3").write_text(
        "#!/bin/sh\ncase $2 in *ensurepip*) exit 1;; *'include'*) echo /nowhere;; *print*) echo python3.11;; esac\n"
    )
    done = run_tools(bare)
    assert "apt-get install python3.11-venv" in done.stderr
    assert "apt-get install python3.11-dev" in done.stderr


def test_nothing_is_downloaded_when_a_tool_is_missing(bare, tmp_path_factory):
    checkout = tmp_path_factory.mktemp("checkout")
    for name in ("Makefile", "pyproject.toml", "requirements.lock", ".ci/tools"):
        (checkout / name).parent.mkdir(exist_ok=True)
        shutil.copy2(ROOT / name, checkout / name)
    make = shutil.which("make")
    done = subprocess.run(
        [make, "setup"], cwd=checkout, env={"PATH": str(bare)}, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "apt-get install gcc" in done.stderr
    assert not (checkout / ".venv").exists()
