"""`earshot run` and `earshot plan`: a recipe, walked through its stages or only looked at."""

from __future__ import annotations

from pathlib import Path

import click

from earshot.core.errors import EarshotError, MachineError
from earshot.pipeline.cli.options import (
    baseline_option,
    gating,
    no_baseline_option,
    open_store,
    recipe_options,
    store_option,
    targets_option,
    targets_override,
)
from earshot.pipeline.cli.reports import annotate_option, present, report_failed, report_option, sound_option


@click.command()
@recipe_options
@targets_option
@click.option("--wait", is_flag=True, help="Wait while another process uses the store, instead of failing.")
@click.option("--quiet", is_flag=True, help="No progress bars.")
@click.option("--budgets", help="A budget file, or a set that comes with earshot. Default: the recipe's budgets.")
@baseline_option
@no_baseline_option
@report_option
@sound_option
@annotate_option
@store_option
def run(
    *,
    recipe: str,
    overrides: tuple[str, ...],
    data: Path | None,
    targets: str | None,
    wait: bool,
    quiet: bool,
    budgets: str | None,
    baseline: str | None,
    no_baseline: bool,
    annotate: bool,
    reports: tuple[Path, ...],
    sound: bool,
    store_root: Path,
) -> None:
    """Walk a recipe through its stages to the gate.

    RECIPE is a YAML file or one that comes with earshot: quickstart, real16k. What an earlier run has made is used
    again. Reports are written of a run that fails half-way, too. Exit code 0: all budgets kept; 1: one is missed; 2:
    the request is wrong; 3: the machine or a target failed.
    """
    from earshot.ci.budget_set import load_budgets
    from earshot.ci.run_file import read_run
    from earshot.pipeline.cli.bars import drawer
    from earshot.pipeline.recipe import load_recipe
    from earshot.pipeline.runner import run as run_recipe
    from earshot.pipeline.runs import run_names

    resolved = load_recipe(recipe, [*overrides, *targets_override(targets)], data)
    store = open_store(store_root)
    judged = gating(store, load_budgets(budgets) if budgets else resolved.budgets, baseline, no_baseline)
    before = run_names(store)
    try:
        with store.lock(wait), drawer(quiet) as progress:
            path = run_recipe(resolved, store, progress, budgets=judged.budgets, baseline=judged.baseline)
    except EarshotError:
        report_failed(store, before, reports, sound=sound, quiet=quiet)
        raise
    finished = read_run(path)
    code = present(
        finished,
        finished.verdicts,
        reports,
        store,
        pair=judged.pair(finished, store),
        sound=sound,
        annotate=annotate,
        quiet=quiet,
    )
    click.echo(f"run: {path}", err=True)
    raise click.exceptions.Exit(MachineError.exit_code if finished.failures else code)


@click.command()
@recipe_options
@targets_option
@store_option
def plan(recipe: str, overrides: tuple[str, ...], data: Path | None, targets: str | None, store_root: Path) -> None:
    """Show what `run` would do, without doing it."""
    from earshot.pipeline.cli.tables import show
    from earshot.pipeline.recipe import load_recipe
    from earshot.pipeline.runner import plan as plan_steps

    resolved = load_recipe(recipe, [*overrides, *targets_override(targets)], data)
    steps = plan_steps(resolved, open_store(store_root))
    show(("stage", "state", "artifact", "why"), [(step.stage, step.state, step.artifact, step.why) for step in steps])


COMMANDS = (run, plan)
