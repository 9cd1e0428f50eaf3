"""`earshot study`: teachers, students, methods and seeds in all combinations."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from earshot.pipeline.cli.options import data_option, open_store, set_option, store_option

if TYPE_CHECKING:
    from earshot.pipeline.study.engine import Engine

ENGINES = ("local", "ray")


@click.command()
@click.argument("study")
@data_option
@set_option("train.epochs=3")
@click.option("--workers", type=click.IntRange(min=1), help="Steps at a time; default: what cores and memory allow.")
@click.option("--engine", type=click.Choice(ENGINES), default="local", show_default=True, help="Where steps are made.")
@click.option("--address", help="Of a Ray cluster, HOST:6379 or ray://HOST:10001; default: the one on this machine.")
@click.option("--quiet", is_flag=True, help="No progress bars.")
@store_option
def study(
    *,
    study: str,
    data: Path | None,
    overrides: tuple[str, ...],
    workers: int | None,
    engine: str,
    address: str | None,
    quiet: bool,
    store_root: Path,
) -> None:
    """Compare distillation methods over seeds, each with the same student without a teacher.

    STUDY is a YAML file or one that comes with earshot. What an earlier study or run has made is used again. A cell
    that fails is told and stops no other; the exit code is then 2 or 3, as its error says. `--engine ray` makes the
    steps on the nodes of a Ray cluster.
    """
    from earshot.pipeline.cli.bars import drawer
    from earshot.pipeline.cli.tables import show
    from earshot.pipeline.study.config import load_study
    from earshot.pipeline.study.report import HEADER, READING, cells, failures, tables
    from earshot.pipeline.study.run import run_study

    chosen = _engine(engine, address, workers)
    resolved = load_study(study, overrides, data)
    store = open_store(store_root)
    with drawer(quiet) as progress:
        result, outcome, folder = run_study(resolved, store, progress, chosen)
    for title, lines in tables(result):
        show(HEADER, (cells(line) for line in lines), title)
    if result.failed:
        show(("cell", "seed", "error"), failures(result), "cells without result")
    click.echo(READING)
    click.echo(f"{len(outcome.executed)} steps made, {len(outcome.made) - len(outcome.executed)} used again", err=True)
    click.echo(f"study: {folder}", err=True)
    raise click.exceptions.Exit(max((one.error.exit_code for one in result.failed), default=0))


def _engine(name: str, address: str | None, workers: int | None) -> Engine:
    from earshot.core.errors import UsageError

    if name == "ray":
        from earshot.pipeline.study.ray_engine import RayEngine

        return RayEngine(address, workers)
    if address is not None:
        raise UsageError("--address names a Ray cluster, but the study runs on this machine", "add --engine ray")
    from earshot.pipeline.study.local_engine import LocalEngine

    return LocalEngine(workers)


COMMANDS = (study,)
