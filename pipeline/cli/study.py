"""`earshot study`: teachers, students, methods and seeds in all combinations."""

from __future__ import annotations

from pathlib import Path

import click

from earshot.pipeline.cli.options import open_store, store_option


@click.command()
@click.argument("study")
@click.option("--workers", type=click.IntRange(min=1), help="Processes; default: what cores and memory allow.")
@click.option("--quiet", is_flag=True, help="No progress bars.")
@store_option
def study(*, study: str, workers: int | None, quiet: bool, store_root: Path) -> None:
    """Compare distillation methods over seeds, each with the same student without a teacher.

    STUDY is a YAML file or one that comes with earshot. What an earlier study or run has made is used again. A cell
    that fails is told and stops no other; the exit code is then 2 or 3, as its error says.
    """
    from earshot.pipeline.cli.bars import drawer
    from earshot.pipeline.cli.tables import show
    from earshot.pipeline.study.config import load_study
    from earshot.pipeline.study.report import HEADER, READING, cells, failures, tables
    from earshot.pipeline.study.run import run_study

    resolved = load_study(study)
    store = open_store(store_root)
    with drawer(quiet) as progress:
        result, outcome, folder = run_study(resolved, store, progress, workers)
    for title, lines in tables(result):
        show(HEADER, (cells(line) for line in lines), title)
    if result.failed:
        show(("cell", "seed", "error"), failures(result), "cells without result")
    click.echo(READING)
    click.echo(f"{len(outcome.executed)} steps made, {len(outcome.made) - len(outcome.executed)} used again", err=True)
    click.echo(f"study: {folder}", err=True)
    raise click.exceptions.Exit(max((one.error.exit_code for one in result.failed), default=0))


COMMANDS = (study,)
