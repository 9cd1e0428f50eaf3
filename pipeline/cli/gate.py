"""`earshot gate`: a finished run against budgets."""

from __future__ import annotations

from pathlib import Path

import click

from earshot.pipeline.cli.options import open_store, store_option
from earshot.pipeline.cli.reports import present, report_option


@click.command()
@click.argument("run", default="latest")
@click.option(
    "--budgets", help="A budget file, or a set that comes with earshot. Default: the budgets of the run's recipe."
)
@report_option
@store_option
def gate(run: str, budgets: str | None, reports: tuple[Path, ...], store_root: Path) -> None:
    """Hold a finished run to its budgets.

    RUN is a run's name, a tag, `latest`, or a run file. Exit code 1 when a budget is missed.
    """
    from earshot.ci.budget_set import load_budgets
    from earshot.ci.gate import gate as judge
    from earshot.ci.gate import recipe_budgets
    from earshot.ci.run_file import read_run
    from earshot.pipeline.runs import find_run

    store = open_store(store_root)
    found = read_run(find_run(store, run))
    verdicts = judge(found, load_budgets(budgets) if budgets else recipe_budgets(found))
    raise click.exceptions.Exit(present(found, verdicts, reports, store))


COMMANDS = (gate,)
