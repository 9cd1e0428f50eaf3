"""A difference to a baseline in words."""

from __future__ import annotations

from earshot.ci.difference import Difference
from earshot.ci.quantity import quantity
from earshot.ci.statistics import LEVEL, RACE_LEVEL

STANDS_ON = {"paired": "clips", "race": "rounds by turns", "stored": "repeats, not taken side by side: weaker"}


def difference_text(found: Difference) -> str:
    """`1.41 MOS against 1.48: 0.07 worse, 95 % between 0.05 and 0.09 worse (120 clips)`."""
    if found.refused is not None or found.value is None or found.base is None or found.loss is None:
        return found.refused or "not measured"
    where = f" in {found.base_row}" if found.base_row != found.row else ""
    text = f"{quantity(found.value, found.unit)} against {quantity(found.base)}{where}: {loss_text(found.loss)}"
    if found.interval is None:
        return f"{text}{_percent(found)}"
    level = RACE_LEVEL if found.method == "race" else LEVEL
    low, high = found.interval
    between = f", {100 * level:.0f} % between {loss_text(low)} and {loss_text(high)}" if low < high else ""
    return f"{text}{_percent(found)}{between} ({found.n} {STANDS_ON[found.method]})"


def loss_text(loss: float) -> str:
    """`0.07 worse`, `0.02 better`, `the same`."""
    return "the same" if loss == 0 else f"{abs(loss):.3g} {'worse' if loss > 0 else 'better'}"


def _percent(found: Difference) -> str:
    if found.method == "paired" or not found.base or not found.loss:
        return ""
    return f" ({100 * abs(found.loss / found.base):.3g} %)"
