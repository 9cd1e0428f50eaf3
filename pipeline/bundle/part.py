"""What each class of device adds to a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from typing import Any


@dataclass(frozen=True)
class Entry:
    """A file: its bytes, and what it is, in a few words."""

    content: bytes
    what: str


@dataclass(frozen=True)
class Part:
    """Files for a class of device, and how they are used.

    Attributes:
        files: path in the bundle -> file.
        usage: Markdown for the README.
        runtime: name of a Python distribution that has to be installed -> the version the model was made with.
        tools: name -> version of the compilers that made some of the files.
        untried: what could not be run where earshot is developed, a sentence each.
    """

    files: Mapping[str, Entry]
    usage: str
    runtime: Mapping[str, str] = field(default_factory=dict)
    tools: Mapping[str, str] = field(default_factory=dict)
    untried: tuple[str, ...] = ()


def template(path: str, values: Mapping[str, Any] | None = None) -> str:
    """A text of `templates/`, with `@NAME@` replaced by values. Raises KeyError for a value that has no place in it."""
    text = (resources.files("earshot.pipeline.bundle") / "templates" / path).read_text(encoding="utf-8")
    for name, value in (values or {}).items():
        if f"@{name}@" not in text:
            raise KeyError(f"{path}: no @{name}@")
        text = text.replace(f"@{name}@", str(value))
    return text
