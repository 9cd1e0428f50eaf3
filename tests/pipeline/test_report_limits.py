"""What a page may take: 10 s and 5 MB for the 120 clips of the development corpus, whatever the sound is."""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import yaml
from tiny_recipe import RECIPE, earshot, tiny_models

from earshot.ci.report.html.run import render
from earshot.ci.run_file import Run
from earshot.ci.run_page import Listening, RunPage
from earshot.core.files import write_json
from earshot.pipeline import listening
from earshot.pipeline.data.base import EvalPair
from earshot.pipeline.data.open import open_test
from earshot.pipeline.metrics.results import ClipScore, Evaluation
from earshot.pipeline.recipe import load_recipe
from earshot.pipeline.runs import write_run
from earshot.pipeline.store import Store

LARGEST_PAGE = 5_000_000
MODELS = {"convert:float32": False, "convert:int8": True}


@pytest.mark.parametrize("rate", [16000, 48000])
def test_a_page_of_as_many_clips_as_it_takes_fits_even_when_they_are_noise(rate, monkeypatch):
    random = np.random.default_rng(0)
    monkeypatch.setattr(listening, "LONGEST_SECONDS", 4.0)  # long enough to be too much
    heard = []
    for index in range(listening.MOST_CLIPS):
        sounds = random.uniform(-1, 1, (4, 4 * rate)).astype(np.float32)
        versions = tuple((name, None, sound) for name, sound in zip("abcd", sounds, strict=True))
        heard.append(listening._Heard(EvalPair(f"clip{index}", "all", None, None), "noise", 9 * rate, versions))
    clips = listening._encoded(heard, type("Scored", (), {"scores": {}}), "", rate)
    assert len(clips) == listening.MOST_CLIPS and 0 < clips[0].seconds < 4
    content = render(RunPage(Run(name="noise", status="complete"), listening=Listening(clips, "noise")))
    assert 0.5 * LARGEST_PAGE < len(content.encode()) < LARGEST_PAGE


@pytest.mark.corpus
@pytest.mark.skipif("EARSHOT_CORPUS" not in os.environ, reason="needs the development corpus (EARSHOT_CORPUS)")
def test_a_report_on_120_clips_takes_less_than_10_s_and_5_mb(tmp_path):
    """Real sound through small real models; the scores are made up, since scoring is no part of a report."""
    corpus = Path(os.environ["EARSHOT_CORPUS"]) / "test_pairs"
    (tmp_path / "pairs.yaml").write_text(
        yaml.safe_dump(RECIPE | {"data": {"test": {"kind": "pairs", "path": str(corpus)}}})
    )
    recipe, store = load_recipe(str(tmp_path / "pairs.yaml")), Store(tmp_path / ".earshot")
    pairs, digest = open_test(recipe.data, recipe.frontend.rate)
    assert len(pairs) == 120
    artifacts, rows = {}, []
    for index, row in enumerate(("noisy", *MODELS)):
        scores = _scores(row, pairs, digest, index)
        artifacts[f"quality of {row}"] = _put(store, row, partial(_write_scores, scores))
        made = artifacts[f"quality of {row}"]
        if row in MODELS:
            name = f"model.{row.rpartition(':')[2]}.tflite"
            integer = MODELS[row]
            made = _put(store, name, lambda out, name=name, integer=integer: tiny_models().write_tiny(
                out / name, "smoother", integer=integer))  # fmt: skip
        found = [{"metric": "pesq_wb", "value": 1.5 + index, "unit": "MOS", "n": 120, "provenance": "measured"}]
        rows.append({"row": row, "stage": row.partition(":")[0], "artifact": made, "measurements": found})
    content = {"schema": "earshot.run/1", "name": "corpus", "recipe": recipe.model_dump(mode="json"), "rows": rows}
    write_run(store, "corpus", content | {"status": "complete", "artifacts": artifacts})
    begun = time.monotonic()
    done = earshot(tmp_path, "report", "corpus", "page.html")
    took = time.monotonic() - begun
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "page.html").read_text()
    assert page.count("<audio") == 3 * 4 and "n = 12<" in page and "(n=120)" in page
    assert len(page.encode()) < LARGEST_PAGE
    assert took < 10


def _scores(row: str, pairs: tuple[EvalPair, ...], digest: str, index: int) -> dict[str, object]:
    random = np.random.default_rng(index)
    clips = tuple(
        ClipScore(pair.id, pair.group, pair.snr_db, {"pesq_wb": float(random.uniform(1, 4))}) for pair in pairs
    )
    return Evaluation(row, digest, 16000, {"pesq_wb": "made up"}, {"pesq_wb": "MOS"}, clips).to_dict()


def _write_scores(scores: dict[str, object], out: Path) -> None:
    write_json(out / "scores.json", scores)


def _put(store: Store, what: str, write) -> str:
    def produce(out: Path, work: Path) -> list:
        write(out)
        return []

    return store.build("quality", 1, config={"what": what, "of": "corpus"}, inputs={}, producer=produce).id
