"""Running a tool that makes something for a target: it ends in time, and when it fails its last words say why."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from earshot.core.errors import ToolError


@contextmanager
def running(command: Sequence[str], scratch: Path, seconds: float, hint: str) -> Iterator[subprocess.Popen[bytes]]:
    """A tool at work, its standard output to be read; when the block ends it must end too, and well.

    Args:
        command: the tool and its arguments.
        scratch: folder for its temporary files.
        seconds: after which it is ended.
        hint: what to do when it fails.

    Raises:
        ToolError: it is not installed, took too long, or failed; the message holds its last words.
    """
    name = Path(command[0]).name
    with tempfile.TemporaryFile() as errors:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**os.environ, "TMPDIR": str(scratch)},
            )
        except FileNotFoundError as error:
            raise ToolError(f"{name} is not installed", f"sudo apt-get install {name}") from error
        expired = threading.Event()

        def end() -> None:
            expired.set()
            process.terminate()

        alarm = threading.Timer(seconds, end)
        alarm.daemon = True
        alarm.start()
        with process:  # closes the pipe and waits
            try:
                yield process
                while process.stdout and process.stdout.read(1 << 16):
                    pass  # what the block left; a closed pipe would be an error of the tool's
            except BaseException:
                process.terminate()
                raise
            finally:
                alarm.cancel()
        if expired.is_set():
            raise ToolError(f"{name} took longer than {seconds:g} s", hint)
        if process.returncode:
            errors.seek(0)
            last = last_words(errors.read().decode(errors="replace"))
            how = f"ended with code {process.returncode}" + (f": {last}" if last else "")
            raise ToolError(f"{name} {how}", hint)


def last_words(text: str) -> str:
    """The last error that a tool reported, as apt and pip mark them, else its last line, or nothing."""
    lines = text.strip().splitlines()
    return next((line for line in reversed(lines) if line.startswith(("E:", "ERROR:"))), "".join(lines[-1:]))


def bound_to_this_process() -> list[str]:
    """What to put before a command so that it dies with this process, even when that is killed; Linux only."""
    return ["setpriv", "--pdeathsig", "KILL", "--"] if shutil.which("setpriv") else []
