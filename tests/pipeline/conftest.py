"""One real run of a tiny recipe, shared by the tests that start from a finished store."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # `tiny_recipe`, in spawned processes too

from tiny_recipe import Finished, earshot, write_recipe


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("finished")
    write_recipe(folder)
    done = earshot(folder, "run", "tiny.yaml", "--quiet")
    return Finished(folder, done.returncode, done.stdout, done.stderr)
