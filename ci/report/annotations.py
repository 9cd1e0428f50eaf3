"""Missed budgets as GitHub workflow commands: lines on standard output that become annotations of a pull request."""

from __future__ import annotations

from collections.abc import Sequence

from earshot.ci.explanation import Explanation
from earshot.ci.report.layout import clean
from earshot.ci.verdict import Status, Verdict

COMMANDS = {Status.FAIL: "error", Status.UNDECIDED: "error", Status.WARN: "warning"}


def render(verdicts: Sequence[Verdict], explanation: Explanation | None = None) -> str:
    """One line for each budget that was missed, could not be decided, or warns; empty when all passed.

    Behind the reason stands the first thing that explains it.
    """
    lines = []
    for verdict in verdicts:
        command = COMMANDS.get(verdict.status)
        if command:
            state = " not decidable:" if verdict.status is Status.UNDECIDED else ""
            title = _property(f"earshot:{state} {clean(verdict.budget)}")
            finding = explanation.of(verdict.budget) if explanation else None
            told = [verdict.reason, *(finding.sentences[:1] if finding else ())]
            lines.append(f"::{command} title={title}::{_data('; '.join(map(clean, told)))}\n")
    return "".join(lines)


def _data(text: str) -> str:
    """As GitHub's toolkit escapes a message: nothing in it can begin a command of its own."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
