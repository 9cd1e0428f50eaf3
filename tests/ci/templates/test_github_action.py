"""The GitHub action: its steps run as scripts with the environment GitHub gives, on a real store."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ci_job import ACTION, GATE, HOSTILE, ROOT, SAMPLE, GitHubJob, environment, read_yaml, substituted

DOCUMENTED = set(re.findall(r"^#   (GATE_[A-Z]+) ", GATE.read_text(), re.MULTILINE))


def test_a_kept_gate_is_a_green_job(folder):
    job = GitHubJob(folder, budgets="kept.yaml", baseline="main.json")
    done = job.step("Gate")
    assert done.returncode == 0, done.stderr
    assert job.outputs == {"exit-code": "0"}
    assert job.summary == (folder / "earshot-reports" / "gate.md").read_text()
    assert "::error" not in done.stdout


def test_a_missed_budget_is_a_red_job_with_annotation_and_summary(folder):
    job = GitHubJob(folder, budgets="missed.yaml", reports="my reports")
    done = job.step("Gate")
    assert done.returncode == 1
    assert job.outputs == {"exit-code": "1"}
    assert (
        done.stdout.count("::error title=earshot%3A tiny::") + done.stdout.count("::error title=earshot: tiny::") == 1
    )
    assert "❌ fail" in job.summary and "tiny" in job.summary
    assert substituted(job.content["outputs"]["reports"]["value"], job.known) == "./my reports"
    assert (folder / "my reports" / "gate.html").is_file()


def test_a_wrong_request_says_so_on_the_summary(folder):
    job = GitHubJob(folder, recipe="absent.yaml")
    done = job.step("Gate")
    assert done.returncode == 2
    assert job.outputs == {"exit-code": "2"}
    assert "no verdict (exit code 2)" in job.summary


def test_it_works_in_a_folder_of_the_repository(folder):
    (folder / "models").mkdir()
    for path in list(folder.iterdir()):
        if path.name != "models":
            path.rename(folder / "models" / path.name)
    job = GitHubJob(folder, directory="models", budgets="kept.yaml", publish="true")
    assert job.step("Gate").returncode == 0
    baseline = substituted(job.content["outputs"]["baseline"]["value"], job.known)
    assert (folder / baseline).is_file()


@pytest.mark.parametrize(("name", "code"), [("recipe", 2), ("reports", 1)])
def test_an_input_is_never_a_command(folder, name, code):
    done = GitHubJob(folder, **{"budgets": "missed.yaml", name: HOSTILE}).step("Gate")
    assert done.returncode == code, done.stderr
    assert not list(folder.rglob("pwned"))


def test_every_variable_of_the_shell_recipe_is_an_input():
    steps = read_yaml(ACTION)["runs"]["steps"]
    (gate,) = [step for step in steps if step.get("id") == "gate"]
    assert len(DOCUMENTED) == 11
    assert set(gate["env"]) == DOCUMENTED
    used = set(re.findall(r"\$\{([A-Z_]+)[:}]|\$([A-Z_]+)\b", GATE.read_text()))
    assert {name for pair in used for name in pair if name.startswith("GATE_")} == DOCUMENTED


def test_expressions_stay_out_of_scripts_and_every_input_is_used():
    """An expression in a script is text that becomes a command; in `env:` it stays text."""
    content = read_yaml(ACTION)
    scripts = [step["run"] for step in content["runs"]["steps"] if "run" in step]
    assert len(scripts) == 2
    assert not [script for script in scripts if "${{" in script]
    assert set(re.findall(r"inputs\.([a-z-]+)", ACTION.read_text())) == set(content["inputs"])
    assert all(step["shell"] == "bash" for step in content["runs"]["steps"] if "run" in step)


def test_reports_are_kept_whatever_happens():
    (keeps,) = [step for step in read_yaml(ACTION)["runs"]["steps"] if "upload-artifact" in step.get("uses", "")]
    assert keeps["if"] == "always()"


# ---- installing, by the real pip, without a network: what earshot needs is on the path already


@pytest.fixture
def checkout(tmp_path):
    """What GitHub fetches for `uses:`: the repository at a ref."""
    place = tmp_path / "checkout"
    ignored = shutil.ignore_patterns(".*", "tests", "docs", "build", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT, place, ignore=ignored)
    return place


@pytest.fixture
def python(tmp_path):
    """A Python of a job, with this environment's libraries behind its own, pip and setuptools among them."""
    place = tmp_path / "python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place], check=True)
    (folder,) = place.glob("lib/python*/site-packages")
    libraries = next(path for path in sys.path if path.endswith("site-packages"))
    (folder / "behind.pth").write_text(f"{libraries}\n")
    return place


def install(checkout, python, tmp_path, **inputs):
    (tmp_path / "job").mkdir(exist_ok=True)
    job = GitHubJob(tmp_path / "job", checkout / "ci" / "github" / "action.yml", **inputs)
    path = f"{python / 'bin'}:{environment()['PATH']}"
    return job.step("Install earshot", PATH=path, PIP_NO_INDEX="1", PIP_NO_BUILD_ISOLATION="0", PYTHONPATH="")


@pytest.mark.slow
def test_the_action_installs_its_own_version_within_the_lock(checkout, python, tmp_path):
    done = install(checkout, python, tmp_path)
    assert done.returncode == 0, done.stderr
    (found,) = python.glob("lib/python*/site-packages/earshot/ci/gate.py")
    assert found.is_file() and (python / "bin" / "earshot").is_file()

    lock = checkout / "requirements.lock"
    lock.write_text(re.sub(r"^click==.*$", "click==0.1", lock.read_text(), flags=re.MULTILINE))
    done = install(checkout, python, tmp_path)
    assert done.returncode != 0  # negative control: the lock binds
    assert "(constraint) click==0.1" in done.stdout


@pytest.mark.parametrize("inputs", [{"earshot": HOSTILE}, {"extras": HOSTILE}, {"earshot": "--help"}])
def test_what_to_install_is_no_command(tmp_path, inputs, python):
    place = tmp_path / "checkout" / "ci" / "github"
    place.mkdir(parents=True)
    shutil.copy(ACTION, place)
    shutil.copy(ROOT / "requirements.lock", tmp_path / "checkout")
    done = install(tmp_path / "checkout", python, tmp_path, **inputs)
    assert done.returncode != 0
    assert "Usage:" not in done.stdout
    assert not list(tmp_path.rglob("pwned"))


# ---- the workflow of the sample repository


def test_the_sample_uses_the_action_as_it_is():
    workflow = read_yaml(SAMPLE / ".github" / "workflows" / "earshot.yml")
    known = set(read_yaml(ACTION)["inputs"])
    uses = [
        step
        for job in workflow["jobs"].values()
        for step in job["steps"]
        if "earshot/ci/github@" in step.get("uses", "")
    ]
    assert len(uses) == 2
    for step in uses:
        assert set(step["with"]) <= known
        assert (SAMPLE / step["with"]["budgets"]).is_file()
    assert workflow["permissions"] == {"contents": "read"}
    assert workflow["jobs"]["gate"].get("permissions") is None
    assert set(workflow[True]) == {"pull_request", "push"}  # YAML 1.1 reads the key `on` as true


def test_the_new_baseline_goes_to_git(tmp_path):
    workflow = read_yaml(SAMPLE / ".github" / "workflows" / "earshot.yml")
    (script,) = [step["run"] for step in workflow["jobs"]["baseline"]["steps"] if "run" in step]
    origin, clone = tmp_path / "origin.git", tmp_path / "clone"
    quiet = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1", "HOME": str(tmp_path)}

    def git(*arguments: str, cwd: Path = clone) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=cwd, env=environment(**quiet), capture_output=True, text=True, check=True
        )
        return done.stdout

    git("init", "--quiet", "--bare", "--initial-branch=main", str(origin), cwd=tmp_path)
    git("clone", "--quiet", str(origin), str(clone), cwd=tmp_path)
    git("checkout", "--quiet", "-b", "main")
    git("-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "--quiet", "--allow-empty", "--message", "first")
    git("push", "--quiet", "--set-upstream", "origin", "main")
    other = tmp_path / "other"
    git("clone", "--quiet", str(origin), str(other), cwd=tmp_path)
    (other / "README").write_text("merged while the gate ran\n")
    git("add", ".", cwd=other)
    git("-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "--quiet", "--message", "second", cwd=other)
    git("push", "--quiet", cwd=other)
    (clone / "reports").mkdir()
    (clone / "reports" / "baseline.json").write_text("{}\n")
    done = subprocess.run(
        ["bash", "-eo", "pipefail", "-c", script], cwd=clone, capture_output=True, text=True, check=False,
        env=environment(**quiet, BASELINE="./reports/baseline.json", GITHUB_SHA="0123abc"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert git("show", "main:baselines/main.json", cwd=origin) == "{}\n"
    assert git("log", "--format=%s", "main", cwd=origin).split("\n")[:2] == ["Baseline of 0123abc", "second"]
