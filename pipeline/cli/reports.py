"""What `run` and `gate` show of a run, and write for others to read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from earshot.core.errors import UsageError

if TYPE_CHECKING:
    from earshot.ci.run_file import Run
    from earshot.ci.verdict import Verdict

SUFFIXES = (".json", ".md", ".xml")


def _checked(context: click.Context, parameter: click.Parameter, paths: tuple[Path, ...]) -> tuple[Path, ...]:
    """Refuses an unknown ending before the work, not after it."""
    for path in paths:
        if path.suffix not in SUFFIXES:
            raise click.BadParameter(f"'{path}' must end in .json, .md (Markdown) or .xml (JUnit)")
    return paths


report_option = click.option(
    "--report",
    "reports",
    multiple=True,
    callback=_checked,
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also write a report; its ending says what: .json, .md (Markdown) or .xml (JUnit). May be repeated.",
)


def present(run: Run, verdicts: Sequence[Verdict], reports: Sequence[Path]) -> int:
    """Prints the run's table, writes the reports, and returns the exit code."""
    from earshot.ci.report import table
    from earshot.ci.verdict import exit_code
    from earshot.core.files import write_atomic
    from earshot.pipeline.cli.tables import console

    console().print(table.render(run, verdicts))
    for path in reports:
        write_atomic(path, _text(path.suffix, run, verdicts))
    return exit_code(verdicts)


def _text(suffix: str, run: Run, verdicts: Sequence[Verdict]) -> str:
    from earshot.ci.report import json, junit, markdown

    renderers = {".json": json.render, ".md": markdown.render, ".xml": junit.render}
    if suffix not in renderers:
        raise UsageError(f"no report ends in '{suffix}'", f"one of: {', '.join(renderers)}")
    return renderers[suffix](run, verdicts)
