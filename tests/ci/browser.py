"""A real browser, without a window, for the tests of HTML pages."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="needs a browser: apt-get install chromium")
QUIET = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--host-resolver-rules=MAP * ~NOTFOUND"),
)

# Runs beside the page, not in it: the page's own policy forbids scripts.
PROBE = """
const luminance = rgb => rgb.map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const numbers = colour => (colour.match(/[\\d.]+/g) || []).map(Number);
const paint = (window, element) => {
  for (let at = element; at; at = at.parentElement) {
    const found = numbers(window.getComputedStyle(at).backgroundColor);
    if (found.length === 3 || found[3] > 0.99) return found.slice(0, 3);
  }
  return [255, 255, 255];
};
const contrast = (window, element) => {
  const style = window.getComputedStyle(element);
  const ink = numbers(element.namespaceURI.endsWith('svg') ? style.fill : style.color).slice(0, 3);
  const [a, b] = [luminance(ink), luminance(paint(window, element))].sort((a, b) => b - a);
  return (a + 0.05) / (b + 0.05);
};
const measure = frame => {
  const document = frame.contentDocument, window = frame.contentWindow;
  const drawn = [...document.querySelectorAll('figure svg text, .colours svg text')].map(t =>
    [t.getBoundingClientRect(), t.ownerSVGElement.getBoundingClientRect(), t.textContent]).filter(([t]) => t.width);
  const words = [...document.body.querySelectorAll('*')].filter(e =>
    [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim()) && e.getClientRects().length);
  const faint = words.map(e => [contrast(window, e), e.textContent.trim().slice(0, 40)]).sort((a, b) => a[0] - b[0]);
  return {
    wide: document.documentElement.scrollWidth, seen: window.innerWidth,
    small: drawn.filter(([t]) => t.height < 9).map(([t, s, words]) => [t.height, words]),
    cut: drawn.filter(([t, s]) => t.right > s.right + 1 || t.left < s.left - 1).map(([t, s, words]) => words),
    background: numbers(window.getComputedStyle(document.body).backgroundColor).slice(0, 3),
    faintest: faint[0], texts: words.length,
    players: [...document.querySelectorAll('audio')].map(a => [a.readyState, a.duration, a.error && a.error.message]),
    pictures: [...document.querySelectorAll('svg image')].map(i => i.getBoundingClientRect().width),
  };
};
const ready = frame => [...frame.contentDocument.querySelectorAll('audio')].every(a => a.readyState > 0 || a.error);
"""


@dataclass(frozen=True)
class Seen:
    """What the browser made of a page.

    Attributes:
        found: what `PROBE` measured.
        console: errors and warnings.
        requests: every address that it asked the network for.
    """

    found: dict[str, Any]
    console: list[str]
    requests: list[str]


def look(content: str, folder: Path, width: int, height: int, dark: bool = False) -> Seen:
    """Opens a page in a frame of that size: headless windows are never narrower than 500 pixels."""
    (folder / "inner.html").write_text(content, encoding="utf-8")
    outer = f"""<iframe id=f src=inner.html style="width:{width}px;height:{height}px;border:0"></iframe><script>{PROBE}
      f.onload = () => {{
        const wait = () => ready(f) ? document.body.append('FOUND' + JSON.stringify(measure(f)) + 'END')
          : setTimeout(wait, 50);
        wait();
      }}</script>"""
    (folder / "outer.html").write_text(outer)
    flags = [*QUIET, "--allow-file-access-from-files", "--enable-logging=stderr", f"--log-net-log={folder}/net.json"]
    flags += ["--blink-settings=preferredColorScheme=0"] if dark else []
    command = [str(CHROMIUM), *flags, f"--user-data-dir={folder}/profile", "--virtual-time-budget=20000", "--dump-dom"]
    command.append((folder / "outer.html").as_uri())
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    found = re.findall(r"FOUND(\{.*?\})END", done.stdout.rpartition("</script>")[2])
    assert found, done.stderr[-2000:]
    return Seen(json.loads(html.unescape(found[0])), re.findall(r":CONSOLE.*", done.stderr), _requests(folder))


def _requests(folder: Path) -> list[str]:
    """Addresses that pages asked for, from the browser's log of its network; what the browser itself wants is not."""
    events = json.loads((folder / "net.json").read_text())["events"]
    asked = [event["params"] for event in events if "initiator" in event.get("params", {})]
    return sorted({
        one["url"] for one in asked
        if one["initiator"] != "not an origin" and re.match("https?:|wss?:|ftp:", one.get("url", ""))
    })  # fmt: skip
