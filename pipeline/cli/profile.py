"""`earshot profile`: how long models take on a target."""

from __future__ import annotations

from pathlib import Path

import click

from earshot.core.errors import DeviceError, ModelError
from earshot.pipeline.cli.locate import MODEL_HELP, find_model
from earshot.pipeline.cli.options import json_option, open_store, store_option


@click.command(
    short_help="Time models on a target.",
    help=f"Time each MODEL on a target; several alternate, so that they compare.\n\nMODEL is {MODEL_HELP}.",
)
@click.argument("models", metavar="MODEL...", nargs=-1, required=True)
@click.option("--target", default="host", show_default=True, help="See `earshot targets`.")
@click.option("--frames", type=click.IntRange(min=1), help="Timed frames of one repeat.")
@click.option("--repeats", type=click.IntRange(min=1), help="Repeats of each model.")
@click.option("--core", type=click.IntRange(min=0), help="Core to pin to.")
@click.option("--no-delegate", is_flag=True, help="Plain kernels, without XNNPACK.")
@click.option("--quiet", is_flag=True, help="No progress bars.")
@json_option
@store_option
def profile(
    *,
    models: tuple[str, ...],
    target: str,
    frames: int | None,
    repeats: int | None,
    core: int | None,
    no_delegate: bool,
    quiet: bool,
    as_json: bool,
    store_root: Path,
) -> None:
    """Profiles models; the help text stands in the decorator because it shares MODEL_HELP."""
    import json

    from earshot.core.config import parse
    from earshot.pipeline.cli.bars import drawer
    from earshot.pipeline.cli.tables import number, show
    from earshot.targets.base import ProfileConfig
    from earshot.targets.registry import open_target

    given = {"frames": frames, "repeats": repeats, "core": core, "delegate": not no_delegate}
    config = parse(ProfileConfig, {key: value for key, value in given.items() if value is not None}, "options")
    device = open_target(target)
    available = device.availability()
    if not available.ok:
        raise DeviceError(f"target {target}: {available.reason}", available.enable)
    store = open_store(store_root)
    paths = [find_model(store, model) for model in models]
    for path in paths:
        if path.suffix != ".tflite":
            raise ModelError(f"{path}: only a .tflite can be profiled", "convert it first: earshot run")
    with drawer(quiet) as progress:
        results = device.profile({str(path): path for path in paths}, config, progress)
    if as_json:
        found = [
            {
                "model": result.variant,
                "measurements": [measurement.to_dict() for measurement in result.measurements],
                "environment": dict(result.environment),
            }
            for result in results
        ]
        click.echo(json.dumps(found, indent=2))
        return
    names = [result.variant for result in results]
    rows = zip(*(result.measurements for result in results), strict=True)
    show(
        ("metric", "unit", *names),
        [(row[0].metric, row[0].unit, *(number(measurement.value) for measurement in row)) for row in rows],
        f"on {target}, one stream, {config.repeats} repeats of {config.frames} frames each",
    )


COMMANDS = (profile,)
