"""`earshot explain`: why a run missed its budgets, with the layers of its int8 file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from earshot.core.errors import EarshotError
from earshot.pipeline.cli.options import baseline_option, gating, no_baseline_option, open_store, store_option
from earshot.pipeline.cli.reports import report_option

LAYERS = 8


@click.command(short_help="Say why a run missed its budgets, and which layers lose most to rounding.")
@click.argument("run", default="latest")
@click.option(
    "--layers",
    type=click.IntRange(0, 50),
    default=LAYERS,
    show_default=True,
    help="How many layers of the int8 file to try on 16 bits, a few seconds each; 0: measure no layers.",
)
@click.option("--budgets", help="A budget file, or a set that comes with earshot. Default: those of the run's recipe.")
@baseline_option
@no_baseline_option
@click.option("--quiet", is_flag=True, help="No progress bars.")
@report_option
@store_option
def explain(
    *,
    run: str,
    layers: int,
    budgets: str | None,
    baseline: str | None,
    no_baseline: bool,
    quiet: bool,
    reports: tuple[Path, ...],
    store_root: Path,
) -> None:
    """Say why RUN missed its budgets.

    For each of them: at which stage quality was lost, which clips lost most, which operators or parts of memory cost
    most. And for the int8 file: which layers lose most to rounding, and what 16 bits for them would buy
    (quantize.keep_wide). RUN is a run's name, a tag, `latest`, or a run file; `earshot gate` shows what was found from
    then on. Exit codes as of `earshot gate`.
    """
    from earshot.ci.budget_set import load_budgets
    from earshot.ci.gate import gate as judge
    from earshot.ci.gate import recipe_budgets
    from earshot.ci.report import explanation as text
    from earshot.ci.report import table
    from earshot.ci.run_file import read_run
    from earshot.ci.verdict import exit_code
    from earshot.pipeline.cli.bars import drawer
    from earshot.pipeline.cli.reports import write
    from earshot.pipeline.cli.tables import console
    from earshot.pipeline.explaining import explain_run
    from earshot.pipeline.layers import has_layers, measure_layers
    from earshot.pipeline.runs import find_run

    store = open_store(store_root)
    found = read_run(find_run(store, run))
    judged = gating(store, load_budgets(budgets) if budgets else recipe_budgets(found), baseline, no_baseline)
    pair = judged.pair(found, store)
    verdicts = judge(found, judged.budgets, pair)
    missing = []
    if layers and has_layers(found):
        try:
            with drawer(quiet) as progress:
                measure_layers(found, store, layers, progress)
        except EarshotError as error:  # all the rest is told nevertheless
            missing.append(f"layers were not measured: {error.message}" + (f"; {error.hint}" if error.hint else ""))
    explained = explain_run(found, verdicts, store, judged.baseline)
    explained = replace(explained, missing=(*explained.missing, *missing))
    console().print(table.render_outcome(found, verdicts))
    console().print(text.render_whole(explained))
    write(found, verdicts, reports, store, pair=pair, sound=False)
    raise click.exceptions.Exit(exit_code(verdicts))


COMMANDS = (explain,)
