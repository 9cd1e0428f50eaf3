"""`earshot models`, `methods` and `targets`: what recipes can name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import click


@dataclass(frozen=True)
class TargetState:
    """A target and whether it can be driven from here.

    Attributes:
        name: what recipes and budgets call it.
        ok: it can be used now.
        detail: its kind, or why it cannot be used.
        enable: the command that enables it.
    """

    name: str
    ok: bool
    detail: str
    enable: str


def target_states() -> Iterator[TargetState]:
    """Every registered target; nothing is started."""
    from earshot.targets.registry import builtin_profiles, open_target

    for name in builtin_profiles():
        target = open_target(name)
        available = target.availability()
        yield TargetState(name, available.ok, target.kind if available.ok else available.reason, available.enable)


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


@click.command()
def targets() -> None:
    """List the devices models can be timed on."""
    from earshot.pipeline.cli.tables import show

    rows = [(state.name, "yes" if state.ok else "no", state.detail, state.enable) for state in target_states()]
    show(("target", "available", "detail", "to enable it"), rows)


def _sizes(params: type) -> str:
    fields = getattr(params, "model_fields", {})
    return ", ".join(f"{name}={field.default}" for name, field in fields.items())


def _first_line(thing: object) -> str:
    return (thing.__doc__ or "").strip().partition("\n")[0]


COMMANDS = (models, methods, targets)
