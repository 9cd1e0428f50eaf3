"""`earshot enhance`: a sound file through a streaming model."""

from __future__ import annotations

from pathlib import Path

import click

from earshot.pipeline.cli.locate import find_model, newest_model
from earshot.pipeline.cli.options import open_store, store_option


@click.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("sink", type=click.Path(path_type=Path))
@click.option("--model", help="A .tflite, or an artifact. Default: what the newest run ships.")
@click.option("--quiet", is_flag=True, help="No progress bars.")
@store_option
def enhance(source: Path, sink: Path, model: str | None, quiet: bool, store_root: Path) -> None:
    """Stream a sound file through a model.

    SOURCE may have any rate, length and number of channels; SINK has the same, aligned with it. A model of several
    microphones takes a SOURCE of as many channels and makes one.
    """
    from earshot.pipeline.cli.bars import drawer
    from earshot.pipeline.enhance import enhance_file

    store = open_store(store_root)
    path = find_model(store, model) if model else newest_model(store)
    with drawer(quiet) as progress:
        report = enhance_file(path, source, sink, progress)
    click.echo(f"{sink}: {report.seconds:.1f} s of sound, real-time factor {report.rtf:.4f}, model {path.name}")


COMMANDS = (enhance,)
