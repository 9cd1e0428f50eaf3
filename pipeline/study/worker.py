"""A worker process of a study: makes one step after the other for the process that started it, and ends with it.

Steps hold functions that no pipe carries, so a worker plans the same matrix itself and is told identities.
"""

from __future__ import annotations

import os
import signal
import threading
from multiprocessing import parent_process
from multiprocessing.connection import Connection
from pathlib import Path

from earshot.pipeline.store import Store
from earshot.pipeline.study.cells import matrix, open_study_data
from earshot.pipeline.study.config import Study
from earshot.pipeline.study.order import Sending, carry_out


def serve(pipe: Connection, study: Study, root: Path, threads: int, cores: frozenset[int]) -> None:
    """Takes orders from a pipe until it is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt reaches the whole group; the parent decides
    threading.Thread(target=_end_with_parent, name="end with parent", daemon=True).start()
    if cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)  # scoring sizes its own workers to the cores it may use
    store = Store(root)
    steps = matrix(study, open_study_data(study, root / "cache"), threads).steps
    while True:
        try:
            order = pipe.recv()
        except EOFError:
            return
        step = steps[order.id]
        pipe.send(carry_out(order, step, store, Sending(pipe.send, step.title)))


def _end_with_parent() -> None:
    """A worker whose parent was killed would train on into the scratch that the next study resumes from."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
