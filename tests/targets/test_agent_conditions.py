"""What the agent sees of heat, clock and throttling, from files laid out as the kernel lays them out."""

import pytest

from earshot.targets.agent import Conditions, device_identity


def lay(root, **files):
    """Files below a root; `__` in a name stands for `/`."""
    for name, text in files.items():
        path = root / "sys" / name.replace("__", "/").replace("platform", "platform/soc/soc:firmware")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def zone(number, kind, degrees):
    return {
        f"class__thermal__thermal_zone{number}__type": kind + "\n",
        f"class__thermal__thermal_zone{number}__temp": f"{degrees}\n",
    }


@pytest.fixture
def no_vcgencmd(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))


@pytest.mark.usefixtures("no_vcgencmd")
def test_a_pi_tells_heat_clock_and_flags(tmp_path):
    lay(tmp_path, **zone(0, "cpu-thermal", 61234), **zone(1, "rp1_adc", 99000))
    lay(tmp_path, devices__system__cpu__cpu3__cpufreq__scaling_cur_freq="2400000\n")
    lay(tmp_path, devices__platform__get_throttled="0\n")
    conditions = Conditions(3, tmp_path)
    conditions.look()
    lay(tmp_path, **zone(0, "cpu-thermal", 84000), devices__platform__get_throttled="e0008\n")
    conditions.look()
    assert [sample["temperature_c"] for sample in conditions.samples] == [61.234, 84.0]
    assert [sample["clock_mhz"] for sample in conditions.samples] == [2400.0, 2400.0]
    assert conditions.held_back() == ["clock capped", "throttled", "soft temperature limit"]


@pytest.mark.usefixtures("no_vcgencmd")
@pytest.mark.parametrize(
    ("flags", "held_back"),
    [
        (["0", "0"], []),
        (["50000", "50000"], []),
        (["1"], ["under-voltage"]),
        (["2"], ["clock capped"]),
        (["50000", "50005"], ["under-voltage", "throttled"]),
        (["0", "80000"], ["soft temperature limit"]),
        (["40000", "50000"], ["under-voltage"]),
    ],
)
def test_flags_count_from_the_first_look_on(tmp_path, flags, held_back):
    lay(tmp_path, devices__platform__get_throttled="0")
    conditions = Conditions(0, tmp_path)
    for flag in flags:
        lay(tmp_path, devices__platform__get_throttled=flag + "\n")
        conditions.look()
    assert conditions.held_back() == held_back


@pytest.mark.usefixtures("no_vcgencmd")
@pytest.mark.parametrize(("state", "held_back"), [("0", []), ("2", ["kernel cooling"])])
def test_boards_without_that_firmware_tell_by_the_kernels_cooling(tmp_path, state, held_back):
    lay(tmp_path, class__thermal__cooling_device0__type="thermal-cpufreq-0\n")
    lay(tmp_path, class__thermal__cooling_device0__cur_state=state)
    lay(tmp_path, class__thermal__cooling_device1__type="pwm-fan\n", class__thermal__cooling_device1__cur_state="4")
    conditions = Conditions(0, tmp_path)
    conditions.look()
    assert conditions.held_back() == held_back


@pytest.mark.usefixtures("no_vcgencmd")
def test_a_machine_that_tells_nothing_is_no_unthrottled_one(tmp_path):
    conditions = Conditions(0, tmp_path)
    conditions.look()
    assert set(conditions.samples[0].values()) == {None}
    assert conditions.held_back() is None


@pytest.mark.parametrize(
    "answer",
    ["echo 'Can not open device file: /dev/vcio'; exit 255", """echo 'error=1 error_msg="Command not registered"'"""],
)
def test_a_vcgencmd_that_cannot_ask_tells_nothing(tmp_path, monkeypatch, answer):
    """A user who is not in the group `video`; a firmware that does not know the question."""
    script = tmp_path / "vcgencmd"
    script.write_text(f"#!/bin/sh\n{answer}\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    conditions = Conditions(0, tmp_path)
    conditions.look()
    assert conditions.held_back() is None


def test_machines_are_told_apart_and_not_named(tmp_path):
    def machine(name, **files):
        for place, text in files.items():
            path = tmp_path / name / place.replace("__", "/").replace("_", "-")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        (tmp_path / name).mkdir(exist_ok=True)
        return device_identity(tmp_path / name)

    system, tree = "0123456789abcdef0123456789abcdef", "proc__device_tree__serial_number"
    first = machine("first", **{"etc__machine_id": f"{system}\n", tree: "10000000a\0"})
    assert first == machine("again", **{"etc__machine_id": system, tree: "10000000a"})
    # A card that was copied, ids included, into another board; another system on the same board; no serial number.
    others = [
        machine("copied", **{"etc__machine_id": system, tree: "10000000b"}),
        machine("system", **{"etc__machine_id": system[::-1], tree: "10000000a"}),
        machine("server", etc__machine_id=system),
        machine("bare", **{tree: "10000000a"}),
    ]
    assert len({first, *others}) == 5 and all(len(one) == 16 for one in others)
    assert system[:16] not in first
    assert machine("nothing") == machine("fresh", etc__machine_id="uninitialized\n") == ""
