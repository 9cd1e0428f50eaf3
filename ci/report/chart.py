"""A line chart for a terminal: lines of braille dots, marks where the numbers are, limits across."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from rich.text import Text

from earshot.ci.report.html.axis import Axis

HEIGHT = 13
LIMIT_STYLE = "yellow"
WIDEST_STEP = 12  # characters from one number to the next: three numbers do not need a whole screen
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # bits of U+2800, by line and column of a cell
_BRAILLE = 0x2800


@dataclass(frozen=True)
class Spot:
    """One number of the line, or a gap.

    Attributes:
        value: None for a gap.
        mark: the character that stands for it.
        joined: a line leads to it from the spot before.
        broken: a line across the chart's height parts it from the spot before.
        style: of the mark.
    """

    value: float | None
    mark: str = "●"
    joined: bool = False
    broken: bool = False
    style: str = ""


@dataclass(frozen=True)
class Across:
    """A line across the whole chart, with words at its end."""

    value: float
    words: str


def draw(spots: Sequence[Spot], axis: Axis, across: Sequence[Across] = (), width: int = 100) -> list[Text]:
    """The chart's lines, top to bottom; numbers from 1 under the spots.

    Args:
        spots: from left to right.
        axis: what is up and down.
        across: limits.
        width: characters there are.
    """
    labels = {_line(axis, tick): label for tick, label in axis.labels()}
    ends: dict[int, list[str]] = {}
    for one in across:
        ends.setdefault(_line(axis, one.value), []).append(one.words)
    words = {line: ", ".join(found) for line, found in ends.items()}
    edge = max(map(len, labels.values()), default=0)
    room = width - edge - 4 - max((len(one) + 1 for one in words.values()), default=0)
    step = min(WIDEST_STEP, max(0.0, (room - 2) / max(1, len(spots) - 1)))
    columns = [1 + round(index * step) for index in range(len(spots))]
    plane = _Plane(columns[-1] + 2)
    for line in words:
        plane.across(line)
    for (left, right), (before, spot) in zip(pairwise(columns), pairwise(spots), strict=True):
        if spot.broken and right - left > 2:
            plane.part((left + right) // 2)
        elif spot.joined and before.value is not None and spot.value is not None:
            plane.join((left, axis.place(before.value)), (right, axis.place(spot.value)))
    for column, spot in zip(columns, spots, strict=True):
        line = HEIGHT - 1 if spot.value is None else _line(axis, spot.value)
        plane.cells[line][column] = (spot.mark, spot.style)
    lines = []
    for number, cells in enumerate(plane.cells):
        text = Text(f"{labels.get(number, ''):>{edge}} {'┤' if number in labels else '│'}", style="dim")
        lines.append(Text.assemble(text, *cells, (f" {words[number]}" if number in words else "", LIMIT_STYLE)))
    return [*lines, Text(" " * (edge + 2) + _numbers(columns), style="dim")]


def _line(axis: Axis, value: float) -> int:
    return round((1 - axis.place(value)) * (HEIGHT - 1))


def _numbers(columns: Sequence[int]) -> str:
    """1, 2, 3 … under their columns; where these lie close, 1 and the multiples of a round number."""
    longest = len(str(len(columns)))
    apart = (columns[-1] - columns[0]) / max(1, len(columns) - 1)
    every = next((step for step in (1, 2, 5, 10, 20, 50) if step * apart >= longest + 2), 100)
    text = ""
    for index, column in enumerate(columns, 1):
        start = column - (len(str(index)) - 1) // 2
        if index == 1 or (index % every == 0 and start > len(text)):
            text = f"{text:<{start}}{index}"
    return text


class _Plane:
    """Characters with their styles, and the dots between them."""

    def __init__(self, width: int) -> None:
        self.cells = [[(" ", "")] * width for _ in range(HEIGHT)]
        self._dots = [[0] * width for _ in range(HEIGHT)]

    def across(self, line: int) -> None:
        """A dashed line over the whole width."""
        self.cells[line] = [("┄", LIMIT_STYLE)] * len(self.cells[line])

    def part(self, column: int) -> None:
        """A dashed line over the whole height."""
        for cells in self.cells:
            cells[column] = ("╎", "dim")

    def join(self, begin: tuple[int, float], end: tuple[int, float]) -> None:
        """A line of dots between two places: (column, share of the height)."""
        x0, x1 = 2 * begin[0] + 1, 2 * end[0]
        y0, y1 = ((1 - share) * (HEIGHT - 1) * 4 + 1.5 for share in (begin[1], end[1]))
        count = max(1, x1 - x0, round(abs(y1 - y0)))
        for number in range(count + 1):
            share = number / count
            self._dot(round(x0 + (x1 - x0) * share), round(y0 + (y1 - y0) * share))

    def _dot(self, x: int, y: int) -> None:
        line, column = y // 4, x // 2
        self._dots[line][column] |= _DOTS[y % 4][x % 2]
        self.cells[line][column] = (chr(_BRAILLE + self._dots[line][column]), "")
