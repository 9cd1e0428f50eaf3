"""How warm a phone is and whether it holds itself back, from what Android prints."""

import pytest

from earshot.targets.adb.condition import Core, fastest, parse_thermal

COOL = """\
IsStatusOverride: false
ThermalEventListeners:
\tcallbacks: 2
\tkilled: false
ThermalStatusListeners:
\tcallbacks: 1
Thermal Status: 0
Cached temperatures:
\tTemperature{mValue=99.9, mType=0, mName=cpu0, mStatus=0}
HAL Ready: true
HAL connection:
\tThermalHAL 2.0 connected: yes
Current temperatures from HAL:
\tTemperature{mValue=41.5, mType=0, mName=cpu0, mStatus=0}
\tTemperature{mValue=43.25, mType=0, mName=cpu7, mStatus=0}
\tTemperature{mValue=NaN, mType=0, mName=cpu8, mStatus=0}
\tTemperature{mValue=60.0, mType=1, mName=gpu0, mStatus=0}
\tTemperature{mValue=31.0, mType=3, mName=skin, mStatus=0}
Current cooling devices from HAL:
\tCoolingDevice{mValue=0, mType=2, mName=thermal-cpufreq-0}
\tCoolingDevice{mValue=3, mType=1, mName=battery}
Temperature static thresholds from HAL:
\tTemperatureThreshold{type=0, name=cpu0, hotThrottlingThresholds=[NaN, 95.0], coldThrottlingThresholds=[]}
"""


def test_a_cool_phone():
    found = parse_thermal(COOL)
    assert (found.status, found.cpu_c, found.cooling) == (0, 43.25, ())
    assert not found.throttled
    assert found.to_dict() == {"status": "none", "cpu_c": 43.25, "cooling": []}


@pytest.mark.parametrize(("status", "word"), [(1, "light"), (3, "severe"), (6, "shutdown")])
def test_every_status_above_none_is_throttling(status, word):
    found = parse_thermal(COOL.replace("Thermal Status: 0", f"Thermal Status: {status}"))
    assert found.throttled and found.to_dict()["status"] == word


def test_a_processor_that_is_cooled_is_throttled_whatever_the_status():
    found = parse_thermal(COOL.replace("mValue=0, mType=2", "mValue=2, mType=2"))
    assert found.status == 0 and found.throttled and found.cooling == ("thermal-cpufreq-0",)


@pytest.mark.parametrize("text", ["", "Can't find service: thermalservice\n", "sh: dumpsys: not found"])
def test_a_phone_that_does_not_tell_is_not_called_cool(text):
    found = parse_thermal(text)
    assert (found.status, found.cpu_c) == (None, None)
    assert found.to_dict()["status"] == "not reported"


def test_the_fastest_cores_are_taken_and_of_equal_ones_the_last():
    little, big = [Core(n, 1800, 0, "-") for n in range(4)], [Core(n, 2800, 0, "-") for n in (4, 5)]
    assert fastest([*little, *big], 1) == (5,)
    assert fastest([*little, *big], 3) == (3, 4, 5)
    assert fastest([*big, *little], 2) == (4, 5)
