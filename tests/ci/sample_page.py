"""A whole page of a run: every section filled, in words that a test may choose."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import soundfile
from PIL import Image
from sample_comparison import sample
from sample_runs import clips, make

from earshot.ci.difference import Pair
from earshot.ci.explanation import ClipLoss, Costs, Explanation, Finding, Layer, Layers, Share, WorstClips
from earshot.ci.run_file import Failure, LeftOut, Row, Run
from earshot.ci.run_page import ClipSounds, Listening, RunPage, Version
from earshot.ci.verdict import Status, Verdict
from earshot.ci.waterfall import waterfall
from earshot.core.measurement import Measurement

NOISY, FLOAT, INT8 = "noisy", "convert:float32", "convert:int8"
PESQ = {NOISY: 1.58, "teacher": 2.4, "distill": 2.2, FLOAT: 2.2, INT8: 1.9}
BINS = ("below 0 dB", "0 to 5 dB", "5 to 10 dB", "10 dB up")


def sample_page(say: Callable[[str], str] = str) -> RunPage:
    """`say` gives every word that comes from outside earshot."""
    rows = tuple(_row(name, pesq, say) for name, pesq in PESQ.items())
    run = Run(
        name=say("quickstart-20260101-120000"),
        status="complete",
        rows=rows,
        failures=(Failure(target=say("phone"), error=say("no device is attached"), fix=say("plug it in")),),
        left_out=(LeftOut(target=say("cortex-m4"), row=say(FLOAT), reason=say("it runs int8")),),
    )
    verdicts = (
        _verdict("pesq_wb-not-worse-than-noisy", Status.PASS, 0.32, say),
        _verdict("pesq_wb", Status.FAIL, -0.2, say),
        _verdict("stoi", Status.WARN, -0.01, say),
        _verdict("si_sdr", Status.UNDECIDED, 0.0, say),
        Verdict(say("a row that is not there"), Status.FAIL, say("the run has no row 'x'")),
    )
    comparison = sample()
    renamed = tuple(
        one.model_copy(update={"target": say(one.target), "error": one.error and say(one.error)})
        for one in comparison.devices
    )
    return RunPage(
        run=run,
        verdicts=verdicts,
        comparison=comparison.model_copy(update={"title": run.name, "devices": renamed}),
        by_snr={say(row): {name: _scores(PESQ[row] + 0.3 * index) for index, name in enumerate(BINS)}
                for row in (NOISY, FLOAT, INT8)},
        protocol={"pesq_wb": say("pesq 0.0.4: ITU-T P.862.2")},
        dataset="d" * 64,
        explanation=_explanation(rows, say),
        pair=Pair(make(say("main"), clips()), make(say("here"), clips(shift=-0.1, spread=0.02))),
        listening=Listening(
            (_clip(say("p232_014"), "gained least", say), _clip(say("p257_002"), "gained most", say, rate=48000)),
            say("the run's test data, kind pairs"), "pesq_wb", "MOS", _png(np.arange(64)[None]), (say("without x"),),
        ),
    )  # fmt: skip


def _explanation(rows: tuple[Row, ...], say: Callable[[str], str]) -> Explanation:
    fall = waterfall(rows, "pesq_wb", rows[-1].row)
    worst = ClipLoss(say("p232_014"), say("vbd"), 1.2, 2.4)
    lost = WorstClips("pesq_wb", "MOS", say(INT8), say(FLOAT), (worst,), 1, 120)
    layer = Layer(3, say("CONV_2D"), say("enc0/conv"), say("enc0"), 12.0, 20.0, gain_db=3.0, bytes_more=1024)
    layers = Layers(row=say(INT8), layers=(layer,), count=9, mask_snr_db=12.0, wide_snr_db=30.0, together=None,
                    frames=300, seconds=4.8, sound=say("validation"), missing=say("nothing else"))  # fmt: skip
    parts = (Share(say("CONV_2D"), 900.0, 0.9, say("enc0/conv")), Share(say("ADD"), 100.0, 0.1))
    costs = Costs("operators", say("cortex-m4"), say(INT8), 1000.0, "instructions", parts, 9, say("the graph alone"))
    said = (say("rounding to int8 lost 0.3 of the 0.5 MOS between the teacher and the int8 file"),)
    quality = Finding(say("pesq_wb"), "fail", "pesq_wb", say(INT8), None, said, 2.1, fall, lost, missing=(say("gone"),))
    return Explanation(
        say("quickstart-20260101-120000"),
        (quality, Finding(say("stoi"), "warn", "stoi", say(INT8), say("cortex-m4"), said, costs=costs)),
        layers,
        (say("the profile on phone is gone"),),
    )  # fmt: skip


def bare_page() -> RunPage:
    """A run that failed before it had a row."""
    run = Run(name="half", status="failed", error="the disk is full")
    return RunPage(run, (Verdict("the run completed", Status.FAIL, "the run failed: the disk is full"),))


def quiet_page() -> RunPage:
    """A run that passes, without targets, sound and baseline."""
    found = sample_page()
    run = found.run.model_copy(update={"failures": (), "left_out": ()})
    return replace(RunPage(run, found.verdicts[:1]), listening=Listening(missing=("No sound: it was not asked for.",)))


def _row(name: str, pesq: float, say: Callable[[str], str]) -> Row:
    found = [
        Measurement("pesq_wb", pesq, "MOS", 120, interval=(pesq - 0.1, pesq + 0.1)),
        Measurement("stoi", 0.9, "1", 120, interval=(0.88, 0.92)),
        Measurement(f"pesq_wb[{say('vbd')}]", pesq, "MOS", 60),
    ]
    if name != NOISY:
        found += [Measurement("parameters", 107_000.0, "1"), Measurement("model_bytes", 450_000.0, "bytes")]
    return Row(row=say(name), stage=name.partition(":")[0], measurements=tuple(found))


def _verdict(budget: str, status: Status, margin: float, say: Callable[[str], str]) -> Verdict:
    return Verdict(
        say(budget), status, say("1.9 MOS against 2.2 in row 'convert:float32'"), "pesq_wb", say("at most 0.1 worse"),
        say(INT8), None, 1.9, 2.2, "MOS", margin, "measured", 120,
    )  # fmt: skip


def _scores(pesq: float) -> tuple[Measurement, ...]:
    return (
        Measurement("pesq_wb", pesq, "MOS", 30, interval=(pesq - 0.2, pesq + 0.2)),
        Measurement("stoi", 0.9, "1", 30),
    )


def _clip(name: str, why: str, say: Callable[[str], str], rate: int = 16000) -> ClipSounds:
    """Of both rates, whose axes differ; the sound itself is short and of 16 kHz."""
    versions = tuple(
        Version(label, row, *_sound(index), clipped=7 * (index == 2), score=2.0 + index if row else None)
        for index, (label, row) in enumerate(
            ((NOISY, NOISY), ("float32", FLOAT), ("int8", INT8), ("clean", None))
        )
    )  # fmt: skip
    return ClipSounds(name, say("vbd"), 2.5, why, 1.5, 4.25, rate, (-100.0, -20.0), versions)


@cache
def _sound(seed: int) -> tuple[bytes, bytes]:
    file, random = io.BytesIO(), np.random.default_rng(seed)
    soundfile.write(file, random.uniform(-0.5, 0.5, 24000), 16000, format="FLAC", subtype="PCM_16")
    return file.getvalue(), _png(random.integers(0, 64, (128, 188)))


def _png(shades: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray((4 * shades).astype(np.uint8)).save(file, "PNG")
    return file.getvalue()
