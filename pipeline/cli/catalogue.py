"""`earshot models` and `methods`: what recipes can name."""

from __future__ import annotations

import click


@click.command()
@click.argument("names", metavar="[NAME]...", nargs=-1)
def models(names: tuple[str, ...]) -> None:
    """List the networks a recipe can build, with their usual sizes, or all sizes of the networks NAME.

    Your own: `network: package.module:Name`.
    """
    from earshot.models.registry import NETWORKS, build, network
    from earshot.pipeline.cli.tables import number, show

    if names:
        for name in names:
            kind = network(name)
            show(("size", "usual", "type"), _sizes(kind.Params), f"{name}: {_first_line(kind)}")
        return
    from earshot.models.cost import cost

    rows = []
    for name in NETWORKS:
        kind = network(name)
        found = {one.metric: one.value or 0.0 for one in cost(build(name, kind.usual, {}))}
        rows.append(
            (
                name,
                "yes" if kind.causal else "no, can only teach",
                number(found["parameters"] / 1e3),
                number(found["macs_per_second"] / 1e6) if kind.causal else "-",
                number(found["algorithmic_latency_ms"]) if kind.causal else "-",
                _first_line(kind),
            )
        )
    header = ("network", "streams", "parameters (k)", "MAC/s (M)", "latency (ms)", "what it is, and its source")
    show(header, rows, "at their usual sizes and frontends; the sizes of one: earshot models NAME")


@click.command()
def methods() -> None:
    """List the distillation methods a recipe can name."""
    from earshot.models.registry import lookup
    from earshot.pipeline.cli.tables import show
    from earshot.pipeline.distillation.registry import METHODS

    rows = [(name, _first_line(lookup(name, METHODS, "method"))) for name in METHODS]
    rows.append(
        ("(online: {...})", "Several students chase real metrics and teach each other (MetricGAN-OKD, ICML 2023).")
    )
    show(("method", "what it is"), rows)


def _sizes(params: type) -> list[tuple[str, str, str]]:
    fields = getattr(params, "model_fields", {})
    return [(name, str(field.default), _readable(field.annotation)) for name, field in fields.items()]


def _readable(annotation: object) -> str:
    return annotation.__name__ if type(annotation) is type else str(annotation).replace("typing.", "")


def _first_line(thing: object) -> str:
    return (thing.__doc__ or "").strip().partition("\n")[0]


COMMANDS = (models, methods)
