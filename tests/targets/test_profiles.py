"""Device profiles are data: every one opens, and names only what exists."""

from __future__ import annotations

import importlib

import pytest

from earshot.ci.budget import Budget
from earshot.ci.metrics import KNOWN_METRICS
from earshot.core.config import parse
from earshot.core.errors import ConfigError
from earshot.targets.base import PRECISIONS, PROFILES, DeviceProfile, builtin_profiles, load_profile
from earshot.targets.registry import DRIVERS, device_budgets, open_profile, open_target


@pytest.mark.parametrize("name", builtin_profiles())
def test_a_profile_opens_and_names_what_exists(name: str) -> None:
    profile, target = load_profile(name), open_target(name)
    assert (target.name, target.kind) == (name, profile.kind)
    assert target.precisions and target.precisions <= PRECISIONS
    assert profile.title
    assert profile.metrics, "which metrics should a budget name?"
    assert set(profile.metrics) <= set(KNOWN_METRICS), sorted(set(profile.metrics) - set(KNOWN_METRICS))
    state = target.availability()
    assert state.ok or (state.reason and state.enable), "a target that cannot be used says what would enable it"


@pytest.mark.parametrize("name", builtin_profiles())
def test_its_budgets_hold_metrics_it_has_and_its_own_target(name: str) -> None:
    for budget in (parse(Budget, value, name) for value in device_budgets(name)):
        assert budget.target == name
        assert budget.metric in load_profile(name).metrics
        assert budget.name is None or budget.name.startswith(f"{name}-")


@pytest.mark.parametrize("name", builtin_profiles())
def test_a_profile_says_where_its_figures_come_from(name: str) -> None:
    assert (PROFILES / f"{name}.yaml").read_text().startswith("# ")


def test_every_driver_exists() -> None:
    for place in DRIVERS.values():
        module, _, attribute = place.partition(":")
        assert callable(getattr(importlib.import_module(module), attribute).open)


def test_a_profile_that_names_nothing_real_is_refused() -> None:
    made = {"kind": "host", "driver": "hots", "title": "x"}
    with pytest.raises(ConfigError, match="unknown driver 'hots'"):
        open_profile("x", parse(DeviceProfile, made, "x"))
    with pytest.raises(ConfigError, match=r"clock_mhs: unknown key; did you mean 'clock_mhz'"):
        parse(DeviceProfile, made | {"clock_mhs": 3}, "x")


def test_a_class_of_devices_is_listed_and_says_how_to_add_one() -> None:
    state = open_target("raspberry-pi-4").availability()
    assert not state.ok
    assert state.enable == "earshot targets add NAME --ssh USER@HOST --profile raspberry-pi-4"
