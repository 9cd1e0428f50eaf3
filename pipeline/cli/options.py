"""Options and arguments that several commands share."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from earshot.core.errors import UsageError

if TYPE_CHECKING:
    from earshot.ci.budget_set import BudgetSet
    from earshot.pipeline.gating import Gating
    from earshot.pipeline.store import Store

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

store_option: Decorator = click.option(
    "--store",
    "store_root",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="EARSHOT_HOME",
    default=Path(".earshot"),
    show_default=True,
    help="Folder of artifacts and runs (or set EARSHOT_HOME).",
)
json_option: Decorator = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")


baseline_option: Decorator = click.option(
    "--baseline",
    metavar="RUN|TAG|FILE",
    help="What budgets against a baseline compare with. Default: what the budgets name, else the tag `baseline`.",
)
no_baseline_option: Decorator = click.option(
    "--no-baseline", is_flag=True, help="Leave out budgets against a baseline: for the run that becomes the first one."
)


def gating(store: Store, budgets: BudgetSet, baseline: str | None, no_baseline: bool) -> Gating:
    """Budgets with their baseline. Raises ArtifactError when one is needed and not there, UsageError for both flags."""
    from earshot.pipeline.evidence import find_baseline
    from earshot.pipeline.gating import Gating

    if no_baseline:
        if baseline:
            raise UsageError("--baseline and --no-baseline contradict each other", "give one of them")
        if left_out := len(budgets.against_baseline):
            click.echo(f"left out, because of --no-baseline: {left_out} budgets against a baseline", err=True)
        return Gating(budgets.without_baseline())
    if baseline and not budgets.against_baseline:
        raise UsageError(
            "--baseline has no effect: no budget compares with one",
            "add one: {metric: pesq_wb, relative_to: baseline, max_loss: 0.02}; or only look: earshot compare",
        )
    return Gating(budgets, find_baseline(store, budgets, baseline))


targets_option: Decorator = click.option(
    "--targets", metavar="NAME,NAME...", help="Devices to measure on, see `earshot targets`; sets profile.targets."
)


def targets_override(targets: str | None) -> list[str]:
    """The setting that `--targets` stands for, if it was given."""
    names = [name.strip() for name in (targets or "").split(",") if name.strip()]
    return [f"profile.targets={json.dumps(names)}"] if targets is not None else []


data_option = click.option(
    "--data", type=click.Path(file_okay=False, path_type=Path), help="Folder the YAML file calls ${EARSHOT_DATA}."
)


def set_option(example: str) -> Callable[..., Any]:
    """--set, with an example for its help."""
    return click.option(
        "--set",
        "overrides",
        metavar="KEY=VALUE",
        multiple=True,
        help=f"Change a key of the YAML file, e.g. --set {example}. May be repeated.",
    )


def recipe_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the RECIPE argument with --set and --data."""
    for decorate in (data_option, set_option("distill.epochs=3"), click.argument("recipe", default="quickstart")):
        command = decorate(command)
    return command


def open_store(root: Path) -> Store:
    """The store at a folder; damage met on the way is told on stderr."""
    from earshot.pipeline.store import Store

    return Store(root, on_damage=lambda message: click.echo(f"warning: {message}", err=True))
