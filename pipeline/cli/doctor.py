"""`earshot doctor`: what this machine can do, and the command that brings what it lacks."""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from earshot.core.cores import usable_cores
from earshot.pipeline.cli.options import json_option, store_option

REQUIRED = (
    *("torch", "litert-torch", "ai-edge-litert", "ai-edge-quantizer", "torch-pruning", "lightning-fabric"),
    *("numpy", "scipy", "soxr", "pesq", "pystoi", "safetensors"),
)
EXTRAS = {  # extra: the library it brings, and what for
    "tensorflow": ("tensorflow", "Keras and SavedModel input"),
    "devices": ("asyncssh", "boards over SSH"),
    "docker": ("docker", "containers as targets"),
    "arrays": ("pyroomacoustics", "several microphones in simulated rooms"),
    "scale": ("ray", "studies on a cluster"),
    "tensorboard": ("tensorboard", "training curves in TensorBoard"),
    "mlflow": ("mlflow", "training curves in MLflow"),
}
MIN_MEMORY = 4 * 10**9
MIN_DISK = 2 * 10**9


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report.

    Attributes:
        name: what was looked at.
        state: `ok`, `missing` (earshot does not work without it) or `optional` (absent, and only some things need it).
        detail: version, amount, or what it is for.
        fix: the command that brings it.
    """

    name: str
    state: str
    detail: str
    fix: str = ""


@click.command()
@store_option
@json_option
def doctor(store_root: Path, as_json: bool) -> None:
    """Show what this machine can do.

    What it lacks is listed with the command that brings it. Exit code 3 when something required is missing.
    """
    findings = [*_machine(store_root), *_libraries(), *_programs(), *_targets()]
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        from earshot.pipeline.cli.tables import show

        show(("", "state", "detail", "to get it"), [(f.name, f.state, f.detail, f.fix) for f in findings])
    if any(finding.state == "missing" for finding in findings):
        raise click.exceptions.Exit(3)


def _machine(store_root: Path) -> Iterator[Finding]:
    import psutil

    yield Finding("python", "ok", f"{platform.python_version()}, {platform.system()} {platform.machine()}")
    yield Finding("cores", "ok", str(len(usable_cores())))
    memory = psutil.virtual_memory().total
    yield Finding(
        "memory",
        "ok" if memory >= MIN_MEMORY else "missing",
        f"{memory / 1e9:.1f} GB, {MIN_MEMORY / 1e9:.0f} GB needed",
    )
    existing = next(folder for folder in (store_root.absolute(), *store_root.absolute().parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    yield Finding(
        "disk",
        "ok" if free >= MIN_DISK else "missing",
        f"{free / 1e9:.1f} GB free at {existing}, {MIN_DISK / 1e9:.0f} GB needed",
        "" if free >= MIN_DISK else "earshot artifacts gc, or set EARSHOT_HOME to another disk",
    )
    if shutil.which("nvidia-smi"):
        yield Finding(
            "accelerator", "ok", "an NVIDIA driver is installed; training can use it where torch was built so"
        )
    else:
        yield Finding("accelerator", "optional", "no NVIDIA driver; training runs on the CPU")


def _libraries() -> Iterator[Finding]:
    for library in REQUIRED:
        version = _version(library)
        fix = "" if version else "make setup"
        yield Finding(library, "ok" if version else "missing", version or "needed", fix)
    try:
        import soundfile

        yield Finding("libsndfile", "ok", soundfile.__libsndfile_version__)
    except (ImportError, OSError) as error:
        yield Finding("libsndfile", "missing", f"needed to read sound files ({error})", "apt-get install libsndfile1")
    for extra, (library, purpose) in EXTRAS.items():
        version = _version(library)
        fix = "" if version else f"pip install 'earshot[{extra}]'"
        yield Finding(library, "ok" if version else "optional", version or purpose, fix)


def _programs() -> Iterator[Finding]:
    for program in ("espeak-ng", "flite"):
        path = shutil.which(program)
        fix = "" if path else f"apt-get install {program}"
        yield Finding(program, "ok" if path else "optional", path or "only to make the embedded pack again", fix)


def _targets() -> Iterator[Finding]:
    from earshot.core.errors import EarshotError
    from earshot.pipeline.cli.targets import target_states

    try:
        for state in target_states():
            yield Finding(f"target {state.name}", "ok" if state.ok else "optional", state.detail, state.enable)
    except EarshotError as error:
        yield Finding("your own devices", "optional", error.message, error.hint or "")


def _version(library: str) -> str | None:
    import importlib.metadata

    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return None


COMMANDS = (doctor,)
