"""What `run`, `gate` and `report` show of a run, and write for others to read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from earshot.ci.difference import Pair
    from earshot.ci.explanation import Explanation
    from earshot.ci.run_file import Run
    from earshot.ci.verdict import Verdict
    from earshot.pipeline.progress import Progress
    from earshot.pipeline.store import Store

SUFFIXES = (".json", ".md", ".xml", ".html", ".csv")
EXPLAINED = {".json", ".md"}  # the page looks for reasons by itself
ENDINGS = ".json, .md (Markdown), .xml (JUnit), .html (a page with charts and sound) or .csv (devices)"


def _checked(context: click.Context, parameter: click.Parameter, paths: tuple[Path, ...]) -> tuple[Path, ...]:
    return checked(paths)


def checked(paths: Sequence[Path]) -> tuple[Path, ...]:
    """Refuses an unknown ending before the work, not after it."""
    for path in paths:
        if path.suffix not in SUFFIXES:
            raise click.BadParameter(f"'{path}' must end in {ENDINGS}")
    return tuple(paths)


report_option = click.option(
    "--report",
    "reports",
    multiple=True,
    callback=_checked,
    type=click.Path(dir_okay=False, path_type=Path),
    help=f"Also write a report; its ending says what: {ENDINGS}. May be repeated.",
)


sound_option = click.option(
    "--sound/--no-sound",
    default=True,
    help="Whether an .html report has clips of the test data to listen to. Default: it has.",
)
annotate_option = click.option(
    "--annotate", is_flag=True, help="Also print missed budgets as GitHub workflow commands (`::error …`)."
)


def present(
    run: Run,
    verdicts: Sequence[Verdict],
    reports: Sequence[Path],
    store: Store,
    *,
    pair: Pair | None = None,
    sound: bool = True,
    annotate: bool = False,
    quiet: bool = False,
) -> int:
    """Prints the run's table, writes the reports, and returns the exit code; the store knows the operators' costs."""
    from earshot.ci.report import annotations, table
    from earshot.ci.verdict import exit_code
    from earshot.pipeline.cli.tables import console
    from earshot.pipeline.explaining import explain_run

    explanation = explain_run(run, verdicts, store, pair.base if pair else None)
    console().print(table.render(run, verdicts, explanation))
    if annotate:
        click.echo(annotations.render(verdicts, explanation), nl=False)
    write(run, verdicts, reports, store, pair=pair, explanation=explanation, sound=sound, quiet=quiet)
    return exit_code(verdicts)


def write(
    run: Run,
    verdicts: Sequence[Verdict],
    reports: Sequence[Path],
    store: Store,
    *,
    pair: Pair | None = None,
    explanation: Explanation | None = None,
    sound: bool = True,
    clips: Sequence[str] = (),
    quiet: bool = False,
) -> None:
    """Writes the reports; a page shows differences to the baseline, and sound of these clips or of chosen ones."""
    from earshot.core.files import write_atomic
    from earshot.pipeline.cli.bars import drawer
    from earshot.pipeline.explaining import explain_run

    if explanation is None and {path.suffix for path in reports} & EXPLAINED:
        explanation = explain_run(run, verdicts, store, pair.base if pair else None)

    for path in reports:
        if path.suffix == ".html":
            with drawer(quiet or not sound) as progress:
                text = _page(run, verdicts, store, pair, sound, clips, progress)
        else:
            text = _text(path.suffix, run, verdicts, store, explanation)
        write_atomic(path, text)


def report_failed(
    store: Store, before: Sequence[str], reports: Sequence[Path], *, sound: bool = True, quiet: bool = False
) -> None:
    """Writes the reports of a run that has just failed: the one that was not there before, if it came that far."""
    from earshot.ci.report.layout import clean
    from earshot.ci.run_file import read_run
    from earshot.core.errors import EarshotError
    from earshot.pipeline.runs import run_names, run_path

    for name in run_names(store):
        if reports and name not in before:
            try:
                failed = read_run(run_path(store, name))
                write(failed, failed.verdicts, reports, store, sound=sound, quiet=quiet)
            except EarshotError as error:  # why the run failed matters more
                click.echo(clean(f"warning: no report of it: {error.message}"), err=True)


def _page(
    run: Run,
    verdicts: Sequence[Verdict],
    store: Store,
    pair: Pair | None,
    sound: bool,
    clips: Sequence[str],
    progress: Progress,
) -> str:
    from earshot.ci.report.html.run import render
    from earshot.pipeline.run_page import make_page

    return render(make_page(run, verdicts, store, pair=pair, sound=sound, clips=clips, progress=progress))


def _text(suffix: str, run: Run, verdicts: Sequence[Verdict], store: Store, explanation: Explanation | None) -> str:
    from earshot.ci.report import devices, json, junit, markdown
    from earshot.pipeline.comparing import compare_stored_run

    if suffix == ".csv":
        return devices.render_csv(compare_stored_run(run, store))
    if suffix == ".xml":
        return junit.render(run, verdicts)
    render = json.render if suffix == ".json" else markdown.render
    return render(run, verdicts, explanation)
