import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "pipeline")]  # `ci_job`, `tiny_recipe`


@pytest.fixture(scope="session")
def team(tmp_path_factory):
    """A team's folder: a tiny recipe, budgets, and a store with the published run of the main branch."""
    from ci_job import run_gate
    from tiny_recipe import write_recipe

    folder = tmp_path_factory.mktemp("team")
    write_recipe(folder).rename(folder / "recipe.yaml")
    head = "schema: earshot.budgets/1\nwithout: [pesq_wb-not-worse-than-noisy, stoi-not-worse-than-noisy, "
    head += "si_sdr-not-worse-than-noisy]\nbudgets:\n"
    (folder / "kept.yaml").write_text(
        f"{head}  - {{metric: model_bytes, max: 1000000}}\n  - {{metric: si_sdr, relative_to: baseline, max_loss: 0}}\n"
    )
    (folder / "missed.yaml").write_text(f"{head}  - {{name: tiny, metric: model_bytes, max: 10}}\n")
    done = run_gate(folder, GATE_BUDGETS="kept.yaml", GATE_PUBLISH="true", GATE_CACHE=str(folder / "cache"))
    assert done.returncode == 0, done.stderr
    (folder / "main.json").write_bytes((folder / "earshot-reports" / "baseline.json").read_bytes())
    (folder / "earshot-reports").rename(folder / "published")
    return folder


@pytest.fixture
def folder(team, tmp_path):
    """A fresh checkout on the same machine: the team's files, and the store of the runs before."""
    for name in ("recipe.yaml", "kept.yaml", "missed.yaml", "main.json"):
        (tmp_path / name).write_bytes((team / name).read_bytes())
    (tmp_path / ".earshot").symlink_to(team / ".earshot")
    tags = team / ".earshot" / "tags.json"
    kept = tags.read_bytes()
    yield tmp_path
    tags.write_bytes(kept)
