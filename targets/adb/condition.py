"""The state of a phone: which it is, its cores and their clocks, how warm it is, whether it holds itself back."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from earshot.targets.adb.client import Phone

# Android's own names (android.os.PowerManager, THERMAL_STATUS_*).
STATUS = ("none", "light", "moderate", "severe", "critical", "emergency", "shutdown")
CPU_TEMPERATURE, CPU_COOLING = 0, 2  # TemperatureType.CPU and CoolingType.CPU of Android's thermal HAL
DOUBLE = "ro.earshot.double"  # set to 1 by stand-ins for a phone: what they say is never taken for measured
PROPERTIES = (
    "ro.product.manufacturer",
    "ro.product.model",
    "ro.soc.model",
    "ro.product.cpu.abi",
    "ro.build.version.release",
    "ro.build.version.sdk",
    "ro.build.fingerprint",
    DOUBLE,
)
CORES = (
    'for c in /sys/devices/system/cpu/cpu[0-9]*; do echo "${c##*/cpu} '
    "$(cat $c/cpufreq/cpuinfo_max_freq 2>/dev/null || echo 0) $(cat $c/cpufreq/scaling_cur_freq 2>/dev/null || echo 0) "
    '$(cat $c/cpufreq/scaling_governor 2>/dev/null || echo -)"; done'
)


@dataclass(frozen=True)
class Core:
    """One core: clocks in MHz, 0 where the phone does not tell."""

    number: int
    highest_mhz: float
    current_mhz: float
    governor: str


@dataclass(frozen=True)
class Thermal:
    """What `dumpsys thermalservice` says.

    Attributes:
        status: 0 none, 1 light ... 6 shutdown; None before Android 10.
        cpu_c: the warmest processor sensor in °C, None where there is none.
        cooling: names of processor cooling devices that are at work now.
    """

    status: int | None
    cpu_c: float | None
    cooling: tuple[str, ...]

    @property
    def throttled(self) -> bool:
        """Whether the phone holds its processor back, as far as it tells."""
        return bool(self.status) or bool(self.cooling)

    def to_dict(self) -> dict[str, Any]:
        """For the record."""
        status = "not reported" if self.status is None else STATUS[min(self.status, len(STATUS) - 1)]
        return {"status": status, "cpu_c": self.cpu_c, "cooling": list(self.cooling)}


def properties(phone: Phone) -> dict[str, str]:
    """What the phone says it is. Raises DeviceError."""
    said = phone.shell("; ".join(f'echo "{name}=$(getprop {name})"' for name in PROPERTIES)).text
    pairs = (line.split("=", 1) for line in said.splitlines() if "=" in line)
    return {name: value.strip() for name, value in pairs if name in PROPERTIES and value.strip()}


def read_cores(phone: Phone) -> list[Core]:
    """Its cores as they run now. Raises DeviceError."""
    rows = [line.split() for line in phone.shell(CORES).text.splitlines()]
    return sorted(
        (
            Core(int(row[0]), float(row[1]) / 1e3, float(row[2]) / 1e3, row[3])
            for row in rows
            if len(row) == 4 and row[0].isdigit()
        ),
        key=lambda core: core.number,
    )


def fastest(cores: list[Core], count: int) -> tuple[int, ...]:
    """Numbers of the cores with the highest clocks; of equal ones the last, which serve fewer interrupts."""
    ranked = sorted(cores, key=lambda core: (core.highest_mhz, core.number), reverse=True)
    return tuple(sorted(core.number for core in ranked[:count]))


def read_thermal(phone: Phone) -> Thermal:
    """How warm it is now. Raises DeviceError."""
    return parse_thermal(phone.shell("dumpsys thermalservice").text)


def parse_thermal(text: str) -> Thermal:
    """Reads `dumpsys thermalservice`; its cached temperatures are old ones and are passed over."""
    status = re.search(r"^\s*Thermal Status: (\d+)", text, re.MULTILINE)
    _, _, current = text.partition("Current temperatures from HAL:")
    items = [dict(_fields(body)) for body in re.findall(r"(?:Temperature|CoolingDevice)\{([^}]*)\}", current)]
    warm = [
        float(item["mValue"])
        for item in items
        if item.get("mType") == str(CPU_TEMPERATURE) and "mStatus" in item and math.isfinite(float(item["mValue"]))
    ]
    cooling = [
        item.get("mName", "?")
        for item in items
        if "mStatus" not in item and item.get("mType") == str(CPU_COOLING) and float(item.get("mValue", 0)) > 0
    ]
    return Thermal(int(status[1]) if status else None, max(warm, default=None), tuple(cooling))


def clocks(cores: list[Core], used: tuple[int, ...]) -> Mapping[str, float]:
    """Current clock in MHz of the cores in use, by number; empty where the phone does not tell."""
    return {str(core.number): core.current_mhz for core in cores if core.number in used and core.current_mhz}


def _fields(body: str) -> list[tuple[str, str]]:
    return [(key.strip(), value) for key, _, value in (part.partition("=") for part in body.split(","))]
