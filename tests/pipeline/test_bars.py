"""Progress as lines in a log and as bars on a terminal."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.progress import Progress as RichProgress

from earshot.pipeline.cli import bars
from earshot.pipeline.cli.tables import number, size


def test_a_log_gets_one_line_per_task_and_signs_of_life(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter([0.0, 10.0, 31.0, 40.0, 62.0, 75.0])
    monkeypatch.setattr(bars.time, "monotonic", lambda: next(clock))
    lines = bars.Lines()
    lines.start("training", 100)
    for _ in range(4):
        lines.advance(10, "loss 0.5")
    lines.finish("best 0.4")
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines() == [
        "training  20/100  loss 0.5",
        "training  40/100  loss 0.5",
        "training  75.0 s  best 0.4",
    ]


def test_bars_show_task_count_and_note_and_end_full() -> None:
    out = io.StringIO()
    with RichProgress(*bars._rich_bars().columns, console=Console(file=out, force_terminal=True, width=120)) as drawn:
        drawing = bars.Bars(drawn)
        drawing.advance()  # nothing is open: no failure
        drawing.start("training", 4)
        drawing.advance(3, "loss 0.5")
        assert (drawn.tasks[0].completed, drawn.tasks[0].fields["note"]) == (3, "loss 0.5")
        drawing.finish()
        assert drawn.tasks[0].completed == 4
        drawing.start("scoring", None)
        drawing.finish("done")
        assert drawn.finished
    assert "training" in out.getvalue()
    assert "loss 0.5" in out.getvalue()


def test_work_side_by_side_has_a_bar_each(capsys: pytest.CaptureFixture[str]) -> None:
    with RichProgress(*bars._rich_bars().columns, console=Console(file=io.StringIO(), width=120)) as drawn:
        whole = bars.Bars(drawn)
        one, other = whole.beside(), whole.beside()
        one.start("profile on a", 4)
        other.start("profile on b", 2)
        one.advance(3)
        other.advance(1)
        assert [(task.description, task.completed) for task in drawn.tasks] == [
            ("profile on a", 3),
            ("profile on b", 1),
        ]
        one.finish()
        assert [task.finished for task in drawn.tasks] == [True, False]
    lines = bars.Lines()
    for name in "ab":
        beside = lines.beside()
        beside.start(f"profile on {name}", 1)
        beside.finish("done")
    assert [line.split("  ")[0] for line in capsys.readouterr().err.splitlines()] == ["profile on a", "profile on b"]


def test_a_pipe_gets_lines_and_quiet_gets_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    for quiet in (True, False):
        with bars.drawer(quiet) as progress:
            progress.start("task", 1)
            progress.finish()
        assert bool(capsys.readouterr().err) is not quiet


@pytest.mark.parametrize(("value", "text"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (2_300_000, "2.3 MB")])
def test_sizes(value: int, text: str) -> None:
    assert size(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(None, "-"), (3.0, "3"), (2.2371, "2.2371"), (0.000123456, "0.00012346"), (195000.0, "195,000")]
)
def test_numbers(value: float | None, text: str) -> None:
    assert number(value) == text
