"""`earshot codegen`: a stream model as C for a microcontroller."""

from __future__ import annotations

from pathlib import Path

import click

from earshot.pipeline.cli.locate import MODEL_HELP, find_model
from earshot.pipeline.cli.options import json_option, open_store, store_option


@click.command(
    short_help="Write a model as dependency-free C.",
    help="Write an integer MODEL as C99 that needs nothing but a compiler, into the folder OUT: the network, and the "
    "frontend around it (sound in, enhanced sound out). Nothing is written for a model that cannot become C.\n\n"
    f"MODEL is {MODEL_HELP}.",
)
@click.argument("model")
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.option("--name", default="model", show_default=True, help="Prefix of the files and of every symbol.")
@click.option("--network-only", is_flag=True, help="Leave the frontend out: the application brings its own.")
@json_option
@store_option
def codegen(*, model: str, out: Path, name: str, network_only: bool, as_json: bool, store_root: Path) -> None:
    """Generates C; the help text stands in the decorator because it shares MODEL_HELP."""
    import json
    from dataclasses import asdict

    from earshot.core.errors import ModelError
    from earshot.pipeline.cli.tables import show
    from earshot.quantize.c import generate

    path = find_model(open_store(store_root), model)
    if path.suffix != ".tflite":
        raise ModelError(f"{path}: only a .tflite can become C", "convert it first: earshot run")
    generated = generate(path, out, name, with_frontend=not network_only)
    if as_json:
        click.echo(json.dumps(asdict(generated), indent=2))
        return
    rows = [
        (str(operator.index), operator.name, operator.location, f"{operator.macs:,}", f"{operator.flash_bytes:,}")
        for operator in generated.operators
    ]
    show(("#", "operator", "output", "MACs", "flash bytes"), rows, f"{path.name} as C")
    click.echo(f"{out}: {len(generated.files)} files; {out / 'README.md'} says how to build them")
    click.echo(
        f"a frame: {generated.macs:,} MACs; flash {generated.flash_bytes:,} bytes without code; RAM arena "
        f"{generated.arena_bytes:,} bytes (at least {generated.arena_lower_bound:,}), states "
        f"{generated.state_bytes:,} bytes"
    )


COMMANDS = (codegen,)
