"""Scoring in worker processes: what goes wrong costs its clip and metric, and nothing else."""

import multiprocessing
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from scoring_doubles import RATE, MadeClip, Spoiler

from earshot.core.errors import DataError, ModelError, ToolError, UsageError
from earshot.pipeline.enhancers import Passthrough, enhanced_clips
from earshot.pipeline.evaluation import available_cores, evaluate
from earshot.pipeline.metrics.base import Signals
from earshot.pipeline.metrics.registry import METRICS
from earshot.pipeline.metrics.results import Evaluation

CLIPS = [MadeClip("good0", 0), MadeClip("marked", 1, marked=True), MadeClip("good2", 2)]
GOOD = [MadeClip(f"clip{i}", i, snr_db=float(i)) for i in range(3)]


class Counter:
    def __init__(self) -> None:
        self.total, self.steps, self.finished = 0, 0, False

    def start(self, task: str, total: int | None) -> None:
        self.total = total or 0

    def advance(self, steps: int = 1, note: str = "") -> None:
        self.steps += steps

    def finish(self, note: str = "") -> None:
        self.finished = True


def failures(result: Evaluation) -> dict[str, dict[str, str]]:
    return {clip.id: dict(clip.failures) for clip in result.clips if clip.failures}


@pytest.fixture(scope="module")
def all_metrics() -> Evaluation:
    return evaluate(Passthrough(), GOOD, list(METRICS), RATE, workers=2, dataset="abc")


def test_values_are_those_of_the_metrics_called_directly(all_metrics):
    assert [clip.id for clip in all_metrics.clips] == ["clip0", "clip1", "clip2"]
    for clip, row in zip(GOOD, all_metrics.clips, strict=True):
        signals = Signals.checked(*clip.load(), RATE)
        direct = {name: metric.score(signals) for name, metric in METRICS.items()}
        assert row.values == pytest.approx(direct, abs=1e-9)
        assert row.snr_db == clip.snr_db
    assert all(item.n == 3 and item.failed == 0 and item.reason is None for item in all_metrics.measurements())
    assert (all_metrics.enhancer, all_metrics.dataset, all_metrics.rate) == ("noisy", "abc", RATE)
    assert len({row.values["pesq_wb"] for row in all_metrics.clips}) == 3


def test_the_number_of_workers_changes_nothing(all_metrics):
    assert evaluate(Passthrough(), GOOD, list(METRICS), RATE, workers=1, dataset="abc") == all_metrics


def test_a_crash_costs_one_clip_of_one_metric():
    counter = Counter()
    metrics = ["si_sdr", "scoring_doubles:CRASH", "scoring_doubles:RAISE", "scoring_doubles:NAN"]
    result = evaluate(Passthrough(), CLIPS, metrics, RATE, workers=2, progress=counter)
    assert failures(result) == {
        "marked": {
            "scoring_doubles:CRASH": "the worker process died (SIGSEGV)",
            "scoring_doubles:RAISE": "RuntimeError: the library gave up",
            "scoring_doubles:NAN": "the metric is nan",
        }
    }
    crash = result.measurements()[1]
    assert (crash.value, crash.n, crash.failed) == (1.0, 2, 1)
    assert result.measurements()[0].n == 3
    assert (counter.total, counter.steps, counter.finished) == (3, 3, True)


def test_a_crash_with_a_single_worker():
    clips = [*CLIPS, MadeClip("marked again", 3, marked=True)]
    result = evaluate(Passthrough(), clips, ["scoring_doubles:CRASH"], RATE, workers=1)
    assert sorted(failures(result)) == ["marked", "marked again"]
    assert result.measurements()[0].n == 2


def test_a_hang_costs_one_clip_of_one_metric():
    result = evaluate(Passthrough(), CLIPS, ["si_sdr", "scoring_doubles:HANG"], RATE, workers=2, timeout=4)
    assert failures(result) == {"marked": {"scoring_doubles:HANG": "no result within 4 s"}}
    assert result.measurements()[0].n == 3


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("crash", "the worker process died (SIGSEGV)"),
        ("raise", "enhancing failed (RuntimeError: out of frames)"),
        ("short", "unequal lengths: clean 48000, enhanced 47999 samples"),
        ("nan", "the enhanced signal holds NaN or infinity"),
        ("silent", "the enhanced signal is silent"),
    ],
)
def test_a_bad_output_costs_its_clip(how, reason):
    result = evaluate(Spoiler(how), CLIPS, ["si_sdr", "scoring_doubles:NAN"], RATE, workers=1)
    assert failures(result) == {"marked": {"si_sdr": reason, "scoring_doubles:NAN": reason}}
    assert [item.n for item in result.measurements()] == [2, 2]


def test_too_long_for_pesq_is_counted():
    clips = [MadeClip("short", 0), MadeClip("long", 1, seconds=21.0)]
    result = evaluate(Passthrough(), clips, ["pesq_nb", "si_sdr"], RATE, workers=2)
    assert list(failures(result)) == ["long"]
    assert "too long for PESQ" in failures(result)["long"]["pesq_nb"]
    assert result.measurements()[1].n == 2


def test_a_damaged_model_ends_the_evaluation():
    with pytest.raises(ModelError, match="truncated") as caught:
        evaluate(Spoiler("damaged"), CLIPS, ["si_sdr"], RATE, workers=2)
    assert caught.value.hint == "convert it again"
    with pytest.raises(ToolError, match=r"spoiler \(bug\): cannot be opened \(KeyError"):
        evaluate(Spoiler("bug"), CLIPS, ["si_sdr"], RATE, workers=1)


def test_a_damaged_sound_file_ends_the_evaluation():
    with pytest.raises(DataError, match=r"bad\.wav: not a sound file"):
        evaluate(Passthrough(), [*GOOD, MadeClip("bad", broken=True)], ["si_sdr"], RATE, workers=2)


def test_workers_have_one_thread_and_leave_no_trace(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    result = evaluate(Passthrough(), GOOD[:1], ["scoring_doubles:THREADS"], RATE, workers=1)
    assert result.measurements()[0].value == 1.0
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert "MKL_NUM_THREADS" not in os.environ
    assert not multiprocessing.active_children()


def test_waveforms_enhanced_elsewhere():
    half = {clip.id: 0.5 * clip.load()[1] for clip in GOOD}
    result = evaluate(Passthrough("halved"), enhanced_clips(GOOD, half), ["si_sdr"], RATE, workers=1)
    plain = evaluate(Passthrough(), GOOD, ["si_sdr"], RATE, workers=1)
    assert result.measurements()[0].value == pytest.approx(plain.measurements()[0].value, abs=1e-4)
    worse = {clip.id: clip.load()[1] + np.float32(0.05) for clip in GOOD}
    spoiled = evaluate(Passthrough("offset"), enhanced_clips(GOOD, worse), ["si_sdr"], RATE, workers=1)
    assert spoiled.measurements()[0].value < plain.measurements()[0].value - 1
    with pytest.raises(UsageError, match="2 clips, first: clip1"):
        enhanced_clips(GOOD, {"clip0": half["clip0"]})


class Unpicklable(Passthrough):
    def __reduce__(self):
        raise TypeError("holds an open file")


@pytest.mark.parametrize(
    ("enhancer", "clips", "metrics", "rate", "message"),
    [
        (Passthrough(), [], ["si_sdr"], RATE, "no clips"),
        (Passthrough(), GOOD, [], RATE, "no metric"),
        (Passthrough(), GOOD, ["pesq"], RATE, "unknown metric 'pesq'"),
        (Passthrough(), [GOOD[0], GOOD[0]], ["si_sdr"], RATE, "not unique"),
        (Passthrough(), GOOD, ["pesq_wb"], 8000, "needs data at 16000 Hz"),
        (Unpicklable(), GOOD, ["si_sdr"], RATE, "holds an open file"),
    ],
)
def test_wrong_requests(enhancer, clips, metrics, rate, message):
    with pytest.raises(UsageError, match=message):
        evaluate(enhancer, clips, metrics, rate)


def test_a_script_without_the_main_guard_is_told_so(tmp_path):
    script = tmp_path / "unguarded.py"
    script.write_text(
        textwrap.dedent(f"""
        import sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from scoring_doubles import MadeClip
        from earshot.core.errors import ToolError
        from earshot.pipeline.enhancers import Passthrough
        from earshot.pipeline.evaluation import evaluate
        try:
            evaluate(Passthrough(), [MadeClip("a")], ["si_sdr"], 16000, workers=1)
        except ToolError as error:
            print("HINT", error.hint)
        """)
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60, check=False)
    assert "HINT a script that calls evaluate() needs the guard" in done.stdout
    assert done.returncode == 0


def test_cores():
    assert 1 <= available_cores() <= (os.cpu_count() or 1)
