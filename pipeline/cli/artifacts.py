"""`earshot artifacts`: what the store holds, where it came from, whether it is intact, what may go."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from earshot.core.errors import ArtifactError
from earshot.pipeline.cli.options import json_option, open_store, store_option

if TYPE_CHECKING:
    from rich.tree import Tree

    from earshot.pipeline.store import Store
    from earshot.pipeline.upkeep import Ancestor


@click.group()
def artifacts() -> None:
    """Look after what runs have made."""


@artifacts.command(name="list")
@store_option
@json_option
def list_(store_root: Path, as_json: bool) -> None:
    """List artifacts and runs."""
    from earshot.pipeline.cli.tables import show, size
    from earshot.pipeline.runs import run_names, tags

    store = open_store(store_root)
    made = sorted((_summary(folder) for folder in store.folders()), key=lambda item: str(item.get("created")))
    tagged = tags(store)
    runs: list[dict[str, Any]] = [
        {
            "run": name,
            "status": _status(store, name),
            "tags": [tag for tag, run in tagged.items() if run == name],
        }
        for name in run_names(store)
    ]
    if as_json:
        click.echo(json.dumps({"artifacts": made, "runs": runs}, indent=2))
        return
    rows = [
        (
            item["artifact"],
            item.get("created"),
            size(item.get("bytes", 0)),
            item.get("damaged") or ", ".join(item["files"]),
        )
        for item in made
    ]
    show(("artifact", "created", "size", "files"), rows)
    show(("run", "status", "tags"), [(run["run"], run["status"], ", ".join(run["tags"])) for run in runs])


@artifacts.command()
@click.argument("artifact")
@store_option
@json_option
def show(artifact: str, store_root: Path, as_json: bool) -> None:
    """Show one ARTIFACT: settings, files, measurements and lineage.

    ARTIFACT is a folder name from `artifacts list`, or the first digits of an identity.
    """
    from rich.json import JSON

    from earshot.pipeline.cli.tables import console, show_measurements, size
    from earshot.pipeline.cli.tables import show as show_table
    from earshot.pipeline.upkeep import lineage

    store = open_store(store_root)
    found = store.resolve(artifact)
    if as_json:
        click.echo(json.dumps(found.manifest.to_dict(), indent=2))
        return
    out = console()
    out.print(f"{found.path}\nidentity {found.id}\ncreated {found.manifest.created}, seed {found.manifest.seed}")
    out.print(JSON.from_data(found.manifest.config))
    show_table(("file", "size", "sha256"), [(n, size(e.bytes), e.sha256) for n, e in found.manifest.files.items()])
    if found.measurements:
        show_measurements(found.measurements)
    out.print("made from:")
    out.print(_tree(lineage(store, found.id)))


@artifacts.command()
@store_option
def verify(store_root: Path) -> None:
    """Check every byte of every artifact. Exit code 1 when one is damaged."""
    from earshot.pipeline.upkeep import verify as verify_all

    damaged = 0
    for folder, problem in verify_all(open_store(store_root)):
        click.echo(f"{'damaged' if problem else 'intact '}  {folder.name}" + (f"  {problem}" if problem else ""))
        damaged += problem is not None
    if damaged:
        click.echo(
            f"{damaged} damaged; remove with: earshot artifacts gc, or let the next run make them anew", err=True
        )
        raise click.exceptions.Exit(1)


@artifacts.command()
@click.option(
    "--keep-runs", type=click.IntRange(min=0), help="Keep this many of the newest runs beside the tagged ones."
)
@click.option("--scratch", is_flag=True, help="Also remove checkpoints of unfinished training.")
@click.option("--dry-run", is_flag=True, help="Only list what would go.")
@store_option
def gc(keep_runs: int | None, scratch: bool, dry_run: bool, store_root: Path) -> None:
    """Remove artifacts that no run needs, and damaged ones. Whatever a tagged run stands on is kept."""
    from earshot.pipeline.cli.tables import size
    from earshot.pipeline.upkeep import collect, removable

    store = open_store(store_root)
    removals = removable(store, keep_runs, scratch) if dry_run else collect(store, keep_runs, scratch)
    for removal in removals:
        click.echo(f"{removal.path.name}  {size(removal.bytes)}  {removal.reason}")
    verb = "would be freed" if dry_run else "freed"
    click.echo(f"{len(removals)} removed, {size(sum(removal.bytes for removal in removals))} {verb}")


@artifacts.command()
@click.argument("name")
@click.argument("run", required=False)
@click.option("--remove", is_flag=True, help="Forget the tag; the run stays.")
@store_option
def tag(name: str, run: str | None, remove: bool, store_root: Path) -> None:
    """Let the tag NAME mean RUN (default: the newest), so that gc keeps it and other commands find it."""
    from earshot.pipeline.runs import LATEST, remove_tag, set_tag

    store = open_store(store_root)
    if remove:
        remove_tag(store, name)
    else:
        set_tag(store, name, run or LATEST)


def _summary(folder: Path) -> dict[str, Any]:
    """One artifact as `list` shows it; its files are not opened."""
    from earshot.pipeline.manifest import read_manifest

    try:
        manifest = read_manifest(folder)
    except ArtifactError as error:
        return {"artifact": folder.name, "damaged": error.message}
    total = sum(entry.bytes for entry in manifest.files.values())
    return {"artifact": folder.name, "created": manifest.created, "bytes": total, "files": list(manifest.files)}


def _status(store: Store, name: str) -> str:
    from earshot.ci.run_file import read_run
    from earshot.pipeline.runs import run_path

    try:
        return read_run(run_path(store, name)).status
    except ArtifactError:
        return "damaged"


def _tree(ancestor: Ancestor, tree: Tree | None = None) -> Tree:
    from rich.text import Text
    from rich.tree import Tree

    label = Text(f"{ancestor.role}: {ancestor.stage or 'outside data, or removed'} {ancestor.id[:16]}")
    node = tree.add(label) if tree else Tree(label)
    for parent in ancestor.inputs:
        _tree(parent, node)
    return node


COMMANDS = (artifacts,)
