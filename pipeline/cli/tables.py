"""Tables and units as the commands print them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from earshot.core.measurement import Measurement

LOG_WIDTH = 140


def console() -> Console:
    """stdout: as wide as the terminal, wide enough for a table in a log."""
    found = Console()
    return found if found.is_terminal else Console(width=LOG_WIDTH)


def show(columns: Sequence[str], rows: Iterable[Sequence[object]], title: str | None = None) -> None:
    """Prints one table; cells are plain text, never markup. Columns in which no row holds anything are left out."""
    lines = list(rows)
    used = [index for index in range(len(columns)) if not lines or any(line[index] is not None for line in lines)]
    table = Table(title=title, title_justify="left", header_style="bold")
    for index in used:
        table.add_column(columns[index])
    for line in lines:
        table.add_row(*(Text("-" if line[index] is None else str(line[index])) for index in used))
    console().print(table)


def show_measurements(measurements: Iterable[Measurement], title: str | None = None) -> None:
    """Prints measured numbers with their unit, interval, sample count and provenance."""
    show(
        ("metric", "value", "unit", "95 % interval", "n", "not scored", "target", "how"), map(_row, measurements), title
    )


def size(count: int) -> str:
    """Bytes for people: `1.3 MB`."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def number(value: float | None) -> str:
    """A number in at most five significant digits, `-` where there is none."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if value == round(value) or abs(value) >= 1e5 else f"{value:.5g}"


def _row(measurement: Measurement) -> tuple[Any, ...]:
    low_high = measurement.interval
    return (
        measurement.metric,
        number(measurement.value),
        measurement.unit,
        f"{number(low_high[0])} … {number(low_high[1])}" if low_high else None,
        measurement.n,
        measurement.failed or None,
        measurement.target,
        measurement.reason or measurement.provenance.value,
    )
