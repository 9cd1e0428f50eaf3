"""The hook under the real pre-commit, in a real repository; only where it is fetched from is a folder here."""

import shutil
import subprocess

import pytest
from ci_job import HOOKS, SAMPLE, environment, tool


@pytest.fixture
def repository(tmp_path):
    """A team's repository with the hook set up, and a function that commits a file through it."""
    quiet = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1", "PRE_COMMIT_HOME": str(tmp_path / "home")}
    quiet |= {f"GIT_{who}_{what}": "t@localhost" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}

    def run(*command, cwd):
        return subprocess.run(
            command, cwd=cwd, env=environment(**quiet), capture_output=True, text=True, check=False, timeout=120
        )

    source, team = tmp_path / "earshot", tmp_path / "team"
    for place in (source, team):
        place.mkdir()
        run("git", "init", "--quiet", cwd=place)
    shutil.copy(HOOKS, source)
    run("git", "add", ".", cwd=source)
    run("git", "commit", "--quiet", "--message", "hooks", cwd=source)
    revision = run("git", "rev-parse", "HEAD", cwd=source).stdout.strip()
    config = (SAMPLE / ".pre-commit-config.yaml").read_text()
    config = config.replace("https://github.com/OWNER/earshot", str(source)).replace("v0.1.0", revision)
    (team / ".pre-commit-config.yaml").write_text(config)
    assert run(tool("pre-commit"), "install", cwd=team).returncode == 0

    def commit(name, text):
        path = team / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        run("git", "add", ".", cwd=team)
        return run("git", "commit", "--message", f"change {name}", cwd=team)

    return commit


def test_a_commit_goes_through_until_a_file_is_wrong(repository, team):
    recipe = (SAMPLE / "recipe.yaml").read_text()
    done = repository("recipe.yaml", recipe)
    assert done.returncode == 0, done.stderr
    assert "Passed" in done.stderr
    assert repository("budgets.yaml", (SAMPLE / "budgets.yaml").read_text()).returncode == 0
    done = repository("recipe.yaml", recipe.replace("prune:", "pruune:"))
    assert done.returncode == 1
    assert "pruune" in done.stderr
    assert repository("recipe.yaml", recipe.replace("ratio: 0.2", "ratio: 0.3")).returncode == 0

    baseline = (team / "main.json").read_text()
    assert repository("baselines/main.json", baseline).returncode == 0
    done = repository("baselines/main.json", baseline.replace('"n": 2', '"n": 200'))
    assert done.returncode == 1
    assert "does not match its digest" in done.stderr


def test_other_files_are_none_of_its_business(repository):
    done = repository("package.json", "{}")
    assert done.returncode == 0
    assert "no files to check" in done.stderr
