"""How long it takes to enhance and score a folder of pairs: python benchmarks/evaluation.py DATA [--model MODEL].

DATA holds clean/ and noisy/. Target: 120 pairs (575 s of sound) through an int8 student and all metrics in at most 60 s
on two cores that have nothing else to do.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Sequence
from pathlib import Path

import click

from earshot.core.measurement import Measurement
from earshot.pipeline.data.audio import probe
from earshot.pipeline.data.config import PairsConfig
from earshot.pipeline.data.sources import material
from earshot.pipeline.enhancers import CheckpointEnhancer, Enhancer, Passthrough, TfliteEnhancer
from earshot.pipeline.evaluation import available_cores, evaluate
from earshot.pipeline.metrics.registry import METRICS


@click.command()
@click.argument("data", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--model", type=click.Path(path_type=Path, exists=True), help=".tflite or .safetensors; default: none.")
@click.option("--rate", default=16000, show_default=True, help="Hz.")
@click.option("--workers", type=int, help="Processes; default: all cores.")
@click.option("--out", type=click.Path(path_type=Path), help="Writes the scores of every clip as JSON.")
def main(data: Path, model: Path | None, rate: int, workers: int | None, out: Path | None) -> None:
    """Prints the seconds, and the scores by group and SNR."""
    clips = material(PairsConfig(kind="pairs", path=data), "test", rate).pairs(rate, None, None, 0)
    audio = sum(info.frames / info.rate for info in (probe(clip.source.files[0]) for clip in clips))
    started, processor = time.perf_counter(), _processor_seconds()
    result = evaluate(_enhancer(model), clips, list(METRICS), rate, workers=workers, dataset=str(data))
    seconds, processor = time.perf_counter() - started, _processor_seconds() - processor

    click.echo(f"{result.enhancer}: {len(clips)} clips, {audio:.0f} s of sound, {len(METRICS)} metrics")
    click.echo(f"{seconds:.1f} s wall, {processor:.1f} s processor, {workers or available_cores()} workers")
    load = ", ".join(f"{value:.2f}" for value in os.getloadavg())
    click.echo(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, load {load}\n")
    _print_row("all", result.measurements())
    for part in (result.by_group(), result.by_snr()):
        for name, measurements in part.items():
            _print_row(name, measurements)
    if out is not None:
        out.write_text(json.dumps(result.to_dict(), indent=1))


def _enhancer(model: Path | None) -> Enhancer:
    if model is None:
        return Passthrough()
    return TfliteEnhancer(model) if model.suffix == ".tflite" else CheckpointEnhancer(model)


def _processor_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _print_row(name: str, measurements: Sequence[Measurement]) -> None:
    cells = [f"{item.metric} {_number(item)} (n {item.n}, failed {item.failed})" for item in measurements]
    click.echo(f"{name:12}" + "  ".join(cells))


def _number(item: Measurement) -> str:
    if item.value is None:
        return "-"
    half = f" ± {item.value - item.interval[0]:.3f}" if item.interval else ""
    return f"{item.value:.3f}{half}"


if __name__ == "__main__":
    main()
