"""`earshot profile`: what models cost on one target or on several side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from earshot.core.errors import ModelError, UsageError
from earshot.pipeline.cli.locate import MODEL_HELP, find_model
from earshot.pipeline.cli.options import json_option, open_store, store_option

if TYPE_CHECKING:
    from earshot.ci.comparison import Comparison
    from earshot.core.measurement import Measurement
    from earshot.pipeline.beside import Done
    from earshot.pipeline.profiling import Profiled
    from earshot.pipeline.progress import Progress
    from earshot.targets.base import ProfileConfig

FILE = click.Path(dir_okay=False, path_type=Path)
READY = "ready"  # stands for every target that can be driven now


@click.command(
    short_help="Time models on targets.",
    help=f"""Time each MODEL on every target; several models alternate, so that they compare.

    Targets run side by side, except this machine, whose clock wants it for itself. One that fails stops no other: it is
    shown as failed with what mends it, and the exit code is its (3, or 2 when it refused the models).

    MODEL is {MODEL_HELP}.""",
)
@click.argument("models", metavar="MODEL...", nargs=-1, required=True)
@click.option(
    "--target",
    "targets",
    multiple=True,
    default=("host",),
    show_default=True,
    help=f"See `earshot targets`. May be repeated; `{READY}` means every one that can be used now.",
)
@click.option("--frames", type=click.IntRange(min=1), help="Timed frames of one repeat.")
@click.option("--repeats", type=click.IntRange(min=1), help="Repeats of each model.")
@click.option("--core", type=click.IntRange(min=0), help="Core to pin to.")
@click.option("--no-delegate", is_flag=True, help="Plain kernels, without XNNPACK.")
@click.option(
    "--csv", "csv_path", type=click.Path(dir_okay=False, path_type=Path), help="Also write every number as CSV."
)
@click.option(
    "--html", "html_path", type=click.Path(dir_okay=False, path_type=Path), help="Also write a page with charts."
)
@click.option("--quiet", is_flag=True, help="No progress bars.")
@json_option
@store_option
def profile(
    *,
    models: tuple[str, ...],
    targets: tuple[str, ...],
    frames: int | None,
    repeats: int | None,
    core: int | None,
    no_delegate: bool,
    csv_path: Path | None,
    html_path: Path | None,
    quiet: bool,
    as_json: bool,
    store_root: Path,
) -> None:
    """Profiles models; the help text stands in the decorator because it shares MODEL_HELP."""
    import json

    from earshot.ci.report import devices
    from earshot.ci.report.html import devices as page
    from earshot.core.config import parse
    from earshot.core.files import write_atomic
    from earshot.pipeline.cli.bars import drawer
    from earshot.pipeline.comparing import compare_outcomes
    from earshot.targets.base import ProfileConfig

    given = {"frames": frames, "repeats": repeats, "core": core, "delegate": not no_delegate}
    config = parse(ProfileConfig, {key: value for key, value in given.items() if value is not None}, "options")
    names = _targets(targets)
    store = open_store(store_root)
    paths = _labelled([find_model(store, model) for model in models])
    with drawer(quiet) as progress:
        outcomes = _profile(names, paths, config, progress)
    comparison = compare_outcomes(outcomes, ", ".join(paths) if len(paths) <= 2 else f"{len(paths)} models")
    if csv_path is not None:
        write_atomic(csv_path, devices.render_csv(comparison))
    if html_path is not None:
        write_atomic(html_path, page.render(comparison))
    errors = [outcome.error for outcome in outcomes if outcome.error is not None]
    if as_json:
        click.echo(json.dumps(comparison.to_dict(), indent=2))
    elif len(errors) < len(outcomes) or len(errors) > 1:
        _show(comparison)
    if len(outcomes) == len(errors) == 1:
        raise errors[0]
    if errors:
        failed = ", ".join(outcome.name for outcome in outcomes if outcome.error is not None)
        click.echo(f"error: {len(errors)} of {len(outcomes)} targets failed: {failed}", err=True)
        raise click.exceptions.Exit(max(error.exit_code for error in errors))


def _targets(named: Sequence[str]) -> list[str]:
    """Every target once, `ready` spelt out. Raises UsageError, before anything runs, for a name that is not known."""
    from earshot.pipeline.cli.targets import target_states
    from earshot.targets.registry import find_profile

    ready = [state.name for state in target_states() if state.ok] if READY in named else []
    names = list(dict.fromkeys(name for one in named for name in (ready if one == READY else [one])))
    for name in names:
        find_profile(name)
    if not names:
        raise UsageError("no target can be used now", "see what each needs: earshot targets")
    return names


def _labelled(paths: Sequence[Path]) -> dict[str, Path]:
    """Short name -> file: the file's name where that tells the models apart, else its path."""
    for path in paths:
        if path.suffix != ".tflite":
            raise ModelError(f"{path}: only a .tflite can be profiled", "convert it first: earshot run")
    short = len({path.name for path in paths}) == len(set(paths))
    return {path.name if short else str(path): path for path in paths}


def _profile(
    names: Sequence[str], paths: dict[str, Path], config: ProfileConfig, progress: Progress
) -> list[Done[Profiled]]:
    """How each target ended, in the order of `names`."""
    from functools import partial

    from earshot.pipeline.beside import Task, side_by_side
    from earshot.pipeline.profiling import profile_on
    from earshot.targets.registry import open_target

    opened = {name: open_target(name) for name in names}
    tasks = [
        Task(name, target.exclusive, partial(profile_on, target, paths, config)) for name, target in opened.items()
    ]
    ended = {done.name: done for done in side_by_side(tasks, progress)}
    return [ended[name] for name in names]


def _show(comparison: Comparison) -> None:
    """One target: every metric with its sample count, a column a model. Several: the cross-device table."""
    from earshot.ci.report import devices
    from earshot.ci.report.layout import MARKS, clean
    from earshot.pipeline.cli.tables import console, number, show

    if len(comparison.devices) > 1 or not comparison.devices[0].results:
        console().print(devices.render(comparison))
        return
    (device,) = comparison.devices

    def marked(found: Measurement | None) -> str | None:
        if found is None:
            return None
        return f"{MARKS.get(found.provenance, '')}{number(found.value)}{'!' if found.flags else ''}"

    metrics = {found.metric: found.unit for result in device.results for found in result.measurements}
    rows = []
    for metric, unit in metrics.items():
        cells = [result.find(metric) for result in device.results]
        samples = dict.fromkeys(str(found.n) for found in cells if found is not None)
        rows.append((metric, unit, ", ".join(samples) or None, *map(marked, cells)))
    show(("metric", "unit", "n", *(result.model for result in device.results)), rows, f"on {device.target}, one stream")
    for note in (*devices.marks(comparison), *devices.reasons(comparison)):
        click.echo(clean(note))


COMMANDS = (profile,)
