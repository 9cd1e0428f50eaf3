"""`earshot init`: a commented recipe to start from."""

from __future__ import annotations

import re
from pathlib import Path

import click

from earshot.core.errors import UsageError


@click.command()
@click.argument("path", type=click.Path(dir_okay=False, path_type=Path), default=Path("recipe.yaml"))
@click.option("--from", "source", default="quickstart", show_default=True, help="Which built-in recipe to start from.")
@click.option("--force", is_flag=True, help="Replace a file that exists.")
def init(path: Path, source: str, force: bool) -> None:
    """Write a commented recipe to start from.

    It goes to PATH (default: recipe.yaml) and runs as it is.
    """
    from earshot.core.files import write_atomic
    from earshot.pipeline.recipe import builtin_recipes

    recipes = builtin_recipes()
    if source not in recipes:
        raise UsageError(f"no built-in recipe '{source}'", f"there are: {', '.join(recipes)}")
    if path.exists() and not force:
        raise UsageError(f"{path}: exists already", "choose another name, or replace it with --force")
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).strip("-.") or "recipe"
    text = re.sub(r"(?m)^name: .*$", f"name: {name}", recipes[source].read_text(encoding="utf-8"), count=1)
    write_atomic(path, text)
    click.echo(f"{path}: change what you like, then run it with: earshot run {path}")


COMMANDS = (init,)
