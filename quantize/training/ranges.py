"""Which values of a network share a range, and how wide each range is.

A place is where a network makes a value: an operator of a module, in the order in which they are called. The survey
walks a network over sound in float, finds its places, ties those that only move values to what they move (as
`quantize/ranges.py` ties the exported graph), and measures the ranges. Training rounds to them, and they follow it.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn

from earshot.core.errors import ModelError, ToolError
from earshot.quantize.ranges import PRESCRIBED
from earshot.quantize.training.rounding import Grids, round_weights

Place = Hashable
_EXACT = {"LOGISTIC": (0.0, 255 / 256), "SOFTMAX": (0.0, 255 / 256), "TANH": (-1.0, 127 / 128)}
NOWHERE = -1
_SHRINK = 0.99  # of a range, pass by pass, towards what it still holds


class Keeper(Protocol):
    """Knows the places of values, and what becomes of a value there."""

    def range_of(self, place: Place, prescribed: str | None = None) -> int:
        """The range of a place; `prescribed` names the operator whose kernel prescribes it."""

    def tie(self, ranges: list[int]) -> int:
        """One range for values that move between these."""

    def settle(self, values: Tensor, index: int) -> Tensor:
        """The values as the integer file holds them."""

    def weights(self, weights: Tensor, rows: tuple[int, ...]) -> Tensor:
        """Weights likewise, with a scale for each index of the dimensions `rows`."""


@dataclass
class Survey:
    """Finds places, ties and ranges; values pass as they are."""

    _places: dict[Place, int] = field(default_factory=dict)
    _parents: list[int] = field(default_factory=list)
    _prescribed: dict[int, str] = field(default_factory=dict)
    _seen: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def range_of(self, place: Place, prescribed: str | None = None) -> int:
        """As `Keeper`; a place never seen is new."""
        if place not in self._places:
            self._places[place] = len(self._parents)
            self._parents.append(len(self._parents))
        index = self._places[place]
        if prescribed is not None:
            self._prescribed[index] = prescribed
        return index

    def tie(self, ranges: list[int]) -> int:
        """As `Keeper`."""
        first = self._root(ranges[0])
        for other in ranges[1:]:
            self._parents[self._root(other)] = first
        return first

    def settle(self, values: Tensor, index: int) -> Tensor:
        """Notes least and greatest."""
        low, high = torch.aminmax(values.detach())
        if index in self._seen:
            low, high = torch.minimum(low, self._seen[index][0]), torch.maximum(high, self._seen[index][1])
        self._seen[index] = low, high
        return values

    def weights(self, weights: Tensor, rows: tuple[int, ...]) -> Tensor:
        """As they are."""
        return weights

    def found(self) -> tuple[dict[Place, int], Ranges]:
        """Place -> range, and the ranges; `NOWHERE` for places whose values are never held as they are.

        Raises:
            ModelError: values that are not finite.
        """
        roots = sorted({self._root(index) for index in self._seen})
        number = {root: position for position, root in enumerate(roots)}
        places = {place: number.get(self._root(index), NOWHERE) for place, index in self._places.items()}
        low, high = torch.full((len(roots),), torch.inf), torch.full((len(roots),), -torch.inf)
        for index, (least, greatest) in self._seen.items():
            place = number[self._root(index)]
            low[place], high[place] = torch.minimum(low[place], least), torch.maximum(high[place], greatest)
        prescribed: dict[int, set[str]] = {}
        for index, name in self._prescribed.items():
            if self._root(index) in number:
                prescribed.setdefault(number[self._root(index)], set()).add(name)
        ranges = Ranges(
            low,
            high,
            {at: names.pop() for at, names in prescribed.items() if len(names) == 1},
            {number: place for place, number in reversed(places.items())},
        )
        if endless := ranges.endless():
            raise ModelError(
                f"{endless} do not stay finite on the calibration sound", "train the network with a lower learning_rate"
            )
        return places, ranges

    def _root(self, index: int) -> int:
        while self._parents[index] != index:
            index = self._parents[index]
        return index


class Ranges(nn.Module):
    """The ranges as buffers: they are saved with the weights, so that training resumes with them.

    Args:
        low, high: float32 `[ranges]`.
        prescribed: range -> operator whose kernel prescribes its scale, as long as all its values fit.
        places: range -> where its values are made first.
    """

    low: Tensor
    high: Tensor

    def __init__(
        self, low: Tensor, high: Tensor, prescribed: Mapping[int, str], places: Mapping[int, Place] | None = None
    ) -> None:
        super().__init__()
        self.register_buffer("low", low)
        self.register_buffer("high", high)
        self._prescribed, self._places = dict(prescribed), dict(places or {})

    def endless(self) -> str:
        """What is not finite, in words; nothing where all is."""
        wrong = (~(self.low.isfinite() & self.high.isfinite())).nonzero().flatten().tolist()
        if not wrong:
            return ""
        place = self._places.get(wrong[0], wrong[0])
        return f"the network's values at {place[0] if isinstance(place, tuple) else place}"

    def grids(self) -> Grids:
        """The grids as the ranges are now."""
        low, high = self.low.clone(), self.high.clone()
        for index, name in self._prescribed.items():
            widest, exact = PRESCRIBED[name], _EXACT[name]
            fits = (self.low[index] >= widest.low) & (self.high[index] <= widest.high)
            low[index] = torch.where(fits, exact[0], low[index])
            high[index] = torch.where(fits, exact[1], high[index])
        return Grids.of(low, high)

    def follow(self, observed: Mapping[int, list[tuple[Tensor, Tensor]]]) -> None:
        """Widens at once to what was seen, and shrinks slowly from what is no more: nothing is clipped for long.

        Raises:
            ToolError: what was seen is not finite.
        """
        for index, seen in observed.items():
            least, greatest = (torch.stack(ends) for ends in zip(*seen, strict=True))
            self.low[index] = torch.minimum(self.low[index] * _SHRINK, least.amin())
            self.high[index] = torch.maximum(self.high[index] * _SHRINK, greatest.amax())
        if endless := self.endless():
            raise ToolError(f"{endless} are finite no more", "lower learning_rate, or check the data")


class Rounding:
    """Rounds to the ranges that a survey found.

    Args:
        places: place -> range.
        ranges: as they are when a pass begins.
        observe: note what is seen, to follow it.
    """

    def __init__(self, places: Mapping[Place, int], ranges: Ranges, *, observe: bool) -> None:
        self._places, self._grids, self._observe = places, ranges.grids(), observe
        self._weights: dict[int, tuple[Tensor, Tensor]] = {}  # both, so that no other tensor takes the same id
        self.observed: dict[int, list[tuple[Tensor, Tensor]]] = {}

    def range_of(self, place: Place, prescribed: str | None = None) -> int:
        """As `Keeper`.

        Raises:
            ModelError: the survey did not come by here.
        """
        if place not in self._places:
            raise ModelError(
                f"the network has no operator {place} on the sound that its ranges were measured on",
                "let it call the same layers whatever it hears",
            )
        return self._places[place]

    def tie(self, ranges: list[int]) -> int:
        """As `Keeper`; what moves has one range already."""
        return ranges[0]

    def settle(self, values: Tensor, index: int) -> Tensor:
        """The values on their grid."""
        if index == NOWHERE:
            return values
        if self._observe:
            low, high = torch.aminmax(values.detach().float())
            self.observed.setdefault(index, []).append((low, high))
        return self._grids.round(values, index)

    def weights(self, weights: Tensor, rows: tuple[int, ...]) -> Tensor:
        """The weights on theirs, once a pass."""
        if id(weights) not in self._weights:
            self._weights[id(weights)] = weights, round_weights(weights, rows)
        return self._weights[id(weights)][1]
