"""Targets by name; a user's own by `package.module:Name`."""

from __future__ import annotations

import difflib
import importlib

from earshot.core.errors import UsageError
from earshot.targets.base import Target
from earshot.targets.host import HostTarget

TARGETS: dict[str, type[Target]] = {"host": HostTarget}


def open_target(name: str) -> Target:
    """The target of that name. Raises UsageError, with what is known."""
    if name in TARGETS:
        return TARGETS[name]()
    module, colon, attribute = name.partition(":")
    if not colon:
        near = difflib.get_close_matches(name, TARGETS, n=1)
        known = f"known: {', '.join(sorted(TARGETS))}, or package.module:Name"
        raise UsageError(f"unknown target '{name}'", f"did you mean '{near[0]}'?" if near else known)
    try:
        target: Target = getattr(importlib.import_module(module), attribute)()
    except (ImportError, AttributeError, TypeError) as error:
        raise UsageError(f"target '{name}': {error}", "it must import and be built without arguments") from error
    return target
