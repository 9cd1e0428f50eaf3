"""One real run of a tiny recipe, shared by the tests that start from a finished store."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # `tiny_recipe`, in spawned processes too


@dataclass(frozen=True)
class Finished:
    """A folder with `tiny.yaml` and the store its run filled, and how that run ended."""

    folder: Path
    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    from tiny_recipe import earshot, write_recipe

    folder = tmp_path_factory.mktemp("finished")
    write_recipe(folder)
    done = earshot(folder, "run", "tiny.yaml", "--quiet")
    return Finished(folder, done.returncode, done.stdout, done.stderr)
