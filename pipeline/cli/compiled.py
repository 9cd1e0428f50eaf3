"""`earshot compile`: a stream model as an NPU's driver runs it."""

from __future__ import annotations

from pathlib import Path

import click

from earshot.core.errors import DeviceError, ModelError, UsageError
from earshot.pipeline.cli.locate import MODEL_HELP, find_model
from earshot.pipeline.cli.options import open_store, store_option


@click.command(
    name="compile",
    short_help="Compile a model for an NPU.",
    help=f"Compile an integer MODEL for an NPU into the file OUT, as its driver runs it.\n\nMODEL is {MODEL_HELP}.",
)
@click.argument("model")
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--target", default="ethos-u55", show_default=True, help="See `earshot targets`.")
@store_option
def compile_(*, model: str, out: Path, target: str, store_root: Path) -> None:
    """Compiles; the help text stands in the decorator because it shares MODEL_HELP."""
    from earshot.targets.npu.target import EthosUTarget
    from earshot.targets.registry import open_target

    device = open_target(target)
    if not isinstance(device, EthosUTarget):
        raise UsageError(f"target {target} is no NPU", "see: earshot targets")
    path = find_model(open_store(store_root), model)
    if path.suffix != ".tflite":
        raise ModelError(f"{path}: only a .tflite can be compiled", "convert it first: earshot run")
    state = device.availability()
    if not state.ok:
        raise DeviceError(f"target {target}: {state.reason}", state.enable)
    report = device.compile(path, out)
    click.echo(f"{out}: {report.compiled_bytes:,} bytes for {device.config.accelerator}")
    for left in report.fallbacks:
        click.echo(f"on the CPU: {left.operator} {left.tensor} ({left.reason})", err=True)


COMMANDS = (compile_,)
