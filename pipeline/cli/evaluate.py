"""`earshot evaluate`: the quality of any model on any pairs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from earshot.pipeline.cli.locate import MODEL_HELP, find_model, model_sound
from earshot.pipeline.cli.options import open_store, store_option

if TYPE_CHECKING:
    from earshot.core.measurement import Measurement
    from earshot.pipeline.data.config import DataConfig

NOISY = "noisy"
DEFAULT_METRICS = ("pesq_wb", "pesq_nb", "stoi", "estoi", "si_sdr")


@click.command(
    short_help="Score a model on clean/noisy pairs.",
    help=f"Score MODEL on clean/noisy pairs.\n\nMODEL is {MODEL_HELP}; `noisy` scores the pairs as they are.",
)
@click.argument("model")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="Folder with clean/ and noisy/, or a CSV manifest. Default: the embedded pack's test part.",
)
@click.option("--metric", "metrics", multiple=True, default=DEFAULT_METRICS, show_default=True, help="May be repeated.")
@click.option("--rate", type=click.IntRange(min=8000), help="Sample rate for `noisy`, in Hz; a model brings its own.")
@click.option(
    "--microphones", type=click.IntRange(min=1), default=1, help="Of the pairs, for `noisy`; a model brings its own."
)
@click.option("--workers", type=click.IntRange(min=1), help="Worker processes. Default: one per core.")
@click.option("--json", "json_path", type=click.Path(dir_okay=False, path_type=Path), help="Write every clip's scores.")
@click.option("--quiet", is_flag=True, help="No progress bars.")
@store_option
def evaluate(
    *,
    model: str,
    data: Path | None,
    metrics: tuple[str, ...],
    rate: int | None,
    microphones: int,
    workers: int | None,
    json_path: Path | None,
    quiet: bool,
    store_root: Path,
) -> None:
    """Scores a model; the help text stands in the decorator because it shares MODEL_HELP."""
    from earshot.core.files import write_json
    from earshot.pipeline.cli.bars import drawer
    from earshot.pipeline.cli.tables import show, show_measurements
    from earshot.pipeline.data.open import open_data
    from earshot.pipeline.enhancers import CheckpointEnhancer, Enhancer, Passthrough, TfliteEnhancer
    from earshot.pipeline.evaluation import evaluate as score

    store = open_store(store_root)
    enhancer: Enhancer = Passthrough()
    if model != NOISY:
        path = find_model(store, model)
        rate, microphones = model_sound(path)
        enhancer = TfliteEnhancer(path) if path.suffix == ".tflite" else CheckpointEnhancer(path)
    opened = open_data(_test_set(data), rate or 16000, microphones=microphones)
    with drawer(quiet) as progress:
        result = score(
            enhancer,
            opened.test,
            metrics,
            opened.rate,
            dataset=opened.digest("test"),
            workers=workers,
            progress=progress,
        )
    show_measurements(result.measurements(), f"{enhancer.describe()}: {len(result.clips)} clips at {opened.rate} Hz")
    for title, parts in (("group", result.by_group()), ("input SNR", result.by_snr())):
        if len(parts) > 1:
            show((title, *metrics), [(name, *map(_mean, measured)) for name, measured in parts.items()])
    if json_path:
        write_json(json_path, result.to_dict())


def _mean(measurement: Measurement) -> str:
    """A mean with its sample count, as the breakdowns show it."""
    from earshot.pipeline.cli.tables import number

    unit = "" if measurement.unit == "1" else f" {measurement.unit}"
    return f"{number(measurement.value)}{unit} (n={measurement.n})"


def _test_set(source: Path | None) -> DataConfig:
    from earshot.core.config import parse
    from earshot.pipeline.data.config import DataConfig

    if source is None:
        return DataConfig()
    kind = "manifest" if source.suffix == ".csv" else "pairs"
    return parse(DataConfig, {"test": {"kind": kind, "path": str(source)}}, str(source))


COMMANDS = (evaluate,)
