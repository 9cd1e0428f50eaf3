"""`earshot report`: a finished run as files for others to read."""

from __future__ import annotations

from pathlib import Path

import click

from earshot.core.errors import UsageError
from earshot.pipeline.cli.options import open_store, store_option
from earshot.pipeline.cli.reports import SUFFIXES, checked, sound_option, write


@click.command()
@click.argument("names", metavar="[RUN] FILE...", nargs=-1, required=True)
@click.option(
    "--clips",
    metavar="ID",
    multiple=True,
    help="A clip of the test set to listen to. May be repeated. Default: three, chosen by quality.",
)
@sound_option
@click.option("--baseline", metavar="RUN|TAG|FILE", help="Also show the differences to another run.")
@store_option
def report(names: tuple[str, ...], clips: tuple[str, ...], sound: bool, baseline: str | None, store_root: Path) -> None:
    """Write reports of a finished run, with the verdicts it has.

    RUN is a run's name, a tag, `latest` (the default), or a run file when other files follow. FILE ends in .html (a
    page with charts and sound), .json, .md (Markdown), .xml (JUnit) or .csv (devices). Exit code 0 whatever the
    verdict: `earshot gate` judges.
    """
    from earshot.ci.difference import Pair
    from earshot.ci.run_file import read_run
    from earshot.pipeline.evidence import find_evidence, gather
    from earshot.pipeline.runs import find_run

    run, files = _divided(names)
    paths = checked([Path(name) for name in files])
    if clips and not sound:
        raise UsageError("--clips and --no-sound contradict each other", "give one of them")
    store = open_store(store_root)
    found = read_run(find_run(store, run))
    pair = Pair(find_evidence(store, baseline)[0], gather(found, store)) if baseline else None
    write(found, found.verdicts, paths, store, pair=pair, sound=sound, clips=clips)
    for path in paths:
        click.echo(path)


def _divided(names: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """The run and the files. A run file is told from a report by what comes after it."""
    first = Path(names[0]).suffix
    is_run = first not in SUFFIXES or (first == ".json" and len(names) > 1)
    if not is_run:
        return "latest", names
    if len(names) == 1:
        raise UsageError("no file to write the report to", f"earshot report {names[0]} report.html")
    return names[0], names[1:]


COMMANDS = (report,)
