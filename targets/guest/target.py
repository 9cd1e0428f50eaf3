"""The emulated Raspberry Pi as a target: the SSH driver on a guest that is started for the call and gone after it.

Counts and outputs are those of the real code on an emulated processor. The time that this machine took to emulate it
is shown nowhere.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from earshot.core.config import parse
from earshot.core.errors import ConfigError, DeviceError
from earshot.targets.base import PRECISIONS, Availability, DeviceProfile, Kind, ProfileConfig, ProfileResult
from earshot.targets.guest.image import Image, find_image
from earshot.targets.guest.machine import EMULATOR, ENABLE, Machine, emulator_version
from earshot.targets.guest.options import WRONG_CPU, GuestOptions
from earshot.targets.guest.recipe import Recipe
from earshot.targets.ssh.target import SshTarget

if TYPE_CHECKING:
    from earshot.pipeline.progress import Progress

FEWER = ("frames", "repeats", "warmup")


class GuestTarget:
    """Profiles on an emulated Raspberry Pi.

    Args:
        name: what recipes and measurements call it.
        options: processor, memory, how much is run.
        clock_mhz: the board's clock; needed for estimated times only.
    """

    kind: Kind = "raspberry-pi"
    precisions = PRECISIONS
    exclusive = False

    def __init__(self, name: str, options: GuestOptions, clock_mhz: float | None = None) -> None:
        if options.cpi is not None and clock_mhz is None:
            raise ConfigError(
                f"target {name}: estimated times need clock_mhz", "add it to the profile, or leave out cpi"
            )
        self.name, self.options, self._clock_mhz = name, options, clock_mhz
        self._recipe = Recipe()

    @classmethod
    def open(cls, name: str, profile: DeviceProfile) -> GuestTarget:
        """The driver's entry in the registry. Raises ConfigError."""
        return cls(name, parse(GuestOptions, profile.options, f"target {name}: options"), profile.clock_mhz)

    def availability(self) -> Availability:
        """Ready where the emulator is installed and the image was built."""
        if importlib.util.find_spec("asyncssh") is None:
            return Availability(False, "asyncssh is not installed", "pip install 'earshot[devices]'")
        try:
            self._ready()
        except DeviceError as error:
            return Availability(False, error.message.removeprefix(f"target {self.name}: "), error.hint or "")
        return Availability(True)

    def setup(self, progress: Progress) -> None:
        """Builds the image, which all emulated boards share. Raises ToolError or DeviceError."""
        from earshot.targets.guest.build import build_image

        build_image(self._recipe, progress)

    def identity(self) -> Mapping[str, str]:
        """Counts change with the image's packages and, rarely, with the emulator."""
        return {"image": self._recipe.digest, "qemu": emulator_version() or ""}

    def profile(self, models: Mapping[str, Path], config: ProfileConfig, progress: Progress) -> list[ProfileResult]:
        """Starts the guest once and profiles every model on it, at most as long as the options say.

        Raises:
            ModelError: a model is no stream model, or the runtime refuses it.
            DeviceError: the emulator or the image is missing, the guest did not start, or it died.
        """
        from earshot.targets.guest.outputs import expect, trace_on
        from earshot.targets.guest.reading import GuestReader, with_difference

        image = self._ready()
        limits = {name: min(getattr(config, name), getattr(self.options, name)) for name in FEWER}
        config = config.model_copy(update=limits)
        traced = self.options.traced_frames
        expected = {variant: expect(path, config, traced) for variant, path in models.items() if traced}
        reader = GuestReader(self.options, self._clock_mhz, self._facts(image))
        with self._started(image, progress) as machine:
            guest = SshTarget(self.name, machine.ssh_options(), reader.result, self.kind)
            results = guest.profile(models, config, InstructionNotes(progress))
            if not traced:
                return results
            found = trace_on(guest, models, config, expected, progress)
            return [with_difference(result, found[result.variant]) for result in results]

    @contextmanager
    def _started(self, image: Image, progress: Progress) -> Iterator[Machine]:
        """The running guest. What fails while it dies is reported as its death."""
        options = self.options
        machine = Machine(
            self.name,
            image,
            cpu=options.cpu,
            memory_mb=options.memory_mb,
            port=options.port,
            boot_seconds=options.boot_timeout_seconds,
        )
        progress.start(f"start {self.name}", None)
        with machine:
            progress.finish()
            try:
                yield machine
            except DeviceError as error:
                raise machine.death() or error from error

    def _ready(self) -> Image:
        """The image. Raises DeviceError: something is missing or set wrong, and the command that mends it."""
        asked = os.environ.get("QEMU_CPU")
        if asked and asked != self.options.cpu:
            reason = WRONG_CPU if asked.startswith("max") else f"{asked}: this target is {self.options.cpu}"
            raise DeviceError(f"target {self.name}: QEMU_CPU={reason}", "unset QEMU_CPU")
        image = find_image(self._recipe)
        if image and shutil.which(EMULATOR):
            return image
        if image:
            raise DeviceError(f"target {self.name}: {EMULATOR} is not installed", ENABLE)
        from earshot.targets.guest.build import install, missing_tools

        missing = missing_tools()
        before = f"{install(missing)} && " if missing else ""
        raise DeviceError(
            f"target {self.name}: its image was not built yet", f"{before}earshot targets setup {self.name}"
        )

    def _facts(self, image: Image) -> dict[str, str]:
        return {
            "cpu": f"{self.options.cpu}, emulated",
            "board": "QEMU virt",
            "emulator": f"{EMULATOR} {emulator_version()}, -icount shift=0",
            "image": image.folder.name,
        }


class InstructionNotes:
    """A `Progress` whose notes call the guest's microseconds what they are."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def start(self, task: str, total: int | None) -> None:
        """Passes the task on."""
        self._progress.start(task, total)

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Passes the steps on."""
        micro = note.endswith(" us")
        self._progress.advance(steps, note.removesuffix(" us") + " k instructions" if micro else note)

    def finish(self, note: str = "") -> None:
        """Passes the end on."""
        self._progress.finish(note)

    def beside(self) -> InstructionNotes:
        """The same beside it."""
        return InstructionNotes(self._progress.beside())
