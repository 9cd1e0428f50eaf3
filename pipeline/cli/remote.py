"""`earshot push` and `earshot pull`: artifacts, runs and tags, shared with other machines."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from earshot.pipeline.cli.options import json_option, open_store, store_option

if TYPE_CHECKING:
    from earshot.pipeline.remote.push import Transfer

_LOCATION = (
    "LOCATION is a folder or anything fsspec reaches: s3://BUCKET/PATH, sftp://HOST/PATH. Credentials come from the "
    "environment or a configuration file, never from LOCATION."
)


@click.command(
    short_help="Send artifacts, runs and tags to a shared place.",
    help="Send RUNs (names, tags, `latest`), all they stand on and their tags to LOCATION; without RUN all that the "
    f"store holds. What is there is not sent again.\n\n{_LOCATION}",
)
@click.argument("location")
@click.argument("runs", metavar="[RUN]...", nargs=-1)
@click.option("--quiet", is_flag=True, help="No progress bars.")
@json_option
@store_option
def push(*, location: str, runs: tuple[str, ...], quiet: bool, as_json: bool, store_root: Path) -> None:
    """Sends; the help text stands in the decorator because it shares _LOCATION."""
    from earshot.pipeline.cli.bars import drawer
    from earshot.pipeline.remote.folder import RemoteFolder
    from earshot.pipeline.remote.push import push as send

    remote = RemoteFolder(location)
    with drawer(quiet) as progress:
        done = send(open_store(store_root), remote, runs, progress)
    _show(done, remote.name, "sent", "there already", as_json)


@click.command(
    short_help="Fetch artifacts, runs and tags from a shared place.",
    help="Fetch RUNs (names or tags there), all they stand on and their tags from LOCATION; without RUN all that is "
    f"there. Every byte is checked before it enters the store.\n\n{_LOCATION}",
)
@click.argument("location")
@click.argument("runs", metavar="[RUN]...", nargs=-1)
@click.option("--quiet", is_flag=True, help="No progress bars.")
@json_option
@store_option
def pull(*, location: str, runs: tuple[str, ...], quiet: bool, as_json: bool, store_root: Path) -> None:
    """Fetches; the help text stands in the decorator because it shares _LOCATION."""
    from earshot.pipeline.cli.bars import drawer
    from earshot.pipeline.remote.folder import RemoteFolder
    from earshot.pipeline.remote.pull import pull as fetch

    remote = RemoteFolder(location)
    with drawer(quiet) as progress:
        done = fetch(open_store(store_root), remote, runs, progress)
    _show(done, remote.name, "fetched", "here already", as_json)


def _show(done: Transfer, name: str, verb: str, known: str, as_json: bool) -> None:
    from earshot.pipeline.cli.tables import size

    if as_json:
        click.echo(json.dumps(asdict(done), indent=2))
        return
    click.echo(f"{name}: {len(done.artifacts)} artifacts {verb} ({size(done.bytes)}), {done.known} {known}")
    if done.runs:
        click.echo(f"runs {verb}: {', '.join(done.runs)}")
    if done.tags:
        click.echo(f"tags {verb}: {', '.join(done.tags)}")


COMMANDS = (push, pull)
