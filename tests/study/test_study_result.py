"""Statistics against values computed by hand, and the texts made of them."""

from __future__ import annotations

import csv
import io
import math

import numpy as np
import pytest
from tiny_study import STUDY

from earshot.ci.statistics import bootstrap_mean
from earshot.core.errors import ToolError
from earshot.pipeline.metrics.results import ClipScore, Evaluation
from earshot.pipeline.study.cells import Arm
from earshot.pipeline.study.config import Study
from earshot.pipeline.study.report import to_csv, to_html, to_markdown
from earshot.pipeline.study.result import Failed, Result, difference, line

TAUGHT, ALONE = Arm("wide", "narrow", "output"), Arm("none", "narrow", "none")
T_2 = 4.302652729911275  # Student's t, 97.5 %, 2 degrees of freedom (any table)


def evaluation(**values: float) -> Evaluation:
    clips = tuple(
        ClipScore(id=name, group=name[0], snr_db=None, values={"si_sdr": one}) for name, one in values.items()
    )
    return Evaluation("", "", 16000, {}, {"si_sdr": "dB"}, clips)


def test_mean_and_deviation_are_over_seeds_of_means_over_clips() -> None:
    found = line(ALONE, "si_sdr", "all", {0: evaluation(a1=1, b1=3), 1: evaluation(a1=5, b1=7)}, None)
    assert (found.mean, found.seeds, found.clips, found.unit) == (4, 2, 2, "dB")
    assert found.deviation == pytest.approx(math.sqrt(8))  # of 2 and 6
    assert found.difference is None
    part = line(ALONE, "si_sdr", "b", {0: evaluation(a1=1, b1=3), 1: evaluation(a1=5, b1=7)}, None)
    assert (part.mean, part.clips) == (5, 1)


def test_differences_are_paired_by_seed_and_clip() -> None:
    alone = {seed: evaluation(a1=10 * seed, b1=-3 * seed) for seed in range(3)}
    taught = {seed: evaluation(b1=-3 * seed + gain, a1=10 * seed + gain) for seed, gain in enumerate((1, 2, 3))}
    found = line(TAUGHT, "si_sdr", "all", taught, alone).difference
    assert found is not None
    assert (found.mean, found.seeds, found.clips) == (2, 3, 2)
    half = T_2 * 1 / math.sqrt(3)  # the standard deviation of 1, 2, 3 is 1
    assert found.over_seeds == pytest.approx((2 - half, 2 + half))
    assert found.over_clips == pytest.approx((2, 2))  # every clip gains the same
    # Unpaired, the spread between seeds would drown it: the control that pairing is what finds it.
    assert line(TAUGHT, "si_sdr", "all", taught, None).deviation > 3


def test_only_what_both_scored_is_compared() -> None:
    found = difference([({"a": 2.0, "b": 9.0}, {"a": 1.0})])
    assert found is not None
    assert (found.mean, found.clips, found.over_seeds, found.over_clips) == (1, 1, None, None)
    assert difference([({"a": 1.0}, {"b": 1.0})]) is None
    seeds = {0: evaluation(a1=1), 1: evaluation(a1=2)}
    compared = line(TAUGHT, "si_sdr", "all", seeds, {1: evaluation(a1=0)}).difference
    assert compared is not None
    assert (compared.mean, compared.seeds) == (2, 1)


def test_the_bootstrap_agrees_with_the_normal_interval_on_many_normal_clips() -> None:
    values = np.random.default_rng(3).normal(0.5, 2.0, 400)
    half = 1.96 * values.std(ddof=1) / math.sqrt(400)
    assert bootstrap_mean(values) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.04)
    assert bootstrap_mean(values) == bootstrap_mean(values)


def test_texts_hold_the_numbers_and_the_failures() -> None:
    taught, alone = {s: evaluation(a1=3 + s, b1=3) for s in (0, 1)}, {s: evaluation(a1=1, b1=1) for s in (0, 1)}
    failed = Failed(TAUGHT, 2, ToolError("loss became nan <b>", "lower the rate"))
    lines = (line(ALONE, "si_sdr", "all", alone, None), line(TAUGHT, "si_sdr", "all", taught, alone))
    result = Result(Study.model_validate(STUDY), lines, (failed,))
    first, second = csv.DictReader(io.StringIO(to_csv(result)))
    assert (first["difference"], first["mean"], first["sd"]) == ("", "1.0", "0.0")
    assert (second["teacher"], second["method"], second["difference"], second["paired_seeds"]) == (
        "wide", "output", "2.25", "2",
    )  # fmt: skip
    assert "| narrow | wide | output | 3.250 ± 0.354 | +2.250 |" in to_markdown(result)
    html = to_html(result)
    assert html.count("<circle") >= 1
    assert "+2.250" in html
    for text in (to_markdown(result), html):
        assert "loss became nan" in text
        assert "<b>" not in text
