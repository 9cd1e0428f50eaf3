"""Runs on the front of quality, cost and size: in a terminal, as JSON (`earshot.leaderboard/1`), CSV and Markdown."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from earshot.ci.leaderboard import Leaderboard, Place, Table
from earshot.ci.number import Number
from earshot.ci.quantity import quantity
from earshot.ci.report import markdown
from earshot.ci.report.devices import inert
from earshot.ci.report.layout import LEGEND, MARKS, NOT_MEASURED, clean
from earshot.ci.report.table import STYLES
from earshot.ci.report.tables import plain_table

SCHEMA = "earshot.leaderboard/1"
FRONT = "★"
BEATEN_SHOWN = 2
EXPLAINED = f"{FRONT} on the front: no other of its table is at least as good in all three and better in one"


def header(board: Leaderboard) -> tuple[str, ...]:
    """Titles of the table's columns."""
    return ("", "run", "row", *board.axes, "gate", "beaten by")


def render(board: Leaderboard) -> RenderableType:
    """The tables, and what is not ranked with its reason."""
    parts: list[RenderableType] = []
    for table in board.tables:
        parts.append(Text(heading(table), style="bold"))
        drawn = plain_table()
        for index, title in enumerate(header(board)):
            drawn.add_column(title, justify="right" if 3 <= index <= 5 else "left", overflow="fold")
        for place in table.places:
            cells = [Text(cell) for cell in cells_of(place)]
            cells[6].stylize(STYLES[place.verdict] if place.verdict else "")
            drawn.add_row(*cells, style="" if place.on_front else "dim")
        parts += [drawn, ""]
    return Group(*parts, *(Text(line) for line in remarks(board)))


def heading(table: Table) -> str:
    """Where, how many, and why it is a table of its own."""
    where = f"on {table.target}: " if table.target else ""
    count = len(table.places)
    apart = f"; a table of its own: {table.apart}" if table.apart else ""
    return clean(f"{where}{count} {'row' if count == 1 else 'rows'}{apart}")


def cells_of(place: Place) -> tuple[str, ...]:
    """One place in the order of `header`."""
    name = f"{', '.join(place.tags)} ({place.name})" if place.tags else place.name
    numbers = (number_words(number) for number in place.numbers)
    more = len(place.beaten_by) - BEATEN_SHOWN
    beaten = ", ".join(place.beaten_by[:BEATEN_SHOWN]) + (f" and {more} more" if more > 0 else "")
    front = FRONT if place.on_front else ""
    cells = (front, name, place.row or NOT_MEASURED, *numbers, str(place.verdict or NOT_MEASURED), beaten)
    return tuple(clean(cell) for cell in cells)


def number_words(number: Number | None) -> str:
    """A number with its unit and the mark of its provenance."""
    if number is None:
        return NOT_MEASURED
    found = number.measurement
    return f"{MARKS.get(found.provenance, '')}{quantity(number.value, found.unit)}{'!' if found.flags else ''}"


def remarks(board: Leaderboard) -> list[str]:
    """What the marks mean, and why some are not ranked."""
    shown = "".join(number_words(n) for table in board.tables for place in table.places for n in place.numbers)
    said = [EXPLAINED, *(f"{mark} {meaning}" for mark, meaning in LEGEND.items() if mark in shown)]
    lines = ["; ".join(said)]
    by_reason: dict[str, list[str]] = {}
    for place in board.unranked:
        where = f" on {place.target}" if place.target else ""
        by_reason.setdefault(place.reason or "", []).append(f"{place.title}{where}")
    lines += [f"not ranked: {', '.join(names)}: {reason}" for reason, names in by_reason.items()]
    return [clean(line) for line in lines]


def to_dict(board: Leaderboard) -> dict[str, Any]:
    """Plain JSON data, schema included."""
    quality, cost, size = board.axes
    return {
        "schema": SCHEMA,
        "quality": quality,
        "cost": cost,
        "size": size,
        "tables": [
            {
                "target": table.target,
                **({"apart": table.apart} if table.apart else {}),
                "places": [_plain(place) | {"front": place.on_front, "beaten_by": list(place.beaten_by)}
                           for place in table.places],
            }
            for table in board.tables
        ],
        "unranked": [_plain(place) | {"reason": place.reason} for place in board.unranked],
    }  # fmt: skip


def _plain(place: Place) -> dict[str, Any]:
    numbers = zip(("quality", "cost", "size"), place.numbers, strict=True)
    return {
        "run": place.name,
        "tags": list(place.tags),
        "made": place.made.isoformat() if place.made else None,
        "row": place.row,
        "target": place.target,
        "gate": str(place.verdict) if place.verdict else None,
        **{name: number.measurement.to_dict() for name, number in numbers if number},
    }


def render_json(board: Leaderboard) -> str:
    """As data. ASCII: any terminal and log keeps it whole."""
    return json.dumps(to_dict(board), indent=2, allow_nan=False) + "\n"


def render_markdown(board: Leaderboard) -> str:
    """The tables, and what is not ranked."""
    parts = [f"### {markdown.escape(' / '.join(board.axes))}"]
    for table in board.tables:
        parts += [
            markdown.escape(heading(table)),
            markdown.table(("front", *header(board)[1:]), map(cells_of, table.places)),
        ]
    return "\n\n".join([*parts, *(markdown.escape(line) for line in remarks(board))]) + "\n"


def render_csv(board: Leaderboard) -> str:
    """One line a place; tables are numbered, what is not ranked has no number and a reason."""
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    out.writerow(("table", "target", "run", "tags", "row", *board.axes, "gate", "front", "beaten_by", "reason"))
    for number, table in enumerate(board.tables, 1):
        out.writerows(_csv_cells(place, str(number)) for place in table.places)
    out.writerows(_csv_cells(place, "") for place in board.unranked)
    return text.getvalue()


def _csv_cells(place: Place, table: str) -> list[object]:
    values = ("" if number is None else number.value for number in place.numbers)
    front = "" if place.reason else str(place.on_front).lower()
    who = (table, place.target or "", place.name, " ".join(place.tags), place.row or "")
    beaten = "; ".join(place.beaten_by)
    cells = (*who, *values, str(place.verdict or ""), front, beaten, place.reason or "")
    return [inert(cell) for cell in cells]
