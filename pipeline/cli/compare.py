"""`earshot compare`, `earshot baseline` and `earshot tag`: two runs side by side, and what others are compared with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from earshot.core.errors import UsageError
from earshot.pipeline.cli.options import json_option, open_store, store_option

if TYPE_CHECKING:
    from earshot.ci.budget import Budget
    from earshot.ci.difference import Pair
    from earshot.ci.run_file import Run

SUFFIXES = (".json", ".md")


@click.command(short_help="Compare two runs, and say how sure that is.")
@click.argument("base")
@click.argument("candidate", default="latest")
@click.option("--row", "rows", multiple=True, help="Rows to compare. Default: the row that ships. May be repeated.")
@click.option("--remeasure", is_flag=True, help="Take times anew, both models by turns on the same target.")
@click.option("--target", "targets", multiple=True, help="Where to take turns. Default: where both were timed.")
@click.option("--budgets", help="Judge these budgets against a baseline. Default: those of the candidate's recipe.")
@click.option("--quiet", is_flag=True, help="No progress bars.")
@click.option(
    "--report",
    "report",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also write a report; its ending says what: .json or .md (Markdown).",
)
@json_option
@store_option
def compare(
    *,
    base: str,
    candidate: str,
    rows: tuple[str, ...],
    remeasure: bool,
    targets: tuple[str, ...],
    budgets: str | None,
    quiet: bool,
    report: Path | None,
    as_json: bool,
    store_root: Path,
) -> None:
    """Compare CANDIDATE with BASE, metric by metric.

    Each is a run's name, a tag, `latest`, a run file, or a baseline file. Quality is compared clip by clip, counts
    exactly, times by rounds that both models take by turns (--remeasure), or as each run kept them, which is weaker.
    What does not compare (another evaluation set, protocol, device, engine, thread count) is refused with the reason.
    Exit code 1 when a budget against a baseline is missed or not decidable, 2 when nothing compares.
    """
    from earshot.ci.difference import Pair
    from earshot.ci.gate import judge, what_failed
    from earshot.ci.report import differences as report_differences
    from earshot.ci.verdict import exit_code
    from earshot.core.files import write_atomic
    from earshot.pipeline.cli.bars import drawer
    from earshot.pipeline.evidence import as_baseline, find_evidence

    if report is not None and report.suffix not in SUFFIXES:
        raise UsageError(f"'{report}' must end in .json or .md")
    if targets and not remeasure:
        raise UsageError("--target says where to take turns", "add --remeasure")
    store = open_store(store_root)
    evidence, run = find_evidence(store, candidate)
    pair = Pair(as_baseline(*find_evidence(store, base)), evidence)
    wanted: Sequence[str | None] = rows or (None,)
    _check_rows(pair, wanted)
    against = _budgets(run, budgets)
    if remeasure:
        from earshot.pipeline.remeasure import heats_of_rows, take_turns

        heats = heats_of_rows(pair, wanted, targets)
        with drawer(quiet or as_json) as progress:
            pair = take_turns(pair, heats, against, store, progress)
    differences = [found for row in wanted for found in pair.differences(row)]
    if all(found.refused is not None for found in differences):
        why = "; ".join(report_differences.refusals(differences)) or "neither holds a measurement"
        raise UsageError(f"{report_differences.heading(pair)}: nothing compares: {why}")
    verdicts = [*(what_failed(run) if run else ()), *judge(against, evidence.rows, run, pair)]
    data = report_differences.render_json(pair, differences, verdicts)
    if as_json:
        click.echo(data, nl=False)
    else:
        from earshot.ci.report import table
        from earshot.pipeline.cli.tables import console

        console().print(report_differences.render(pair, differences))
        if verdicts:
            console().print(table.render_verdicts(verdicts))
    if report is not None:
        markdown = report_differences.render_markdown(pair, differences, verdicts)
        write_atomic(report, data if report.suffix == ".json" else markdown)
    raise click.exceptions.Exit(exit_code(verdicts))


@click.command()
@click.argument("run")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@store_option
def baseline(run: str, file: Path, store_root: Path) -> None:
    """Write RUN as a baseline FILE (.json): for git, and for machines without this store.

    It holds rows, scores of every clip, and what times hold for; no sound, no weights, no paths.
    """
    from earshot.ci.evidence import baseline_text
    from earshot.core.files import write_atomic
    from earshot.pipeline.evidence import as_baseline, find_evidence

    if file.suffix != ".json":
        raise UsageError(f"'{file}' must end in .json")
    write_atomic(file, baseline_text(as_baseline(*find_evidence(open_store(store_root), run))))
    click.echo(f"baseline: {file}", err=True)


@click.command()
@click.argument("run")
@click.argument("name")
@store_option
def tag(run: str, name: str, store_root: Path) -> None:
    """Let the tag NAME mean RUN; `baseline` is what budgets compare with unless told otherwise.

    A tag that exists moves. Forget one with: earshot artifacts tag NAME --remove.
    """
    from earshot.pipeline.runs import set_tag

    set_tag(open_store(store_root), name, run)


def _check_rows(pair: Pair, rows: Sequence[str | None]) -> None:
    for name in rows:
        found = pair.rows(name)
        if None in found:
            side = pair.base if found[0] is None else pair.candidate
            known = ", ".join(row.row for row in side.rows)
            raise UsageError(f"{side.name}: no row '{name or 'that ships'}'; it has: {known or 'none'}")


def _budgets(run: Run | None, named: str | None) -> tuple[Budget, ...]:
    """The budgets against a baseline that are judged."""
    from earshot.ci.budget_set import load_budgets
    from earshot.ci.gate import recipe_budgets

    if named:
        return load_budgets(named).against_baseline
    return recipe_budgets(run).against_baseline if run else ()


COMMANDS = (compare, baseline, tag)
