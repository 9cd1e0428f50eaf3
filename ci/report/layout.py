"""What the run table shows, whatever draws it: columns, one line per row and target, and how numbers are written."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from earshot.ci.metrics import QUALITY
from earshot.ci.quantity import quantity
from earshot.ci.run_file import Row, Run
from earshot.ci.verdict import Status, Verdict, passed, worst
from earshot.core.measurement import Measurement, Provenance

NOT_MEASURED = "-"
MARKS = {Provenance.EMULATED: "≈", Provenance.ESTIMATED: "~", Provenance.TEST_DOUBLE: "?"}
VERDICT_HEADER = ("budget", "row", "measured", "limit", "margin")
LEGEND = {"≈": "emulated", "~": "estimated", "?": "stand-in, never accepted"}


@dataclass(frozen=True)
class Column:
    """One number of the table: `scale` turns the metric's unit into the header's.

    Attributes:
        others: metrics that stand in for it where it was not measured.
        timing: it belongs to a target rather than to the model.
    """

    metric: str
    title: str
    unit: str
    scale: float
    digits: int
    others: tuple[str, ...] = ()
    timing: bool = False

    @property
    def metrics(self) -> tuple[str, ...]:
        """All metrics that it may show, the first one that was measured counts."""
        return (self.metric, *self.others)

    @property
    def header(self) -> str:
        """Title and unit."""
        return f"{self.title} ({self.unit})" if self.unit else self.title


COLUMNS = (
    Column("parameters", "params", "k", 1e-3, 1),
    Column("macs_per_second", "MAC/s", "M", 1e-6, 1),
    Column("model_bytes", "model", "kB", 1e-3, 1),
    Column("state_bytes", "state", "kB", 1e-3, 2),
    Column("pesq_wb", "PESQ", "MOS", 1, 3),
    Column("stoi", "STOI", "", 1, 3),
    Column("si_sdr", "SI-SDR", "dB", 1, 2),
    Column("rtf", "RTF", "", 1, 4, timing=True),
    Column("frame_p50_us", "p50", "µs", 1, 1, timing=True),
    Column("frame_p99_us", "p99", "µs", 1, 1, timing=True),
)
# A target that tells one of these is more than a clock: the cross-device table shows it whole.
DEVICE_METRICS = ("instructions_per_frame", "ram_bytes", "flash_bytes", "npu_coverage")


@dataclass(frozen=True)
class Line:
    """One line of the table.

    Attributes:
        label: the row's name.
        cells: as many as `columns` gives for the run.
        status: the worst verdict on this row, None when no budget judged it.
    """

    label: str
    cells: tuple[str, ...]
    status: Status | None


def inline(run: Run) -> bool:
    """Whether the run table itself shows the times: there is one target, and it is no more than a clock."""
    found = {m.metric for row in run.rows for m in row.measurements if m.target}
    return len(run_targets(run)) <= 1 and not run.failures and not run.left_out and found.isdisjoint(DEVICE_METRICS)


def columns(run: Run) -> tuple[Column, ...]:
    """The run table's columns; times have a table of their own unless they are shown inline."""
    return tuple(column for column in COLUMNS if inline(run) or not column.timing)


def lines(run: Run, verdicts: Sequence[Verdict]) -> list[Line]:
    """The table's lines, one a row."""
    shown = columns(run)
    table = []
    for row in run.rows:
        status = worst(verdict.status for verdict in verdicts if verdict.row == row.row)
        by_metric = {m.metric: m for m in row.measurements if m.target is None or inline(run)}
        cells = tuple(number_cell(by_metric.get(column.metric), column) for column in shown)
        table.append(Line(clean(row.row), cells, status))
    return table


def quality_lines(run: Run) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Header and lines of quality by part of the test set: `0.912 ± 0.021 (n=77)`, one line per part and row.

    Parts are named in metric names, `pesq_wb[vbd]`; a run on a set of one part has none, and its line says `all`. The
    figure behind ± is half the 95 % confidence interval of the mean.
    """
    found = [m for row in run.rows for m in row.measurements]
    parts = list(dict.fromkeys(m.metric.partition("[")[2].rstrip("]") for m in found if m.metric.startswith(QUALITY)))
    metrics = [metric for metric in QUALITY if any(m.metric.partition("[")[0] == metric for m in found)]
    table = []
    for part in parts:
        for row in run.rows:
            named = {m.metric: m for m in row.measurements}
            cells = [scored(named.get(f"{metric}[{part}]" if part else metric)) for metric in metrics]
            if any(cell != NOT_MEASURED for cell in cells):
                table.append((clean(part) or "all", clean(row.row), *cells))
    return ("part", "row", *metrics), table


def scored(measurement: Measurement | None) -> str:
    """A mean with half its 95 % interval and its number of clips."""
    if measurement is None or measurement.value is None:
        return NOT_MEASURED
    low, high = measurement.interval or (measurement.value, measurement.value)
    lost = f", {measurement.failed} unscored" if measurement.failed else ""
    return f"{measurement.value:.3f} ± {(high - low) / 2:.3f} (n={measurement.n}{lost})"


def notes(run: Run) -> list[str]:
    """What a reader of the run table must know: where times were taken, and what the marks mean."""
    targets = run_targets(run)
    if not inline(run) or not targets:
        return []
    found = [f"times on {clean(targets[0])}"]
    used = {MARKS[m.provenance] for row in run.rows for m in row.measurements if m.provenance in MARKS}
    return found + [f"{mark} {meaning}" for mark, meaning in LEGEND.items() if mark in used]


def summary(run: Run, verdicts: Sequence[Verdict]) -> str:
    """The verdict in one sentence."""
    if not verdicts:
        return f"{clean(run.name)}: no budgets, nothing was judged"
    counts = {status: sum(verdict.status is status for verdict in verdicts) for status in Status}
    outcome = "pass" if passed(verdicts) else "fail"
    missed = ", ".join(
        f"{count} {word}"
        for count, word in (
            (counts[Status.FAIL], "failed"),
            (counts[Status.UNDECIDED], "not decidable"),
            (counts[Status.WARN], "with a warning"),
        )
        if count
    )
    return f"{clean(run.name)}: {outcome}, {len(verdicts)} budgets" + (f", {missed}" if missed else "")


def run_targets(run: Run) -> list[str]:
    """Every target of a run, in the order of first use."""
    return list(dict.fromkeys(target for row in run.rows for target in row_targets(row)))


def row_targets(row: Row) -> list[str]:
    """The targets a row was measured on, in order."""
    return list(dict.fromkeys(m.target for m in row.measurements if m.target is not None))


def verdict_cells(verdict: Verdict) -> tuple[str, ...]:
    """One verdict in the order of `VERDICT_HEADER`, its status left out."""
    unnamed = verdict.budget.startswith(f"{verdict.metric} {verdict.limit}")
    mark = next((mark for kind, mark in MARKS.items() if kind == verdict.provenance), "")
    value = NOT_MEASURED if verdict.value is None else mark + quantity(verdict.value, verdict.unit)
    margin = NOT_MEASURED if verdict.margin is None else quantity(verdict.margin)
    where = " on ".join(part for part in (verdict.row, verdict.target) if part)
    cells = (verdict.metric if unnamed and verdict.metric else verdict.budget, where, value, verdict.limit, margin)
    return tuple(clean(cell) or NOT_MEASURED for cell in cells)


def clean(text: str) -> str:
    """Text safe for one line of any report: no control, direction-changing or unpaired surrogate characters."""
    one_line = " ".join(text.split())
    return "".join("\ufffd" if unicodedata.category(c) in {"Cc", "Cf", "Cs", "Cn", "Co"} else c for c in one_line)


def number_cell(measurement: Measurement | None, column: Column) -> str:
    """A number as tables write it: the mark of its provenance before it, `!` after it where it is flagged."""
    if measurement is None or measurement.value is None:
        return NOT_MEASURED
    value = measurement.value * column.scale
    digits = 0 if abs(value) >= 1000 else column.digits
    return f"{MARKS.get(measurement.provenance, '')}{value:.{digits}f}{'!' if measurement.flags else ''}"
