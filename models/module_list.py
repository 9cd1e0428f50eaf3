"""`nn.ModuleList` that remembers what it holds, so that a type checker knows its parts' methods."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar, cast

from torch import nn

Part = TypeVar("Part", bound=nn.Module)


class Parts(nn.ModuleList, Generic[Part]):
    """A ModuleList of one kind of module."""

    def __iter__(self) -> Iterator[Part]:
        return cast("Iterator[Part]", super().__iter__())

    def part(self, index: int) -> Part:
        """The module at an index."""
        return cast(Part, self[index])
