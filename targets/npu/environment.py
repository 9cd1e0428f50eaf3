"""The Python environment that Vela lives in: its own, because it pins libraries that earshot needs in other versions.

It is made once, under a name that digests what goes into it, and takes that name only when it is whole.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from earshot.core.errors import ToolError
from earshot.core.files import disk_error
from earshot.targets.cache import cache_folder

if TYPE_CHECKING:
    from earshot.pipeline.progress import Progress

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
INSTALL_SECONDS = 600


def vela_version() -> str:
    """The version of Vela that the environment holds."""
    pins = (line.split("==") for line in REQUIREMENTS.read_text().split())
    return next(version for name, version in pins if name == "ethos-u-vela")


def environment_folder() -> Path:
    """Where the environment is, or will be: another Python or another pin is another folder."""
    recipe = REQUIREMENTS.read_bytes() + sys.version.encode()
    return cache_folder() / f"vela-{vela_version()}-{hashlib.sha256(recipe).hexdigest()[:12]}"


def environment_python() -> Path:
    """The environment's interpreter; it exists once `install` has run."""
    return environment_folder() / "bin" / "python"


def install(progress: Progress) -> None:
    """Makes the environment where it is not there yet.

    Raises:
        ToolError: no venv module, pip failed (no network, no such version), or the disk is full.
    """
    folder = environment_folder()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise disk_error(folder.parent, error) from error
    with FileLock(f"{folder}.lock"):
        if environment_python().exists():
            return
        progress.start(f"install vela {vela_version()}", 2)
        partial = folder.with_name(f"{folder.name}.partial")
        # What a killed installation left.
        shutil.rmtree(partial, ignore_errors=True)
        try:
            _run([sys.executable, "-m", "venv", str(partial)], "the environment of vela cannot be made")
            progress.advance()
            pip = [str(partial / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-deps"]
            _run([*pip, "--requirement", str(REQUIREMENTS)], f"vela {vela_version()} cannot be installed")
            partial.rename(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        progress.advance()
        progress.finish()


def _run(command: list[str], what: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise ToolError(f"{what}: no end after {INSTALL_SECONDS} s", "check the network and pip's index") from error
    except OSError as error:
        raise ToolError(f"{what}: {error}") from error
    if done.returncode:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("ERROR")] or lines
        raise ToolError(
            f"{what}: {errors[-1] if errors else f'exit code {done.returncode}'}",
            "python's venv module, the network and pip's index are needed (apt-get install python3-venv)",
        )
