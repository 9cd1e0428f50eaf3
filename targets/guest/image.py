"""The guest's image in the cache folder: whole or absent, as `build.py` makes it.

CACHE/guest/<recipe>/kernel, initrd    what QEMU starts
                     key, known_hosts  the only key the guest lets in, and the guest's own: made anew for each build
                     manifest.json     what went in: packages and wheels with their versions; sizes of the files
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from earshot.targets.cache import cache_folder
from earshot.targets.guest.recipe import Recipe


@dataclass(frozen=True)
class Image:
    """A whole image in the cache."""

    folder: Path

    @property
    def kernel(self) -> Path:
        """Linux, as QEMU's `-kernel` takes it."""
        return self.folder / "kernel"

    @property
    def initrd(self) -> Path:
        """The guest's whole root file system."""
        return self.folder / "initrd"

    @property
    def key(self) -> Path:
        """Private key that root's account accepts."""
        return self.folder / "key"

    @property
    def known_hosts(self) -> Path:
        """The guest's host key, for any port of this machine."""
        return self.folder / "known_hosts"

    @property
    def manifest(self) -> dict[str, Any]:
        """What went in."""
        found: dict[str, Any] = json.loads((self.folder / "manifest.json").read_text(encoding="utf-8"))
        return found


def images_folder() -> Path:
    """Where images are kept."""
    return cache_folder() / "guest"


def find_image(recipe: Recipe) -> Image | None:
    """The recipe's image when it was built and is whole, else None."""
    image = Image(images_folder() / recipe.digest)
    try:
        sizes = image.manifest["bytes"]
        whole = all((image.folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, KeyError):
        return None
    return image if whole else None
