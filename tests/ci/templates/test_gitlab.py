"""The GitLab job: its script run as the runner runs it, on a real store."""

import re
import xml.etree.ElementTree as ElementTree

import pytest
import yaml
from ci_job import GITLAB, ROOT, read_yaml, run_script

CI = {"CI_COMMIT_REF_SLUG": "smaller", "CI_DEFAULT_BRANCH": "main", "CI": "true", "GITLAB_CI": "true"}


@pytest.fixture(scope="module")
def jobs():
    return read_yaml(GITLAB)


def run_job(job, folder, **variables):
    """GitLab's runner hands the lines of a script to one shell that stops at the first failure."""
    settings = CI | job["variables"] | {"EARSHOT_CI": str(ROOT / "ci")} | variables
    return run_script(["sh", "-ec", "\n".join(job["script"])], folder, settings)


def test_the_exit_code_of_the_gate_is_the_jobs(jobs, folder):
    assert run_job(jobs[".earshot"], folder, GATE_BUDGETS="kept.yaml", GATE_BASELINE="main.json").returncode == 0
    assert run_job(jobs[".earshot"], folder, GATE_BUDGETS="missed.yaml").returncode == 1


def test_reports_lie_where_gitlab_looks_for_them(jobs, folder):
    run_job(jobs[".earshot"], folder, GATE_BUDGETS="missed.yaml")
    artifacts = jobs[".earshot"]["artifacts"]
    assert ElementTree.parse(folder / artifacts["reports"]["junit"]).findall(".//failure")
    assert [(folder / path / "gate.html").is_file() for path in artifacts["paths"]] == [True]
    assert artifacts["when"] == "always"
    assert [(folder / path / "runs").is_dir() for path in jobs[".earshot"]["cache"]["paths"]] == [True]


def test_the_main_branch_writes_a_baseline(jobs, folder):
    job = jobs[".earshot"] | jobs[".earshot-baseline"]
    job["variables"] = jobs[".earshot"]["variables"] | jobs[".earshot-baseline"]["variables"]
    assert jobs[".earshot-baseline"]["extends"] == ".earshot"
    assert run_job(job, folder, GATE_BUDGETS="kept.yaml").returncode == 0
    assert (folder / "earshot-reports" / "baseline.json").is_file()


def test_the_documented_project_sets_every_variable_it_names(jobs):
    """A job's variables win over those at the top of a project's file, which win over those of what it includes."""
    (text,) = re.findall(r"^include:\n.*?(?=^```)", (ROOT / "docs" / "ci.md").read_text(), re.MULTILINE | re.DOTALL)
    project = yaml.safe_load(text)
    for job in (project["gate"], project["baseline"]):
        template = jobs[job["extends"]]
        chain = [jobs[template["extends"]], template] if "extends" in template else [template]
        settings = jobs["variables"] | project["variables"]
        for one in chain:
            settings |= one["variables"]
        assert project["variables"].items() <= settings.items()
    assert jobs["variables"]["EARSHOT_IMAGE"] != project["variables"]["EARSHOT_IMAGE"]


def test_the_image_brings_the_script_and_a_shell(jobs):
    dockerfile = (ROOT / "ci" / "Dockerfile").read_text()
    assert jobs[".earshot"]["image"] == {"name": "$EARSHOT_IMAGE", "entrypoint": [""]}
    (line,) = jobs[".earshot"]["script"]
    place = re.search(r"\$\{EARSHOT_CI:-(/[a-z/]+)\}(/[a-z/.]+)", line)
    root, folder = place[1].rsplit("/", 1)
    assert f"WORKDIR {root}\n" in dockerfile and "COPY . ./" in dockerfile
    assert f"!{folder}" in (ROOT / ".dockerignore").read_text().splitlines()
    assert (ROOT / folder / place[2].lstrip("/")).is_file()
