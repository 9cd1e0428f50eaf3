"""The user's own devices: added, found by name everywhere, removed; what is wrong in the file is named."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from earshot.core.errors import ConfigError, EarshotError, ToolError, UsageError
from earshot.targets.inventory import (
    DeviceEntry,
    Inventory,
    add_device,
    inventory_path,
    load_inventory,
    remove_device,
)
from earshot.targets.registry import device_budgets, find_profile, known_targets, open_target

PI = DeviceEntry(profile="raspberry-pi-4", title="the one in the kitchen", options={"host": "192.0.2.7", "user": "pi"})


@pytest.fixture(autouse=True)
def inventory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "config" / "devices.yaml"
    monkeypatch.setenv("EARSHOT_DEVICES", str(path))
    return path


def test_the_file_lies_where_the_user_says_or_in_the_configuration_folder(
    inventory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert inventory_path() == inventory
    monkeypatch.delenv("EARSHOT_DEVICES")
    monkeypatch.setenv("XDG_CONFIG_HOME", "/conf")
    assert inventory_path() == Path("/conf/earshot/devices.yaml")
    monkeypatch.delenv("XDG_CONFIG_HOME")
    assert inventory_path() == Path.home() / ".config/earshot/devices.yaml"


def test_a_device_that_was_added_is_a_target_by_its_name_until_it_is_removed(inventory: Path) -> None:
    assert load_inventory() == Inventory()
    assert add_device("kitchen-pi", PI) == inventory
    add_device("second", DeviceEntry(profile="host"))
    assert load_inventory().devices["kitchen-pi"] == PI
    assert known_targets()[-2:] == ("kitchen-pi", "second")
    profile = find_profile("kitchen-pi")
    assert profile is not None
    assert (profile.title, profile.driver, profile.clock_mhz) == ("the one in the kitchen", "ssh", 1800)
    assert profile.options == {"host": "192.0.2.7", "user": "pi"}
    target = open_target("kitchen-pi")
    assert (target.name, target.kind) == ("kitchen-pi", "raspberry-pi")
    assert [budget["target"] for budget in device_budgets("kitchen-pi")] == ["kitchen-pi", "kitchen-pi"]
    assert device_budgets("kitchen-pi")[0]["name"] == "kitchen-pi-real-time"
    remove_device("kitchen-pi")
    assert list(load_inventory().devices) == ["second"]
    with pytest.raises(UsageError, match="unknown target 'kitchen-pi'"):
        open_target("kitchen-pi")


def test_an_entry_overrides_its_profile_and_nothing_else() -> None:
    entry = DeviceEntry(profile="raspberry-pi-4", clock_mhz=1500, options={"host": "h"})
    base = find_profile("raspberry-pi-4")
    assert base is not None
    assert entry.device() == base.model_copy(update={"clock_mhz": 1500, "options": {**base.options, "host": "h"}})


def test_a_name_is_not_given_twice_nor_taken_from_a_profile() -> None:
    add_device("mine", PI)
    for name, message in (
        ("mine", "there is a device"),
        ("host", "name of a device profile"),
        ("My Pi", "not a fit name"),
    ):
        with pytest.raises(UsageError, match=message):
            add_device(name, PI)
    with pytest.raises(UsageError, match="no device 'mime'") as caught:
        remove_device("mime")
    assert caught.value.hint == "did you mean 'mine'?"
    assert list(load_inventory().devices) == ["mine"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("devices: {}", "schema is None"),
        ("schema: earshot.devices/2", "expected 'earshot.devices/1'"),
        ("schema: earshot.devices/1\ndevice: {}", "device: unknown key; did you mean 'devices'"),
        (
            "schema: earshot.devices/1\ndevices: {a: {profile: host, titel: x}}",
            "devices.a.titel: unknown key; did you mean",
        ),
        ("schema: earshot.devices/1\ndevices: {a: {}}", r"devices.a.profile: Field required"),
        ("schema: earshot.devices/1\ndevices: {a: {profile: hots}}", r"devices.a.profile: .*did you mean 'host'"),
        ("schema: earshot.devices/1\ndevices: {A: {profile: host}}", "'A' is not a fit name"),
        ("schema: earshot.devices/1\ndevices: {host: {profile: host}}", "name of a device profile"),
        ("schema: earshot.devices/1\ndevices: [", "line 2: not valid YAML"),
        ("schema: earshot.devices/1\ndevices: {a: {profile: host, clock_mhz: -1}}", "devices.a.clock_mhz"),
        ("- a", "expected a mapping"),
    ],
)
def test_what_is_wrong_in_the_file_is_named_with_the_file(inventory: Path, content: str, message: str) -> None:
    inventory.parent.mkdir()
    inventory.write_text(content)
    with pytest.raises(ConfigError, match=message) as caught:
        load_inventory()
    assert str(inventory) in caught.value.message
    assert open_target("host").name == "host", "built-in targets do not depend on the file"
    with pytest.raises(ConfigError):
        add_device("b", PI)
    assert inventory.read_text() == content


def test_options_of_a_driver_are_judged_by_it(inventory: Path) -> None:
    inventory.parent.mkdir()
    inventory.write_text(
        "schema: earshot.devices/1\ndevices: {mine: {profile: raspberry-pi-4, options: {host: h, prot: 22}}}"
    )
    with pytest.raises(ConfigError, match="target mine: options: prot: unknown key; did you mean 'port'"):
        open_target("mine")


@pytest.mark.parametrize("key", ["password", "ssh_password", "TOKEN", "key_passphrase"])
def test_a_secret_is_refused_and_not_repeated(key: str) -> None:
    with pytest.raises(ValueError, match="holds a secret"):
        DeviceEntry(profile="host", options={key: "hunter2"})
    with pytest.raises(ValueError, match="holds a secret"):
        DeviceEntry(profile="host", options={"key": "-----BEGIN OPENSSH PRIVATE KEY-----"})
    assert DeviceEntry(profile="host", options={"key": "~/.ssh/id_ed25519", "tokens_seen": 3})


def test_a_write_that_fails_keeps_the_old_file(inventory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_device("mine", PI)
    before = inventory.read_bytes()
    assert stat.S_ISREG(inventory.stat().st_mode)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("earshot.core.files.os.fsync", full)
    with pytest.raises(ToolError, match="no space left"):
        add_device("other", PI)
    assert inventory.read_bytes() == before
    assert [path.name for path in inventory.parent.iterdir()] == ["devices.yaml"]


def test_errors_are_earshots(inventory: Path) -> None:
    inventory.parent.mkdir()
    inventory.mkdir()
    with pytest.raises(EarshotError):
        load_inventory()
