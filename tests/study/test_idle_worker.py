"""A worker process that dies while it has nothing to do."""

from __future__ import annotations

import multiprocessing
import os
import signal
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from types import SimpleNamespace
from typing import Any

from earshot.pipeline.progress import Silent
from earshot.pipeline.study.local_engine import _Hand
from earshot.pipeline.study.order import Done


def echo(pipe: Connection) -> None:
    while True:
        try:
            pipe.send(Done(pipe.recv()))
        except EOFError:
            return


def start(pipe: Connection) -> SpawnProcess:
    process = multiprocessing.get_context("spawn").Process(target=echo, args=(pipe,), daemon=True)
    process.start()
    return process


def test_another_one_takes_its_place() -> None:
    hand = _Hand(start, Silent())
    step: Any = SimpleNamespace(id="b", title="b")
    order: Any = "a"
    hand.give(step, order)
    assert hand.hear() == Done("a")
    first = hand._process
    assert first is not None and first.pid is not None
    os.kill(first.pid, signal.SIGKILL)
    first.join()
    order = "b"
    hand.give(step, order)
    assert hand.hear() == Done("b")
    assert hand._process is not first
    hand.stop()
