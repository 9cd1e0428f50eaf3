"""One target, asked for some models: what it cannot run is left out with the reason, and all else is measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from earshot.core.errors import DeviceError, ModelError
from earshot.pipeline.progress import Progress
from earshot.targets.base import ProfileConfig, ProfileResult, Target
from earshot.targets.stream import stream_precision


@dataclass(frozen=True)
class Profiled:
    """What a target gave.

    Attributes:
        results: one for each model it ran, in their order.
        left_out: model -> why the target did not run it.
    """

    results: tuple[ProfileResult, ...]
    left_out: Mapping[str, str]


def profile_on(target: Target, models: Mapping[str, Path], config: ProfileConfig, progress: Progress) -> Profiled:
    """Profiles models on one target.

    Args:
        target: the device.
        models: name -> .tflite with a stream description.
        config: frames, repeats, pinning.
        progress: told what the target does.

    Raises:
        ModelError: no model is of a precision that the target runs, or one is no stream model, or is refused.
        DeviceError, ToolError: the target cannot be used, or failed.
    """
    state = target.availability()
    if not state.ok:
        raise DeviceError(f"target {target.name}: {state.reason}", state.enable or None)
    precisions = {name: stream_precision(path) for name, path in models.items()}
    runs = ", ".join(sorted(target.precisions))
    left_out = {
        name: f"{target.name} runs {runs}; this model is {precision}"
        for name, precision in precisions.items()
        if precision not in target.precisions
    }
    wanted = {name: path for name, path in models.items() if name not in left_out}
    if not wanted:
        raise ModelError(
            f"target {target.name}: it runs {runs}, and no model given is of such a precision",
            "convert one: convert.variants in the recipe",
        )
    return Profiled(tuple(target.profile(wanted, config, progress)), left_out)
