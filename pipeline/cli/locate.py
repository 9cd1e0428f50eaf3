"""From what a person types to a model file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from earshot.core.errors import ArtifactError, ModelError, UsageError

if TYPE_CHECKING:
    from earshot.pipeline.store import Store

MODEL_HELP = "a .tflite or .safetensors file, an artifact (see `earshot artifacts list`), or ARTIFACT/FILE"
MODEL_SUFFIXES = (".tflite", ".safetensors")


def find_model(store: Store, reference: str) -> Path:
    """A model file named by its path, its artifact, or `ARTIFACT/FILE`.

    Raises:
        ModelError: no such file, or a file of another kind.
        ArtifactError: no such artifact, or one with no model or several.
    """
    path = Path(reference)
    if path.is_file():
        if path.suffix not in MODEL_SUFFIXES:
            raise ModelError(f"{path}: not a model", f"give {MODEL_HELP}")
        return path
    name, _, file = reference.partition("/")
    try:
        artifact = store.resolve(name)
    except ArtifactError as error:
        if path.suffix not in MODEL_SUFFIXES:
            raise
        raise ModelError(f"{path}: no such file", "check the path, or see: earshot artifacts list") from error
    if file:
        return artifact.file(file)
    models = [name for name in artifact.manifest.files if Path(name).suffix in MODEL_SUFFIXES]
    if len(models) != 1:
        what = "no model" if not models else f"{len(models)} models"
        fix = " or ".join(f"{artifact.path.name}/{name}" for name in models)
        raise ArtifactError(f"{artifact.path}: it holds {what}", f"name one: {fix}" if fix else None)
    return artifact.file(models[0])


def newest_model(store: Store) -> Path:
    """The .tflite that the newest run ships. Raises UsageError when there is none, ArtifactError when it is damaged."""
    from earshot.ci.run_file import read_run
    from earshot.pipeline.runs import LATEST, find_run, run_names
    from earshot.pipeline.shipped import shipped_model

    if not run_names(store):
        raise UsageError(
            f"{store.root}: no run has made a model yet", "make one with: earshot run, or give --model FILE"
        )
    return shipped_model(store, read_run(find_run(store, LATEST))).model


def model_sound(path: Path) -> tuple[int, int]:
    """(sample rate in Hz, microphones) of the sound a model takes. Raises ModelError when the file does not say."""
    if path.suffix == ".safetensors":
        from earshot.models.checkpoint import describe

        description = describe(path)
        if description is None:
            raise ModelError(
                f"{path}: these weights do not say which network they belong to",
                "enter them into a recipe, e.g. prune: {enter: FILE}, whose student section names it",
            )
        return description.frontend.rate, description.frontend.channels
    from earshot.targets.stream import open_stream

    stream = open_stream(path)
    return int(stream.rate), int(stream.stft.channels)
