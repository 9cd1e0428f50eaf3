"""Phones over adb: the user's `benchmark_model` binary is pushed, pinned, run and read; nothing stays on the phone."""
