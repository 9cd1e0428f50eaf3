"""The command `earshot`: one group of commands, and what every failure looks like.

Exit codes: 0 all is well, 1 a gate failed, 2 the request is wrong, 3 the machine failed, 130 interrupted.

Modules of commands import nothing heavy at their top: `earshot --help` answers at once.
"""

from __future__ import annotations

import sys
import traceback
from typing import Any

import click

from earshot.core.errors import EarshotError
from earshot.pipeline.cli import (
    artifacts,
    bundle,
    catalogue,
    check,
    codegen,
    compare,
    compiled,
    doctor,
    enhance,
    evaluate,
    explain,
    gate,
    history,
    init,
    profile,
    remote,
    report,
    run,
    study,
    targets,
)

INTERRUPTED = 130
UNEXPECTED = 3


class Application(click.Group):
    """A group whose failures end in one `error:` line, a `fix:` line where there is one, and the exit code they own."""

    def invoke(self, ctx: click.Context) -> Any:
        """Runs a command and turns what it raises into lines on stderr and an exit code."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except KeyboardInterrupt as error:
            click.echo("interrupted; what is finished is kept, and the next run resumes", err=True)
            raise click.exceptions.Exit(INTERRUPTED) from error
        except EarshotError as error:
            _explain(error.message, error.hint, ctx.params["debug"])
            raise click.exceptions.Exit(error.exit_code) from error
        except Exception as error:
            hint = "if earshot is at fault, report it with what this prints: earshot --debug ..."
            _explain(f"unexpected {type(error).__name__}: {error}", hint, ctx.params["debug"])
            raise click.exceptions.Exit(UNEXPECTED) from error


@click.group(cls=Application, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--debug", is_flag=True, envvar="EARSHOT_DEBUG", help="Show the traceback of an error.")
@click.version_option(package_name="earshot")
def application(debug: bool) -> None:
    """Turn a speech-enhancement network into a device-ready int8 streaming model, gated on quality and latency.

    Start with `earshot run`, or write a recipe of your own with `earshot init`.
    """


for _module in (
    run,
    check,
    study,
    evaluate,
    profile,
    gate,
    explain,
    compare,
    history,
    report,
    enhance,
    artifacts,
    codegen,
    compiled,
    bundle,
    remote,
    catalogue,
    targets,
    doctor,
    init,
):
    for _command in _module.COMMANDS:
        application.add_command(_command)


def main() -> None:
    """Entry point of the `earshot` script."""
    try:
        application(prog_name="earshot")
    except KeyboardInterrupt:  # while modules were being imported
        sys.exit(INTERRUPTED)


def _explain(message: str, hint: str | None, debug: bool) -> None:
    if debug:
        traceback.print_exc()
    click.echo(f"error: {_plain(message)}", err=True)
    if hint:
        click.echo(f"fix: {_plain(hint)}", err=True)


def _plain(text: str) -> str:
    """One line of characters that a terminal shows: messages quote files that anyone may have written."""
    return "".join(character if character.isprintable() else "\ufffd" for character in " ".join(text.splitlines()))
