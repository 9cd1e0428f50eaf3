"""Targets as a user's own module has them: one that counts, one that runs int8 only, and some that fail."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from earshot.core.errors import DeviceError, ToolError
from earshot.core.measurement import Measurement, Provenance
from earshot.pipeline.progress import Progress
from earshot.targets.base import PRECISIONS, Availability, Kind, OperatorCost, ProfileConfig, ProfileResult


class Counting:
    """Counts the bytes of a model and calls them instructions; what it says follows from the file alone."""

    name = "users_targets:Counting"
    kind: Kind = "microcontroller"
    precisions = PRECISIONS
    exclusive = False

    def availability(self) -> Availability:
        return Availability(True)

    def profile(self, models: Mapping[str, Path], config: ProfileConfig, progress: Progress) -> list[ProfileResult]:
        progress.start(f"profile on {self.name}", len(models))
        results = []
        for variant, path in models.items():
            size = float(path.stat().st_size)
            found = (
                Measurement("instructions_per_frame", size, "instructions", 1, Provenance.EMULATED, self.name),
                Measurement("rtf", size / 1e9, "1", 1, Provenance.ESTIMATED, self.name),
            )
            operators = (OperatorCost(0, "CONV_2D", "enc", size, "instructions"),)
            results.append(ProfileResult(variant, found, None, {"engine": "counting"}, {}, operators))
            progress.advance()
        progress.finish()
        return results


class Int8Only(Counting):
    """Runs no other precision."""

    name = "users_targets:Int8Only"
    precisions = frozenset({"int8"})


class Versioned(Counting):
    """Its results depend on a tool, whose version stands in a file beside the recipe."""

    name = "users_targets:Versioned"

    def identity(self) -> Mapping[str, str]:
        path = Path("tool-version")
        return {"tool": path.read_text() if path.exists() else "none"}


class Absent(Counting):
    """Cannot be used."""

    name = "users_targets:Absent"

    def availability(self) -> Availability:
        return Availability(False, "it is not plugged in", "plug it in")


class Vanishing(Counting):
    """Goes away in the middle."""

    name = "users_targets:Vanishing"

    def profile(self, models: Mapping[str, Path], config: ProfileConfig, progress: Progress) -> list[ProfileResult]:
        progress.start(f"profile on {self.name}", len(models))
        raise DeviceError("target users_targets:Vanishing: it went away", "look for it")


class Buggy(Counting):
    """Its driver has a mistake."""

    name = "users_targets:Buggy"

    def profile(self, models: Mapping[str, Path], config: ProfileConfig, progress: Progress) -> list[ProfileResult]:
        raise KeyError("oops")


class Endless(Counting):
    """Works until it is stopped, and says when it was."""

    name = "users_targets:Endless"

    def profile(self, models: Mapping[str, Path], config: ProfileConfig, progress: Progress) -> list[ProfileResult]:
        try:
            while True:
                progress.advance()
                Path("started").touch()
                time.sleep(0.02)
        finally:
            Path("tidied").touch()


class NeedsBuilding(Counting):
    """Is built once."""

    name = "users_targets:NeedsBuilding"

    def availability(self) -> Availability:
        return Availability(Path("built").exists(), "it was not built yet", f"earshot targets setup {self.name}")

    def setup(self, progress: Progress) -> None:
        progress.start("build", 1)
        Path("built").touch()
        progress.finish()


class CannotBeBuilt(NeedsBuilding):
    """Lacks a tool that building needs."""

    name = "users_targets:CannotBeBuilt"

    def setup(self, progress: Progress) -> None:
        raise ToolError("make: not found", "apt-get install make")
