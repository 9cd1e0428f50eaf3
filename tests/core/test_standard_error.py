"""Standard error, log records and warnings are the process's: threads that put them aside put them back as found."""

import logging
import os
import threading
import warnings
from pathlib import Path

import pytest

from earshot.core import standard_error
from earshot.core.standard_error import silenced
from earshot.quantize.quiet import quiet
from earshot.targets.stream import open_stream


def of_the_process():
    found = os.fstat(2)
    return found.st_dev, found.st_ino, logging.root.manager.disable, list(warnings.filters)


@pytest.fixture
def opening(monkeypatch):
    """`open_stream` as a block: it stays inside the runtime until it is let go."""

    class Opening:
        def __enter__(self):
            self.inside, self.leave = threading.Event(), threading.Event()
            monkeypatch.setattr("earshot.targets.agent.StreamEnhancer", self.stay)
            self.thread = threading.Thread(target=open_stream, args=(Path("m.tflite"),))
            self.thread.start()
            assert self.inside.wait(10)

        def stay(self, *_):
            self.inside.set()
            self.leave.wait(10)

        def __exit__(self, *_):
            self.leave.set()
            self.thread.join()

    return Opening


class Block(threading.Thread):
    """Enters a block in a thread of its own, and leaves it when told to."""

    def __init__(self, block):
        super().__init__()
        self.block, self.inside, self.leave = block, threading.Event(), threading.Event()
        self.start()

    def run(self):
        with self.block():
            self.inside.set()
            self.leave.wait(10)


def overlap(first, second):
    """What the process has afterwards, when the second begins inside the first and ends after it."""
    one = Block(first)
    assert one.inside.wait(10)
    other = Block(second)
    waited = not other.inside.wait(0.3)
    one.leave.set()
    one.join()
    other.leave.set()
    other.join()
    assert other.inside.is_set()
    return waited, of_the_process()


@pytest.mark.parametrize("first", ["quiet", "silenced", "opening"])
@pytest.mark.parametrize("second", ["quiet", "silenced"])
def test_blocks_that_overlap_in_two_threads_leave_all_as_it_was(first, second, opening):
    blocks, before = {"quiet": quiet, "silenced": silenced, "opening": opening}, of_the_process()
    assert overlap(blocks[first], blocks[second]) == (True, before)


def test_without_their_lock_they_would_not(monkeypatch):
    class NoLock:
        __enter__ = __exit__ = lambda *_: None

    before, kept, filters = of_the_process(), os.dup(2), warnings.filters
    monkeypatch.setattr(standard_error, "_one_at_a_time", NoLock())
    try:
        waited, after = overlap(quiet, silenced)
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        logging.disable(before[2])
        warnings.filters = filters
    assert not waited
    assert after[:2] != before[:2] and after[2] == logging.WARNING


def test_a_block_discards_and_may_nest(capfd):
    with silenced(), silenced():
        os.write(2, b"native code\n")
        logging.getLogger("converter").warning("a record")
        warnings.warn("a warning", stacklevel=1)
    os.write(2, b"heard again\n")
    assert capfd.readouterr().err == "heard again\n"
    assert logging.getLogger("converter").isEnabledFor(logging.WARNING)


def test_an_error_inside_gives_all_back():
    before = of_the_process()
    with pytest.raises(RuntimeError), quiet():
        raise RuntimeError
    assert of_the_process() == before
