"""The look that every terminal table of a report shares."""

from __future__ import annotations

from rich import box
from rich.table import Table


def plain_table(title: str | None = None) -> Table:
    """An empty table: a rule under the header, no borders."""
    look = {"box": box.SIMPLE_HEAD, "pad_edge": False, "padding": (0, 1, 0, 0), "show_edge": False}
    return Table(title=title, title_justify="left", title_style="bold", **look)  # type: ignore[arg-type]
