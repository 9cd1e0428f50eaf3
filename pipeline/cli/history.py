"""`earshot history` and `earshot leaderboard`: what many runs of a store have reached."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from earshot.pipeline.cli.options import json_option, open_store, store_option

if TYPE_CHECKING:
    from earshot.ci.history import Entry
    from earshot.ci.run_file import Row

Found = TypeVar("Found")
ENDINGS = (".html", ".json", ".csv", ".md")


def _checked(context: click.Context, parameter: click.Parameter, paths: tuple[Path, ...]) -> tuple[Path, ...]:
    for path in paths:
        if path.suffix not in ENDINGS:
            raise click.BadParameter(f"'{path}' must end in {', '.join(ENDINGS)}")
    return paths


_report_option = click.option(
    "--report",
    "reports",
    multiple=True,
    callback=_checked,
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also write a report; its ending says what: .html (a page with charts), .json, .csv or .md. May be repeated.",
)


@click.command(short_help="Draw a metric over tagged runs.")
@click.argument("metric")
@click.argument("baselines", nargs=-1, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--target", help="The device. Default: every one it was measured on, a chart each.")
@click.option("--row", help="The row to follow, e.g. convert:float32. Default: the row that each run ships.")
@click.option("--all", "every_run", is_flag=True, help="All runs of the store, not only those with a tag.")
@click.option("--last", type=click.IntRange(min=1), help="Only so many of the newest.")
@_report_option
@json_option
@store_option
def history(
    *,
    metric: str,
    baselines: tuple[Path, ...],
    target: str | None,
    row: str | None,
    every_run: bool,
    last: int | None,
    reports: tuple[Path, ...],
    as_json: bool,
    store_root: Path,
) -> None:
    """Draw METRIC over the tagged runs, in the order they were made; BASELINES are files that count as runs too.

    METRIC may name a part of the test set: 'pesq_wb[vbd]'. A run without the number is a gap, with the reason; where
    a number does not compare with the one before (another evaluation set, protocol, device, engine), the line breaks.
    Lines across are limits of the newest run's budgets.
    """
    from earshot.ci.history import trace
    from earshot.ci.report import history as report
    from earshot.ci.report.html import history as page
    from earshot.pipeline.cli.tables import console
    from earshot.pipeline.history import read_entries

    def chosen(entry: Entry) -> list[Row]:
        found = entry.row(row)
        return [found] if found else []

    store = open_store(store_root)
    entries, notes = read_entries(store, (metric,), chosen, every_run=every_run, files=baselines)
    found = trace(entries[-last:] if last else entries, metric, row, target, notes)
    if as_json:
        click.echo(report.render_json(found), nl=False)
    else:
        out = console()
        out.print(report.render(found, out.width))
    renderers = {".json": report.render_json, ".csv": report.render_csv, ".md": report.render_markdown}
    _write(reports, found, renderers | {".html": page.render})


@click.command(short_help="Show which runs are on the front of quality, cost and size.")
@click.option("--quality", default="pesq_wb", show_default=True, help="Metric of quality.")
@click.option("--cost", default="rtf", show_default=True, help="Metric of cost, e.g. instructions_per_frame.")
@click.option("--size", default="model_bytes", show_default=True, help="Metric of size, e.g. ram_bytes.")
@click.option("--target", help="The device. Default: every one that the cost was measured on, a table each.")
@click.option("--rows", "every_row", is_flag=True, help="All rows that the cost was measured on, not only what ships.")
@_report_option
@json_option
@store_option
def leaderboard(
    *,
    quality: str,
    cost: str,
    size: str,
    target: str | None,
    every_row: bool,
    reports: tuple[Path, ...],
    as_json: bool,
    store_root: Path,
) -> None:
    """Rank the runs of the store by quality, cost and size together.

    A run is on the front where no other is at least as good in all three and better in one. Runs that do not compare
    (another evaluation set, protocol, target, device, engine) get a table of their own. Runs that failed, and numbers
    that were never measured, came from a stand-in or are marked (throttled, lower-bound) are not ranked; the reason is
    shown.
    """
    from earshot.ci.leaderboard import chosen_rows, rank
    from earshot.ci.report import leaderboard as report
    from earshot.ci.report.html import leaderboard as page
    from earshot.pipeline.cli.tables import console
    from earshot.pipeline.history import read_entries

    def chosen(entry: Entry) -> list[Row]:
        return chosen_rows(entry, cost, every_row)

    axes = (quality, cost, size)
    entries, _ = read_entries(open_store(store_root), axes, chosen, every_run=True)
    board = rank(entries, axes, target=target, every_row=every_row)
    if as_json:
        click.echo(report.render_json(board), nl=False)
    else:
        console().print(report.render(board))
    renderers = {".json": report.render_json, ".csv": report.render_csv, ".md": report.render_markdown}
    _write(reports, board, renderers | {".html": page.render})


def _write(reports: Sequence[Path], found: Found, renderers: Mapping[str, Callable[[Found], str]]) -> None:
    from earshot.core.files import write_atomic

    for path in reports:
        write_atomic(path, renderers[path.suffix](found))


COMMANDS = (history, leaderboard)
