"""Divides names into parts by their hash, so that a file stays in its part when others come and go."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from typing import TypeVar

from earshot.core.errors import DataError

T = TypeVar("T")

PART = "part"  # draws apart from those of a holdout within a part


def unit(name: str, by: str | None) -> str:
    """What stays together: the group of `by` in the name where it matches, else the whole name."""
    found = re.search(by, name) if by else None
    return found[1] if found and found[1] else name


def hold_out(
    items: Sequence[T], name: Callable[[T], str], fraction: float, by: str | None, what: str
) -> tuple[tuple[T, ...], tuple[T, ...]]:
    """(the rest, about `fraction` of the items and at least one unit).

    Args:
        items: what to divide.
        name: an item's name.
        fraction: part of the units to hold out.
        by: expression whose one group names an item's unit.
        what: what the items are, for the message.

    Raises:
        DataError: all items are one unit, so that nothing could be left to train on.
    """
    units = {key: _place(key) for key in (unit(name(item), by) for item in items)}
    held = {key for key, place in units.items() if place < fraction} or {min(units, key=units.__getitem__)}
    if len(held) == len(units):
        raise DataError(
            f"data.validation: cannot hold out from {what}: {len(items)} files are {len(units)} unit(s) by name",
            "add files, correct `by`, or give validation a section of its own",
        )
    kept = tuple(item for item in items if unit(name(item), by) not in held)
    return kept, tuple(item for item in items if unit(name(item), by) in held)


def part_of(
    items: Sequence[T], name: Callable[[T], str], part: tuple[float, float], by: str | None, what: str
) -> tuple[T, ...]:
    """The items of a part: parts that do not overlap share no unit.

    Args:
        items: what to choose from.
        name: an item's name.
        part: from and to, of 0 to 1.
        by: expression whose one group names an item's unit.
        what: what the items are, for the message.

    Raises:
        DataError: nothing falls into the part.
    """
    low, high = part
    chosen = tuple(item for item in items if low <= _place(f"{PART} {unit(name(item), by)}") < high)
    if not chosen:
        raise DataError(
            f"none of {len(items)} files falls into the part {low:g} to {high:g} of {what}",
            "widen the part, or add files",
        )
    return chosen


def _place(key: str) -> float:
    """From 0 to 1, below 1, the same for a name for ever."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64
