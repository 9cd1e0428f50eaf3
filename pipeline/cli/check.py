"""`earshot check`: whether recipes, studies, budgets, baselines and runs still read."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
def check(files: tuple[Path, ...]) -> None:
    """Read FILES strictly and run nothing: recipes, studies and budgets (YAML), baselines and runs (JSON).

    For a hook before each commit. Whether data, targets and networks are there is for `earshot plan` to say. Exit code
    2 when one of them is wrong; every one is looked at.
    """
    from earshot.ci.report.layout import clean
    from earshot.core.errors import EarshotError
    from earshot.pipeline.checking import check_file

    code = 0
    for path in files:
        try:
            click.echo(clean(f"{path}: {check_file(path)}"))
        except EarshotError as error:
            code = max(code, error.exit_code)
            click.echo(clean(f"error: {error.message}"), err=True)
            if error.hint:
                click.echo(clean(f"fix: {error.hint}"), err=True)
    raise click.exceptions.Exit(code)


COMMANDS = (check,)
