"""The versions that a manifest holds: of every library that scores, and no part of the identity."""

from __future__ import annotations

import ast
import importlib.metadata
import sys
from pathlib import Path

import pytest

import earshot.pipeline.metrics
from earshot.pipeline import manifest
from earshot.pipeline.manifest import describe, library_versions

METRICS = Path(str(earshot.pipeline.metrics.__file__)).parent


def imported(source: str) -> set[str]:
    """Packages that are neither Python's nor earshot's."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found - sys.stdlib_module_names - {"earshot"}


def test_every_library_that_scores_is_named_with_its_version() -> None:
    scoring = set().union(*(imported(path.read_text()) for path in METRICS.glob("*.py"))) - {"pydantic"}
    assert {"pesq", "pystoi"} <= scoring
    versions = library_versions()
    for library in {*scoring, "soxr"}:
        assert versions[library] == importlib.metadata.version(library)


def test_versions_are_no_part_of_the_identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def made() -> manifest.Manifest:
        return describe(tmp_path, "quality", 1, config={"row": "noisy"}, inputs={}, seed=0, measurements=[])

    now = made()
    monkeypatch.setattr(manifest, "LIBRARIES", ("earshot",))
    before = made()
    assert set(before.versions) == {"python", "earshot"} < set(now.versions)
    assert (before.id, before.digest) == (now.id, now.digest)
