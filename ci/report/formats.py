"""The text formats by name, for `earshot gate --format NAME`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from earshot.ci.report import json, junit, markdown
from earshot.ci.run_file import Run
from earshot.ci.verdict import Verdict

FORMATS: dict[str, Callable[[Run, Sequence[Verdict]], str]] = {
    "json": json.render,
    "markdown": markdown.render,
    "junit": junit.render,
}
