"""A difference to a baseline in words."""

from __future__ import annotations

from earshot.ci.difference import Difference
from earshot.ci.quantity import quantity
from earshot.ci.statistics import LEVEL, RACE_LEVEL
from earshot.core.measurement import Provenance

STANDS_ON = {"paired": "clips", "race": "rounds by turns", "stored": "repeats, not taken side by side: weaker"}


def difference_text(found: Difference) -> str:
    """`1.41 MOS against 1.48: 0.07 worse, 95 % between 0.05 and 0.09 worse (120 clips)`."""
    if found.refused is not None or found.value is None or found.base is None or found.loss is None:
        return found.refused or "not measured"
    where = f" in {found.base_row}" if found.base_row != found.row else ""
    text = f"{quantity(found.value, found.unit)} against {quantity(found.base)}{where}: {loss_text(found.loss)}"
    remarks = "".join(f"; {remark}" for remark in remarks_of(found))
    if found.open is not None:
        return f"{text}{_percent(found)} ({found.open}{remarks})"
    if found.interval is None:
        return f"{text}{_percent(found)}" + (f" ({remarks[2:]})" if remarks else "")
    level = RACE_LEVEL if found.method == "race" else LEVEL
    low, high = found.interval
    between = f", {100 * level:.0f} % between {loss_text(low)} and {loss_text(high)}" if low < high else ""
    return f"{text}{_percent(found)}{between} ({found.n} {STANDS_ON[found.method]}{remarks})"


def remarks_of(found: Difference) -> list[str]:
    """What a reader must know of the two numbers: how they came to be, what spoils them, which clips are left out."""
    here = set(found.flags)
    remarks = [found.provenance] if found.provenance not in ("", Provenance.MEASURED) else []
    remarks += [f"{flag} in both" for flag in found.base_flags if flag in here]
    remarks += [f"{flag} in the baseline" for flag in found.base_flags if flag not in here]
    remarks += [f"{flag} here" for flag in found.flags if flag not in found.base_flags]
    if found.dropped:
        some = ", ".join(found.dropped_clips) + (", …" if found.dropped > len(found.dropped_clips) else "")
        remarks.append(f"{found.dropped} clips left out, scored on one side only: {some}")
    return remarks


def loss_text(loss: float) -> str:
    """`0.07 worse`, `0.02 better`, `the same`."""
    return "the same" if loss == 0 else f"{abs(loss):.3g} {'worse' if loss > 0 else 'better'}"


def _percent(found: Difference) -> str:
    if found.method == "paired" or not found.base or not found.loss:
        return ""
    return f" ({100 * abs(found.loss / found.base):.3g} %)"
