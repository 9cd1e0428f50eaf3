"""What the gate says of one budget: plain data that a run file keeps and every report shows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Status(StrEnum):
    """Outcome of one budget, best first."""

    PASS = "pass"
    WARN = "warn"  # missed, but the budget's severity is `warn`
    UNDECIDED = "undecided"  # the difference to the baseline is smaller than its noise, and so is the limit
    FAIL = "fail"


@dataclass(frozen=True)
class Verdict:
    """One budget judged.

    Attributes:
        budget: the budget's title.
        status: pass, warn, undecided or fail.
        reason: why, in one line.
        metric: what was judged; empty for the verdict on the run itself.
        limit: the limit in words.
        row: the row judged, None when there was none to judge.
        target: the device the judged value was taken on.
        value: the measured value, None when there was none.
        reference: the value of the row compared with.
        unit: unit of value, reference and margin.
        margin: room left to the limit; negative is missing, None without a value.
        provenance: how the value came to be.
        n: samples the value stands on.
        interval: of the loss against a baseline, where it is not exact.
    """

    budget: str
    status: Status
    reason: str
    metric: str = ""
    limit: str = ""
    row: str | None = None
    target: str | None = None
    value: float | None = None
    reference: float | None = None
    unit: str = "1"
    margin: float | None = None
    provenance: str | None = None
    n: int | None = None
    interval: tuple[float, float] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data, without the fields that hold nothing."""
        return {
            key: str(value) if key == "status" else value for key, value in asdict(self).items() if value is not None
        }


def worst(statuses: Iterable[Status]) -> Status | None:
    """The worst of several outcomes, None of none."""
    order = list(Status)
    return max(statuses, key=order.index, default=None)


def passed(verdicts: Iterable[Verdict]) -> bool:
    """Whether nothing failed and nothing stayed undecided; warnings pass."""
    return worst(verdict.status for verdict in verdicts) not in (Status.FAIL, Status.UNDECIDED)


def exit_code(verdicts: Iterable[Verdict]) -> int:
    """What a gate's process ends with: 0 pass, 1 fail."""
    return 0 if passed(verdicts) else 1
