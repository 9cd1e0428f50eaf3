"""Targets by name: a built-in device profile, a device of the user's inventory, or a user's own `package.module:Name`.

name -> DeviceProfile (targets/profiles/NAME.yaml or the inventory) -> driver -> Target
"""

from __future__ import annotations

import difflib
import importlib
from typing import Protocol, cast

from earshot.core.errors import ConfigError, UsageError
from earshot.targets.base import PROFILES, DeviceProfile, Target, load_profile

# Named, not imported: a driver brings its libraries along.
DRIVERS: dict[str, str] = {
    "host": "earshot.targets.host:HostTarget",
}


class Driver(Protocol):
    """A class of targets; `open` parses the profile's options. It starts nothing."""

    @staticmethod
    def open(name: str, profile: DeviceProfile) -> Target:
        """A target. Raises ConfigError for options that are wrong."""


def builtin_profiles() -> tuple[str, ...]:
    """Names of the device profiles that come with earshot."""
    return tuple(sorted(path.stem for path in PROFILES.glob("*.yaml")))


def open_target(name: str) -> Target:
    """The target of that name. Raises UsageError, with what is known, or ConfigError."""
    known = builtin_profiles()
    if name in known:
        return open_profile(name, load_profile(name))
    module, colon, attribute = name.partition(":")
    if not colon:
        near = difflib.get_close_matches(name, known, n=1)
        all_known = f"known: {', '.join(known)}, or package.module:Name"
        raise UsageError(f"unknown target '{name}'", f"did you mean '{near[0]}'?" if near else all_known)
    try:
        target: Target = getattr(importlib.import_module(module), attribute)()
    except (ImportError, AttributeError, TypeError) as error:
        raise UsageError(f"target '{name}': {error}", "it must import and be built without arguments") from error
    return target


def open_profile(name: str, profile: DeviceProfile) -> Target:
    """A target for a device profile. Raises ConfigError when its driver or options are wrong."""
    if profile.driver not in DRIVERS:
        raise ConfigError(f"target '{name}': unknown driver '{profile.driver}'", f"known: {', '.join(DRIVERS)}")
    module, _, attribute = DRIVERS[profile.driver].partition(":")
    driver = cast(Driver, getattr(importlib.import_module(module), attribute))
    return driver.open(name, profile)
