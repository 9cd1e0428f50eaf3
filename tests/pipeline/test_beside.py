"""Work side by side: what fails stops nothing else, what is exclusive runs alone, and an interrupt ends all of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from earshot.core.errors import DeviceError
from earshot.pipeline.beside import AT_ONCE, Done, Task, side_by_side
from earshot.pipeline.progress import Progress, Silent

WAIT = 20.0


def task(name: str, work: Callable[[Progress], str], exclusive: bool = False) -> Task[str]:
    return Task(name, exclusive, work)


def fails(error: Exception) -> Callable[[Progress], str]:
    def work(progress: Progress) -> str:
        raise error

    return work


def by_name(done: Iterator[Done[str]]) -> dict[str, Done[str]]:
    return {one.name: one for one in done}


def test_tasks_run_at_the_same_time() -> None:
    """Both wait for each other, so that neither would end alone."""
    meeting = threading.Barrier(2, timeout=WAIT)

    def work(progress: Progress) -> str:
        meeting.wait()
        return threading.current_thread().name

    done = by_name(side_by_side([task("a", work), task("b", work)], Silent()))
    assert {name: one.value for name, one in done.items()} == {"a": "a", "b": "b"}
    assert all(one.error is None and one.seconds >= 0 for one in done.values())


def test_the_check_above_notices_tasks_that_run_one_after_the_other() -> None:
    meeting = threading.Barrier(2, timeout=0.2)

    def work(progress: Progress) -> str:
        meeting.wait()
        return "met"

    done = by_name(side_by_side([task("a", work, exclusive=True), task("b", work, exclusive=True)], Silent()))
    assert "BrokenBarrierError" in str(done["a"].error)


def test_an_exclusive_task_has_the_machine_for_itself() -> None:
    running: set[str] = set()
    beside: dict[str, set[str]] = {}

    def named(name: str) -> Callable[[Progress], str]:
        def work(progress: Progress) -> str:
            running.add(name)
            time.sleep(0.05)
            beside[name] = set(running)
            running.discard(name)
            return name

        return work

    tasks = [task("a", named("a")), task("alone", named("alone"), exclusive=True), task("b", named("b"))]
    assert set(by_name(side_by_side(tasks, Silent()))) == {"a", "b", "alone"}
    assert beside["alone"] == {"alone"}
    assert {"a", "b"} in (beside["a"], beside["b"]), "the other two did not run beside each other"


@pytest.mark.parametrize("exclusive", [False, True])
def test_a_failure_is_told_and_stops_no_other(exclusive: bool) -> None:
    tasks = [
        task("gone", fails(DeviceError("gone", "plug it in")), exclusive),
        task("buggy", fails(ZeroDivisionError("boom")), exclusive),
        task("fine", lambda progress: "done", exclusive),
    ]
    done = by_name(side_by_side(tasks, Silent()))
    assert done["fine"].value == "done"
    gone, buggy = done["gone"].error, done["buggy"].error
    assert isinstance(gone, DeviceError) and (gone.message, gone.hint) == ("gone", "plug it in")
    assert buggy is not None and buggy.exit_code == 3
    assert buggy.message == "buggy: unexpected ZeroDivisionError: boom"
    assert isinstance(buggy.__cause__, ZeroDivisionError)
    assert done["gone"].value is None


def test_what_ends_first_is_told_first() -> None:
    gate = threading.Event()

    def late(progress: Progress) -> str:
        gate.wait(WAIT)
        return "late"

    ends = side_by_side([task("late", late), task("early", lambda progress: "early")], Silent())
    assert next(ends).name == "early"
    gate.set()
    assert [one.name for one in ends] == ["late"]


def test_when_the_caller_stops_running_tasks_end_at_their_next_sign_of_progress() -> None:
    tidied, started = threading.Event(), threading.Event()

    def endless(progress: Progress) -> str:
        try:
            while True:
                started.set()
                progress.advance()
                time.sleep(0.01)
        finally:
            tidied.set()

    ends = side_by_side([task("endless", endless), task("quick", lambda progress: "quick")], Silent())
    assert next(ends).name == "quick"
    assert started.wait(WAIT) and not tidied.is_set()
    ends.close()  # what an interrupt does to the generator
    assert tidied.is_set()
    assert not [thread for thread in threading.enumerate() if thread.name == "endless"]


def test_more_tasks_than_slots_all_run() -> None:
    most, now, lock = 0, 0, threading.Lock()

    def work(progress: Progress) -> str:
        nonlocal most, now
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.02)
        with lock:
            now -= 1
        return "x"

    done = list(side_by_side([task(str(index), work) for index in range(3 * AT_ONCE)], Silent()))
    assert len(done) == 3 * AT_ONCE
    assert most == AT_ONCE
