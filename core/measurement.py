"""A measured number with its unit, its sample count and how it came to be."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Provenance(StrEnum):
    """How a number came to be. A gate accepts `estimated` only where its budget says so, `unavailable` never."""

    MEASURED = "measured"  # that device's own clock, or arithmetic on the very file that ships
    EMULATED = "emulated"  # the real code ran on an emulated processor: outputs and instruction counts only
    ESTIMATED = "estimated"  # a model of the device
    TEST_DOUBLE = "test_double"  # came from a stand-in for a device: never accepted
    UNAVAILABLE = "unavailable"  # could not be measured: `value` is None and `reason` says why


@dataclass(frozen=True)
class Measurement:
    """One number.

    Attributes:
        metric: name with its protocol where it has one, e.g. `pesq_wb`, `rtf`, `frame_p99_us`, `parameters`.
        value: the number (a mean for per-clip metrics), or None when it could not be measured.
        unit: `MOS`, `dB`, `us`, `bytes`, `1` for a ratio.
        n: how many samples the value stands on (clips, frames; 1 for a count).
        provenance: how it came to be.
        target: the device it was taken on, None where no device matters.
        interval: 95 % confidence interval of the mean, where it was computed.
        failed: how many samples could not be scored.
        reason: why it is unavailable.
        flags: what spoils it: `throttled`, `lower-bound`; a gate refuses it unless its budget allows that flag.
    """

    metric: str
    value: float | None
    unit: str
    n: int = 1
    provenance: Provenance = Provenance.MEASURED
    target: str | None = None
    interval: tuple[float, float] | None = None
    failed: int = 0
    reason: str | None = None
    flags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.value is not None and not math.isfinite(self.value):
            object.__setattr__(self, "reason", self.reason or f"the value is {self.value}")
            object.__setattr__(self, "value", None)
        if self.value is None:
            object.__setattr__(self, "provenance", Provenance.UNAVAILABLE)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data, without the fields that hold nothing."""
        return {key: value for key, value in asdict(self).items() if value is not None and value != ()}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Measurement:
        """The inverse of `to_dict`. Raises TypeError or ValueError on foreign data."""
        interval = data.get("interval")
        return cls(
            **{
                **data,
                "value": data.get("value"),
                "provenance": Provenance(data["provenance"]),
                "interval": tuple(interval) if interval is not None else None,
                "flags": tuple(data.get("flags", ())),
            }
        )
