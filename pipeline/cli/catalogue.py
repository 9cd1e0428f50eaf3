"""`earshot models` and `methods`: what recipes can name."""

from __future__ import annotations

import click


@click.command()
def models() -> None:
    """List the networks a recipe can build.

    Your own: `network: package.module:Name`.
    """
    from earshot.models.registry import NETWORKS, network
    from earshot.pipeline.cli.tables import show

    known = {name: network(name) for name in NETWORKS}
    rows = [
        (name, "yes" if found.causal else "no, can only teach", _sizes(found.Params), _first_line(found))
        for name, found in known.items()
    ]
    show(("network", "streams", "params (default)", "what it is"), rows)


@click.command()
def methods() -> None:
    """List the distillation methods a recipe can name."""
    from earshot.models.registry import lookup
    from earshot.pipeline.cli.tables import show
    from earshot.pipeline.distillation.registry import METHODS

    rows = [(name, _first_line(lookup(name, METHODS, "method"))) for name in METHODS]
    show(("method", "what it is"), rows)


def _sizes(params: type) -> str:
    fields = getattr(params, "model_fields", {})
    return ", ".join(f"{name}={field.default}" for name, field in fields.items())


def _first_line(thing: object) -> str:
    return (thing.__doc__ or "").strip().partition("\n")[0]


COMMANDS = (models, methods)
