"""What `run` and `gate` show of a run, and write for others to read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from earshot.ci.run_file import Run
    from earshot.ci.verdict import Verdict
    from earshot.pipeline.store import Store

SUFFIXES = (".json", ".md", ".xml", ".html", ".csv")
ENDINGS = ".json, .md (Markdown), .xml (JUnit), .html (devices, a page with charts) or .csv (devices)"


def _checked(context: click.Context, parameter: click.Parameter, paths: tuple[Path, ...]) -> tuple[Path, ...]:
    """Refuses an unknown ending before the work, not after it."""
    for path in paths:
        if path.suffix not in SUFFIXES:
            raise click.BadParameter(f"'{path}' must end in {ENDINGS}")
    return paths


report_option = click.option(
    "--report",
    "reports",
    multiple=True,
    callback=_checked,
    type=click.Path(dir_okay=False, path_type=Path),
    help=f"Also write a report; its ending says what: {ENDINGS}. May be repeated.",
)


annotate_option = click.option(
    "--annotate", is_flag=True, help="Also print missed budgets as GitHub workflow commands (`::error …`)."
)


def present(
    run: Run, verdicts: Sequence[Verdict], reports: Sequence[Path], store: Store, annotate: bool = False
) -> int:
    """Prints the run's table, writes the reports, and returns the exit code; the store knows the operators' costs."""
    from earshot.ci.report import annotations, table
    from earshot.ci.verdict import exit_code
    from earshot.core.files import write_atomic
    from earshot.pipeline.cli.tables import console

    console().print(table.render(run, verdicts))
    if annotate:
        click.echo(annotations.render(verdicts), nl=False)
    for path in reports:
        write_atomic(path, _text(path.suffix, run, verdicts, store))
    return exit_code(verdicts)


def _text(suffix: str, run: Run, verdicts: Sequence[Verdict], store: Store) -> str:
    from earshot.ci.report import devices, json, junit, markdown
    from earshot.ci.report.html import devices as page
    from earshot.pipeline.comparing import compare_stored_run

    renderers = {".json": json.render, ".md": markdown.render, ".xml": junit.render}
    if suffix in renderers:
        return renderers[suffix](run, verdicts)
    draw = page.render if suffix == ".html" else devices.render_csv
    return draw(compare_stored_run(run, store))
