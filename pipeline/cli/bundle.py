"""`earshot bundle` and `earshot verify`: a run's model as a file to hand over, and whether such a file is whole."""

from __future__ import annotations

from pathlib import Path

import click

from earshot.pipeline.cli.options import (
    baseline_option,
    gating,
    json_option,
    no_baseline_option,
    open_store,
    store_option,
)

KINDS = ("pi", "android", "cortex-m", "ethos-u")


@click.command()
@click.argument("run", default="latest")
@click.option("--target", type=click.Choice(KINDS), required=True, help="Class of device.")
@click.option("--device", metavar="NAME", help="A target of that class whose settings count, e.g. cortex-m55.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Default: RUN-TARGET.zip.")
@click.option("--budgets", help="A budget file, or a set that comes with earshot. Default: those of the run's recipe.")
@baseline_option
@no_baseline_option
@click.option("--anyway", is_flag=True, help="Also when the gate failed; the model card says so in its first line.")
@click.option("--sign", "key", type=click.Path(path_type=Path), metavar="KEY", help="A private SSH key to sign with.")
@click.option("--license", "licence", metavar="TEXT", help="Licence of the weights, for card and bill of materials.")
@store_option
def bundle(
    *,
    run: str,
    target: str,
    device: str | None,
    out: Path | None,
    budgets: str | None,
    baseline: str | None,
    no_baseline: bool,
    anyway: bool,
    key: Path | None,
    licence: str | None,
    store_root: Path,
) -> None:
    """Write a zip with a run's model and all it takes to use it on a device.

    RUN is a run's name, a tag, `latest`, or a run file. The same run gives the same bytes. Exit code 1 when the run's
    gate failed.
    """
    from earshot.ci.budget_set import load_budgets
    from earshot.ci.gate import gate, recipe_budgets
    from earshot.ci.report.layout import clean
    from earshot.ci.run_file import read_run
    from earshot.ci.verdict import passed
    from earshot.pipeline.bundle.make import Request, make_bundle
    from earshot.pipeline.runs import find_run, fit_name

    store = open_store(store_root)
    found = read_run(find_run(store, run))
    path = out or Path(f"{fit_name(found.name)}-{target}.zip")
    judged = gating(store, load_budgets(budgets) if budgets else recipe_budgets(found), baseline, no_baseline)
    verdicts = gate(found, judged.budgets, judged.pair(found, store))
    if not passed(verdicts) and not anyway:
        for verdict in verdicts:
            if not passed([verdict]):
                click.echo(clean(f"{verdict.budget}: {verdict.reason}"), err=True)
        click.echo(f"error: the gate of run {clean(found.name)} failed, so it is not bundled", err=True)
        click.echo("fix: mend the model, or bundle it --anyway; its card will say so", err=True)
        raise click.exceptions.Exit(1)
    made = make_bundle(store, found, verdicts, Request(target, device, key, licence), path)  # type: ignore[arg-type]
    click.echo(f"{path}: {len(made.contents)} files, {path.stat().st_size:,} bytes, {made.precision} for {made.device}")
    click.echo(f"check it with: earshot verify {path}" + (f" --key {key}.pub" if key else ""))


@click.command()
@click.argument("bundle", metavar="BUNDLE", type=click.Path(path_type=Path))
@click.option(
    "--key", type=click.Path(path_type=Path), metavar="PUB", help="The public SSH key it must be signed with."
)
@json_option
def verify(bundle: Path, key: Path | None, as_json: bool) -> None:
    """Check every byte of a bundle, that nothing is missing or added, and who signed it. Nothing is unpacked.

    Exit code 1 when it is not what was made.
    """
    import json

    from earshot.ci.report.layout import clean
    from earshot.pipeline.bundle.verify import verify as check

    found = check(bundle, key)
    if as_json:
        said = found.description.model_dump(mode="json", by_alias=True) if found.description else None
        problems = [{"file": problem.file, "problem": problem.what} for problem in found.problems]
        click.echo(json.dumps({"bundle": said, "signature": found.signature, "problems": problems}, indent=2))
    else:
        for problem in found.problems:
            click.echo(f"{bundle}: {clean(str(problem))}", err=True)
    if found.problems:
        raise click.exceptions.Exit(1)
    if not as_json and found.description:
        about = found.description
        signed = {"none": "not signed", "not checked": "signed, not checked: give --key", "good": "signed by that key"}
        click.echo(f"{bundle}: intact, {found.files} files, {signed[found.signature]}")
        click.echo(clean(f"{about.run}: {about.precision} for {about.target} ({about.device}); its gate: {about.gate}"))


COMMANDS = (bundle, verify)
