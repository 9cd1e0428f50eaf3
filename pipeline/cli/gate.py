"""`earshot gate`: a finished run against budgets."""

from __future__ import annotations

from pathlib import Path

import click

from earshot.pipeline.cli.options import baseline_option, gating, no_baseline_option, open_store, store_option
from earshot.pipeline.cli.reports import annotate_option, present, report_option, sound_option


@click.command()
@click.argument("run", default="latest")
@click.option(
    "--budgets", help="A budget file, or a set that comes with earshot. Default: the budgets of the run's recipe."
)
@baseline_option
@no_baseline_option
@click.option(
    "--remeasure", is_flag=True, help="Take times that a budget against a baseline names anew, both models by turns."
)
@report_option
@sound_option
@annotate_option
@store_option
def gate(
    *,
    run: str,
    budgets: str | None,
    baseline: str | None,
    no_baseline: bool,
    remeasure: bool,
    reports: tuple[Path, ...],
    sound: bool,
    annotate: bool,
    store_root: Path,
) -> None:
    """Hold a finished run to its budgets.

    RUN is a run's name, a tag, `latest`, or a run file. Exit code 1 when a budget is missed, or when the difference to
    the baseline is smaller than its noise and so is the limit; 2 when the baseline is missing or damaged.
    """
    from earshot.ci.budget_set import load_budgets
    from earshot.ci.gate import gate as judge
    from earshot.ci.gate import recipe_budgets
    from earshot.ci.run_file import read_run
    from earshot.pipeline.runs import find_run

    store = open_store(store_root)
    found = read_run(find_run(store, run))
    judged = gating(store, load_budgets(budgets) if budgets else recipe_budgets(found), baseline, no_baseline)
    pair = judged.pair(found, store)
    if remeasure and pair is not None:
        from earshot.ci.report.layout import clean
        from earshot.pipeline.cli.bars import drawer
        from earshot.pipeline.remeasure import heats_of_budgets, take_turns

        budgeted = judged.budgets.against_baseline
        heats, stored = heats_of_budgets(pair, budgeted)
        for line in stored:
            click.echo(f"left as stored: {clean(line)}", err=True)
        with drawer() as progress:
            pair = take_turns(pair, heats, budgeted, store, progress)
    verdicts = judge(found, judged.budgets, pair)
    code = present(found, verdicts, reports, store, pair=pair, sound=sound, annotate=annotate)
    raise click.exceptions.Exit(code)


COMMANDS = (gate,)
