"""`earshot targets`: the devices models can be timed on, and the user's own among them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from earshot.core.errors import DeviceError, EarshotError, UsageError

SSH_ADDRESS = re.compile(r"(?:(?P<user>[^@:\s]+)@)?(?P<host>[^@:\[\]\s]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>\d+))?")
DEFAULT_PI = "raspberry-pi-4"


@dataclass(frozen=True)
class TargetState:
    """A target and whether it can be driven from here.

    Attributes:
        name: what recipes and budgets call it.
        ok: it can be used now.
        kind: class of device.
        detail: its title, or why it cannot be used.
        enable: the command that enables it.
    """

    name: str
    ok: bool
    kind: str
    detail: str
    enable: str


def target_states() -> Iterator[TargetState]:
    """Every target by name, one whose entry is wrong included; nothing is started. Raises ConfigError."""
    from earshot.targets.registry import find_profile, known_targets, open_target

    for name in known_targets():
        try:
            profile, target = find_profile(name), open_target(name)
            state = target.availability()
        except EarshotError as error:
            yield TargetState(name, False, "", error.message, error.hint or "")
            continue
        title = profile.title if profile else ""
        yield TargetState(name, state.ok, target.kind, title if state.ok else state.reason, state.enable)


@click.group(invoke_without_command=True)
@click.pass_context
def targets(context: click.Context) -> None:
    """List the devices models can be timed on; add, remove, show and set them up.

    Names of the list are targets everywhere: --target, --targets, profile.targets of a recipe, target of a budget.
    """
    if context.invoked_subcommand is None:
        context.invoke(list_)


@targets.command(name="list")
def list_() -> None:
    """List every target, whether it can be used now, and how to enable it."""
    from earshot.pipeline.cli.tables import show as show_table

    rows = [
        (state.name, "yes" if state.ok else "no", state.kind, state.detail, state.enable or None)
        for state in target_states()
    ]
    show_table(("target", "ready", "kind", "detail", "to enable it"), rows)


@targets.command()
@click.argument("name")
@click.option("--ssh", "address", metavar="[USER@]HOST[:PORT]", help="A device that is reached over SSH.")
@click.option("--key", type=click.Path(dir_okay=False), help="File of the private key; only its path is kept.")
@click.option("--adb", "serial", metavar="SERIAL", help="A phone, as `adb devices` names it.")
@click.option(
    "--profile", help=f"What the device is, see `earshot targets`. Default: {DEFAULT_PI} with --ssh, phone with --adb."
)
@click.option("--title", help="Its name for people.")
@click.option(
    "--set", "settings", metavar="OPTION=VALUE", multiple=True, help="An option of the driver. May be repeated."
)
def add(
    *,
    name: str,
    address: str | None,
    key: str | None,
    serial: str | None,
    profile: str | None,
    title: str | None,
    settings: tuple[str, ...],
) -> None:
    """Add a device of your own under NAME.

    It is kept in EARSHOT_DEVICES, else in earshot/devices.yaml of your configuration folder. Nothing is contacted yet.
    """
    from earshot.core.config import parse
    from earshot.targets.inventory import DeviceEntry, add_device
    from earshot.targets.registry import open_profile

    if address and serial:
        raise UsageError("a device is reached over SSH or over adb, not both", "give --ssh or --adb")
    if key and not address:
        raise UsageError("--key belongs to --ssh", "give --ssh USER@HOST too")
    profile = profile or (DEFAULT_PI if address else "phone" if serial else None)
    if profile is None:
        raise UsageError("which device is it?", "give --ssh USER@HOST, --adb SERIAL, or --profile NAME")
    options = _settings(settings) | (_ssh(address) if address else {})
    options |= {"key": _key(key)} if key else {}
    options |= {"serial": serial} if serial else {}
    entry = parse(DeviceEntry, {"profile": profile, "title": title, "options": options}, f"target {name}")
    state = open_profile(name, entry.device()).availability()
    path = add_device(name, entry)
    click.echo(f"{name}: added to {path}")
    if not state.ok:
        click.echo(f"not ready yet: {state.reason}" + (f"\nfix: {state.enable}" if state.enable else ""), err=True)


@targets.command()
@click.argument("name")
def remove(name: str) -> None:
    """Remove the device NAME from your inventory."""
    from earshot.targets.inventory import remove_device

    click.echo(f"{name}: removed from {remove_device(name)}")


@targets.command()
@click.argument("name")
def show(name: str) -> None:
    """Show what is known of the target NAME: its profile, options, budgets and state."""
    import yaml

    from earshot.targets.registry import find_profile, open_target

    profile, state = find_profile(name), open_target(name).availability()
    known: dict[str, Any] = {"target": name}
    if profile is not None:
        known |= profile.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    known["ready"] = state.ok
    known |= {key: text for key, text in (("reason", state.reason), ("enable", state.enable)) if text}
    click.echo(yaml.safe_dump(known, sort_keys=False, allow_unicode=True, width=120), nl=False)


@targets.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option("--quiet", is_flag=True, help="No progress bars.")
def setup(names: tuple[str, ...], quiet: bool) -> None:
    """Build or install what the targets NAME need, once: images, emulator tools, compilers of their own.

    One that cannot be made ready stops no other; the exit code is then 3.
    """
    from earshot.pipeline.cli.bars import drawer
    from earshot.targets.base import NeedsSetup
    from earshot.targets.registry import open_target

    opened = [(name, open_target(name)) for name in names]
    codes = []
    for name, target in opened:
        try:
            if isinstance(target, NeedsSetup):
                with drawer(quiet) as progress:
                    target.setup(progress)
            state = target.availability()
            if not state.ok:
                raise DeviceError(f"target {name}: {state.reason}", state.enable or None)
            click.echo(f"{name}: ready")
        except EarshotError as error:
            click.echo(f"error: {error.message}" + (f"\nfix: {error.hint}" if error.hint else ""), err=True)
            codes.append(error.exit_code)
    raise click.exceptions.Exit(max(codes, default=0))


def _ssh(address: str) -> dict[str, Any]:
    found = SSH_ADDRESS.fullmatch(address)
    if found is None:
        raise UsageError(
            f"--ssh {address}: not an address", "write USER@HOST or USER@HOST:PORT; passwords are not kept, use a key"
        )
    port = int(found["port"]) if found["port"] else None
    parts = {"host": found["host"].strip("[]"), "port": port, "user": found["user"]}
    return {word: value for word, value in parts.items() if value is not None}


def _key(path: str) -> str:
    """The file of a key as it is found from any folder."""
    found = Path(path).expanduser()
    if not found.is_file():
        raise UsageError(f"--key {path}: no such file", "make one with: ssh-keygen -t ed25519")
    return str(found.absolute())


def _settings(settings: tuple[str, ...]) -> dict[str, Any]:
    import yaml

    options: dict[str, Any] = {}
    for setting in settings:
        word, equals, text = setting.partition("=")
        if not equals or not word:
            raise UsageError(f"--set {setting}: not a setting", "write --set option=value")
        try:
            options[word] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise UsageError(f"--set {setting}: the value is not YAML", "quote it: --set 'option=\"text\"'") from error
    return options


COMMANDS = (targets,)
