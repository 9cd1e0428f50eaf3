"""Targets by name: a built-in device profile, a device of the user's inventory, or a user's own `package.module:Name`.

name -> DeviceProfile (targets/profiles/NAME.yaml or the inventory) -> driver -> Target
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any, Protocol, cast

from earshot.core.errors import ConfigError, UsageError
from earshot.targets.base import DeviceProfile, Target, builtin_profiles, did_you_mean, load_profile
from earshot.targets.device_class import DeviceClass
from earshot.targets.inventory import load_inventory

# Named, not imported: a driver brings its libraries along.
DRIVERS: dict[str, str] = {
    "adb": "earshot.targets.adb.target:PhoneTarget",
    "container": "earshot.targets.container.target:ContainerTarget",
    "cortex-m": "earshot.targets.mcu.target:CortexMTarget",
    "ethos-u": "earshot.targets.npu.target:EthosUTarget",
    "guest": "earshot.targets.guest.target:GuestTarget",
    "host": "earshot.targets.host:HostTarget",
    "ssh": "earshot.targets.ssh.target:SshTarget",
}


class Driver(Protocol):
    """A class of targets; `open` parses the profile's options. It starts nothing."""

    @staticmethod
    def open(name: str, profile: DeviceProfile) -> Target:
        """A target. Raises ConfigError for options that are wrong."""


def known_targets() -> tuple[str, ...]:
    """Every name that needs no module: built-in profiles, then the user's devices. Raises ConfigError."""
    return (*builtin_profiles(), *load_inventory().devices)


def find_profile(name: str) -> DeviceProfile | None:
    """The device profile behind a name, None for a user's own `package.module:Name`.

    Raises:
        UsageError: no such target; says what is known.
        ConfigError: the inventory is wrong. Built-in names are found without reading it.
    """
    if name in builtin_profiles():
        return load_profile(name)
    if ":" in name:
        return None
    devices = load_inventory().devices
    if name in devices:
        return devices[name].device()
    raise UsageError(f"unknown target '{name}'", did_you_mean(name, known_targets(), "or package.module:Name"))


def device_budgets(name: str) -> list[dict[str, Any]]:
    """The budgets that a target's profile brings along, as plain data: named after the target and bound to it.

    Raises:
        UsageError, ConfigError: as `find_profile`.
    """
    profile = find_profile(name)
    budgets = profile.budgets if profile else ()
    named = [{**budget, "name": f"{name}-{budget['name']}"} if "name" in budget else budget for budget in budgets]
    return [{**budget, "target": name} for budget in named]


def open_target(name: str) -> Target:
    """The target of that name. Raises UsageError, with what is known, or ConfigError."""
    profile = find_profile(name)
    if profile is not None:
        return open_profile(name, profile)
    module, _, attribute = name.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    try:
        target: Target = getattr(importlib.import_module(module), attribute)()
    except (ImportError, AttributeError, TypeError) as error:
        raise UsageError(f"target '{name}': {error}", "it must import and be built without arguments") from error
    return target


def open_profile(name: str, profile: DeviceProfile) -> Target:
    """A target for a device profile. Raises ConfigError when its driver or options are wrong."""
    if profile.driver not in DRIVERS:
        raise ConfigError(f"target '{name}': unknown driver '{profile.driver}'", f"known: {', '.join(DRIVERS)}")
    if missing := [option for option in profile.needs if option not in profile.options]:
        return DeviceClass(name, profile, missing)
    module, _, attribute = DRIVERS[profile.driver].partition(":")
    driver = cast(Driver, getattr(importlib.import_module(module), attribute))
    return driver.open(name, profile)
