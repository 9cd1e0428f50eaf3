"""The result as JUnit XML: one test case per budget, for CI systems that show test reports."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree

from earshot.ci.report.layout import clean
from earshot.ci.run_file import Run
from earshot.ci.verdict import Status, Verdict

MISSED = {Status.FAIL: "budget", Status.UNDECIDED: "undecided"}


def render(run: Run, verdicts: Sequence[Verdict]) -> str:
    """A failed or undecided budget is a failure; a warning passes with its reason as output."""
    failures = sum(verdict.status in MISSED for verdict in verdicts)
    counts = {"tests": str(len(verdicts)), "failures": str(failures), "errors": "0", "skipped": "0"}
    root = ElementTree.Element("testsuites", {"name": "earshot", **counts})
    suite = ElementTree.SubElement(root, "testsuite", {"name": clean(run.name), **counts})
    for verdict in verdicts:
        where = clean(verdict.row or "run")
        case = ElementTree.SubElement(suite, "testcase", {"classname": where, "name": clean(verdict.budget)})
        if verdict.status in MISSED:
            kind = {"message": clean(verdict.reason), "type": MISSED[verdict.status]}
            failure = ElementTree.SubElement(case, "failure", kind)
            failure.text = clean(verdict.reason)
        else:
            output = ElementTree.SubElement(case, "system-out")
            output.text = clean(f"{verdict.status}: {verdict.reason}")
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"
