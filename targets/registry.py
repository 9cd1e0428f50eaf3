"""Targets by name."""

from __future__ import annotations

import difflib

from earshot.core.errors import UsageError
from earshot.targets.base import Target
from earshot.targets.host import HostTarget

TARGETS: dict[str, type[Target]] = {"host": HostTarget}


def open_target(name: str) -> Target:
    """The target of that name. Raises UsageError, with what is known."""
    if name not in TARGETS:
        near = difflib.get_close_matches(name, TARGETS, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"known targets: {', '.join(sorted(TARGETS))}"
        raise UsageError(f"unknown target '{name}'", hint)
    return TARGETS[name]()
