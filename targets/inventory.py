"""The user's own devices: one YAML file, and every name in it is a target.

    schema: earshot.devices/1
    devices:
      kitchen-pi:
        profile: raspberry-pi-4               a device profile that comes with earshot: its driver, limits and budgets
        options: {host: 192.168.1.20, user: pi, key: ~/.ssh/id_ed25519}
      my-phone:
        profile: phone
        title: the test phone in the drawer   optional, as are cpu, clock_mhz, ram_bytes and flash_bytes
        options: {serial: R58M12ABCDE, benchmark_model: ~/benchmark_model}

The file is EARSHOT_DEVICES, else `earshot/devices.yaml` in the user's configuration folder. Options are judged by the
driver that reads them. Secrets have no place in it: keys are named by their path, passwords are refused.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, field_validator, model_validator

from earshot.core.config import Config, load_yaml, parse
from earshot.core.errors import ConfigError, UsageError
from earshot.core.files import write_atomic
from earshot.targets.base import DeviceProfile, builtin_profiles, did_you_mean, load_profile

SCHEMA = "earshot.devices/1"
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,39}")
SECRET = re.compile(r"(^|_)(password|passwd|passphrase|secret|token)($|_)", re.IGNORECASE)
HEADER = f"""\
# Devices of your own, for earshot: {SCHEMA}. Written by `earshot targets add` and `remove`, which keep no comments.
# Passwords and keys have no place here: name the file of a key.
"""


class DeviceEntry(Config):
    """One device: what it is of, and what its profile does not know.

    Attributes:
        profile: name of the device profile that it follows.
        title: its name for people.
        cpu, clock_mhz, ram_bytes, flash_bytes: in place of the profile's.
        options: added to the profile's options, or in their place.
    """

    profile: str
    title: str | None = None
    cpu: str | None = None
    clock_mhz: float | None = Field(default=None, gt=0)
    ram_bytes: int | None = Field(default=None, gt=0)
    flash_bytes: int | None = Field(default=None, gt=0)
    options: dict[str, Any] = Field(default_factory=dict)

    @field_validator("profile")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in builtin_profiles():
            raise ValueError(f"no device profile '{value}'; {did_you_mean(value, builtin_profiles())}")
        return value

    @field_validator("options")
    @classmethod
    def _no_secrets(cls, value: dict[str, Any]) -> dict[str, Any]:
        for key, text in value.items():
            if SECRET.search(key) or "PRIVATE KEY" in str(text):
                raise ValueError(f"'{key}' holds a secret, which this file must not; use a key and name its file")
        return value

    def device(self) -> DeviceProfile:
        """The device's whole profile."""
        base = load_profile(self.profile)
        own = self.model_dump(exclude={"profile", "options"}, exclude_none=True)
        return base.model_copy(update={**own, "options": {**base.options, **self.options}})


class Inventory(Config):
    """The whole file."""

    devices: dict[str, DeviceEntry] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _names_fit(self) -> Inventory:
        for name in self.devices:
            _check_name(name)
        return self


def inventory_path() -> Path:
    """Where the inventory is kept; the file may not exist."""
    if os.environ.get("EARSHOT_DEVICES"):
        return Path(os.environ["EARSHOT_DEVICES"]).expanduser()
    return Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser() / "earshot" / "devices.yaml"


def load_inventory(path: Path | None = None) -> Inventory:
    """Reads the inventory; a file that does not exist holds no devices.

    Raises:
        ConfigError: not YAML, another schema, or a mistake, named by its dotted path.
    """
    path = path or inventory_path()
    if not path.exists():
        return Inventory()
    content = load_yaml(path)
    schema = content.pop("schema", None)
    if schema != SCHEMA:
        raise ConfigError(
            f"{path}: schema is {schema!r}, expected '{SCHEMA}'", f"begin the file with: schema: {SCHEMA}"
        )
    return parse(Inventory, content, str(path))


def add_device(name: str, entry: DeviceEntry) -> Path:
    """Adds a device and returns the file. The caller has had the driver judge its options.

    Raises:
        UsageError: the name is taken, or unfit.
        ConfigError: the file that is there is wrong.
        ToolError: it cannot be written; what was there stays.
    """
    try:
        _check_name(name)
    except ValueError as error:
        raise UsageError(str(error)) from error
    known = load_inventory().devices
    if name in known:
        raise UsageError(f"{inventory_path()}: there is a device '{name}'", f"earshot targets remove {name}")
    return _write({**known, name: entry})


def remove_device(name: str) -> Path:
    """Removes a device and returns the file. Raises UsageError when there is none, else as `add_device`."""
    known = load_inventory().devices
    if name not in known:
        raise UsageError(f"{inventory_path()}: no device '{name}'", did_you_mean(name, tuple(known)))
    return _write({other: entry for other, entry in known.items() if other != name})


def _write(devices: dict[str, DeviceEntry]) -> Path:
    plain = {name: entry.model_dump(mode="json", exclude_none=True) for name, entry in devices.items()}
    text = yaml.safe_dump({"schema": SCHEMA, "devices": plain}, sort_keys=False, allow_unicode=True)
    write_atomic(inventory_path(), HEADER + text)
    return inventory_path()


def _check_name(name: str) -> None:
    if not NAME.fullmatch(name):
        raise ValueError(f"'{name}' is not a fit name: lower-case letters, digits, '.', '_' and '-', at most 40")
    if name in builtin_profiles():
        raise ValueError(f"'{name}' is the name of a device profile: choose another for your own device")
