"""A profile of devices that belong to users: known well, but none is in reach until one is added to the inventory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from earshot.core.errors import DeviceError
from earshot.targets.base import PRECISIONS, Availability, DeviceProfile, ProfileConfig, ProfileResult

if TYPE_CHECKING:
    from earshot.pipeline.progress import Progress

# How `earshot targets add` is told each option that only the user knows.
WORDS = {"host": "--ssh USER@HOST", "serial": "--adb SERIAL", "benchmark_model": "--set benchmark_model=FILE"}


class DeviceClass:
    """Stands in the list of targets and says how to add a device of its kind; it runs nothing."""

    precisions = PRECISIONS
    exclusive = False

    def __init__(self, name: str, profile: DeviceProfile, missing: Sequence[str]) -> None:
        self.name, self.kind = name, profile.kind
        options = " ".join(WORDS.get(option, f"--set {option}=VALUE") for option in missing)
        self._state = Availability(
            False, f"a class of devices: {profile.title}", f"earshot targets add NAME {options} --profile {name}"
        )

    def availability(self) -> Availability:
        """Never, and how to add a device."""
        return self._state

    def profile(self, models: Mapping[str, Path], config: ProfileConfig, progress: Progress) -> list[ProfileResult]:
        """Raises DeviceError: there is no device."""
        raise DeviceError(f"target {self.name}: {self._state.reason}", self._state.enable)
