"""Divides names into two parts by their hash, so that a file stays in its part when others come and go."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from typing import TypeVar

from earshot.core.errors import DataError

T = TypeVar("T")


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
    units = {unit(name(item), by): 0.0 for item in items}
    for key in units:
        units[key] = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64
    held = {key for key, place in units.items() if place < fraction} or {min(units, key=units.__getitem__)}
    if len(held) == len(units):
        raise DataError(
            f"data.validation: cannot hold out from {what}: {len(items)} files are {len(units)} unit(s) by name",
            "add files, correct `by`, or give validation a section of its own",
        )
    kept = tuple(item for item in items if unit(name(item), by) not in held)
    return kept, tuple(item for item in items if unit(name(item), by) in held)
