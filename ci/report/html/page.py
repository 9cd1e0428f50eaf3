"""The frame of every HTML page: style, sections, tables. One file that opens anywhere and fetches nothing."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from earshot.ci.report.layout import clean

# Browsers hold the page to it: no script runs and nothing is fetched, whatever a name in it contains.
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; media-src data:; base-uri 'none'; form-action 'none'"
)
LONG_CELL = 28  # characters that a table's cell may put on one line
LONGEST_TEXT = 1000  # characters; no name or reason of earshot's own is as long
TONES = 8  # colours for things that are told apart (`tone-0`… in style.css); more than that repeat
_STYLE = Path(__file__).with_name("style.css")


def page(title: str, body: Iterable[str]) -> str:
    """A whole document. `body` is HTML; everything that came from outside has been through `text`."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        f"<title>{text(title)}</title>\n<style>\n{_STYLE.read_text(encoding='utf-8')}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(body)
        + "\n</main>\n</body>\n</html>\n"
    )


@dataclass(frozen=True)
class Mark:
    """A cell that stands out: `good`, `warn` or `bad`; a tone of "" leaves it plain."""

    words: str
    tone: str


def text(value: object) -> str:
    """Anything as text that shows as itself and does nothing; what is far too long is cut."""
    shown = str(value)
    if len(shown) > LONGEST_TEXT:
        shown = shown[: LONGEST_TEXT - 1] + "…"
    return html.escape(clean(shown))


def section(title: str, *parts: str) -> str:
    """A titled part of the page; empty when it holds nothing."""
    content = "\n".join(part for part in parts if part)
    return f"<section>\n<h2>{text(title)}</h2>\n{content}\n</section>" if content else ""


def grid(parts: Iterable[str]) -> str:
    """Panels and figures side by side where there is room; empty when there are none."""
    content = "\n".join(part for part in parts if part)
    return f'<div class="grid">\n{content}\n</div>' if content else ""


def table(header: Sequence[str], rows: Iterable[Sequence[str | Mark]], numbers: Sequence[int] = ()) -> str:
    """A table of plain texts that scrolls by itself when it is wider than the page; `numbers` are set to the right."""

    def line(tag: str, cells: Sequence[str | Mark]) -> str:
        return f"<tr>{''.join(_cell(tag, cell, index in numbers) for index, cell in enumerate(cells))}</tr>"

    head, body = line("th", header), "\n".join(line("td", row) for row in rows)
    content = f"<table>\n<thead>{head}</thead>\n<tbody>\n{body}\n</tbody></table>"
    return f'<div class="scroll" tabindex="0">{content}</div>'


def _cell(tag: str, cell: str | Mark, number: bool) -> str:
    words = cell.words if isinstance(cell, Mark) else cell
    kinds = ["number"] * number + ["long"] * (len(words) > LONG_CELL)
    kinds += [cell.tone] if isinstance(cell, Mark) and cell.tone else []
    look = f' class="{" ".join(kinds)}"' if kinds else ""
    return f"<{tag}{look}>{text(words)}</{tag}>"


def figure(drawing: str, caption: str, title: str = "") -> str:
    """A drawing with its caption under it; empty when nothing was drawn."""
    heading = f"<h3>{text(title)}</h3>\n" if title else ""
    return f"<figure>\n{heading}{drawing}\n<figcaption>{text(caption)}</figcaption>\n</figure>" if drawing else ""


def fold(summary: str, *parts: str, shown: bool = False) -> str:
    """Details that a reader opens, or closes where they are `shown`; empty when there are none."""
    content = "\n".join(part for part in parts if part)
    return (
        f"<details{' open' if shown else ''}><summary>{text(summary)}</summary>\n{content}\n</details>"
        if content
        else ""
    )
