"""Puts standard error aside: it belongs to the process, so one thread at a time may do it."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator

# Two threads that put it aside in turns would put back the wrong one; log records and warnings go the same way.
_one_at_a_time = threading.RLock()


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Discards warnings, log records and whatever native code writes to standard error, for the length of the block.

    Blocks of one thread may nest; another thread waits at its own until this one has ended.
    """
    with _one_at_a_time:
        before = logging.root.manager.disable
        sys.stderr.flush()
        kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                logging.disable(logging.WARNING)
                os.dup2(nowhere, 2)
                yield
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            os.close(nowhere)
            logging.disable(before)
