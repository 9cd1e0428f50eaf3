"""Starts a program that dies with whoever started it, also when that one is killed.

    python leash.py PARENT PROGRAM [ARGUMENT...]

Linux sends the signal when the thread that started this process ends.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> None:
    """Asks for the signal, sees that the parent still lives, and becomes the program."""
    parent, program = int(sys.argv[1]), sys.argv[2:]
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() == parent:
        os.execv(program[0], program)


if __name__ == "__main__":
    main()
