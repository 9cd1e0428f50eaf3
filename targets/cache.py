"""Where things are kept that are built once and used by every run: images, environments, compiled tools."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """EARSHOT_CACHE, else `earshot` in the user's cache folder (XDG_CACHE_HOME, `~/.cache`). It may not exist yet."""
    if os.environ.get("EARSHOT_CACHE"):
        return Path(os.environ["EARSHOT_CACHE"]).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "earshot"
