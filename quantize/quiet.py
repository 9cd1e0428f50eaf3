"""Keeps the converters' chatter off the user's terminal."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from earshot.core.standard_error import silenced


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """`silenced`, without the converters' progress bars on standard output."""
    os.environ["LITERT_TORCH_SHOW_PROGRESS"] = "n"
    with silenced():
        yield
