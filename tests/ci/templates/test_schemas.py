"""Templates against the public schemas of GitHub, GitLab and pre-commit, as check-jsonschema brings them."""

import re
import subprocess

import pytest
from ci_job import ACTION, GITLAB, HOOKS, ROOT, SAMPLE, tool

FILES = [
    ("vendor.github-actions", ACTION, ("runs:", "walks:")),
    ("vendor.github-workflows", SAMPLE / ".github" / "workflows" / "earshot.yml", ("runs-on:", "walks-on:")),
    ("vendor.github-workflows", ROOT / ".github" / "workflows" / "ci.yml", ("runs-on:", "walks-on:")),
    ("vendor.gitlab-ci", GITLAB, ("when: always", "when: mostly")),
]


def valid(schema, path):
    done = subprocess.run(
        [tool("check-jsonschema"), "--builtin-schema", schema, str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode in {0, 1}, done.stderr
    return done.returncode == 0


@pytest.mark.parametrize(("schema", "path", "harm"), FILES, ids=lambda one: getattr(one, "name", None))
def test_a_template_keeps_its_schema_and_a_broken_one_does_not(schema, path, harm, tmp_path):
    # The schema of GitLab passes over hidden jobs; shown, they are looked at.
    text = re.sub(r"(?m)^(  extends: )?\.(?=earshot)", r"\1", path.read_text())
    whole, broken = tmp_path / f"whole-{path.name}", tmp_path / f"broken-{path.name}"
    whole.write_text(text)
    broken.write_text(text.replace(*harm))
    assert broken.read_text() != text
    assert valid(schema, whole)
    assert not valid(schema, broken)


def test_hooks_keep_pre_commits_own_schema(tmp_path):
    def kept(command, path):
        return subprocess.run([tool("pre-commit"), command, path], capture_output=True, check=False).returncode == 0

    assert kept("validate-manifest", HOOKS)
    assert kept("validate-config", SAMPLE / ".pre-commit-config.yaml")
    (tmp_path / "hooks.yaml").write_text(HOOKS.read_text().replace("entry:", "entrance:"))
    assert not kept("validate-manifest", tmp_path / "hooks.yaml")
