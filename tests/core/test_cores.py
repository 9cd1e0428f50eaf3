"""Cores that a process may use."""

import os
import subprocess
import sys

import pytest

from earshot.core.cores import usable_cores


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system pins no process")
def test_a_pinned_process_counts_the_cores_it_was_left() -> None:
    mine = usable_cores()
    assert mine == sorted(os.sched_getaffinity(0))
    pinned = f"import os; os.sched_setaffinity(0, {{{mine[-1]}}})"
    code = f"{pinned}; from earshot.core.cores import usable_cores; print(usable_cores())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"[{mine[-1]}]"
