"""What two runs must share so that a number of one says something about the other, and why they do not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from earshot.ci.evidence import Scores, Timing
from earshot.core.measurement import Measurement

# Read off a clock, so that they differ from repeat to repeat; all else is counted, and compares exactly.
CLOCKED = ("rtf", "hop_rtf", "graph_rtf", "frame_p50_us", "frame_p95_us", "frame_p99_us")
# What two models tell by turns. Not the time in the graph as a share of real time: by the wall clock that is a mean,
# which every interruption moves, and the processor's clock is too slow to read around a frame.
RACED = ("rtf", "hop_rtf", "frame_p50_us", "frame_p95_us", "frame_p99_us")
# One sample a run, of the machine as much as of the model: only a limit of their own holds them.
ABSOLUTE_ONLY = (
    "frame_max_us", "deadline_misses", "peak_rss_bytes", "memory_footprint_bytes", "temperature_c", "output_mismatches",
)  # fmt: skip
ENGINE = {
    "engine": "engine", "runtime": "engine", "runtime_version": "engine version", "delegate": "delegate",
    "threads": "thread count", "machine": "architecture", "accelerator": "accelerator", "compiler": "compiler",
    "flags": "compiler flags", "emulator": "emulator", "core": "processor core", "cpi": "cycles per instruction",
    "memory_mode": "memory mode", "narrow_strides": "rewriting of strides", "tool": "benchmark tool",
    "serial": "device",
}  # fmt: skip
CLOCK = {
    "cpu": "processor", "board": "board", "governor": "governor", "python": "Python version", "numpy": "numpy version",
    "phone": "device",
}  # fmt: skip


LOWER_BOUND = "lower-bound"


def values_differ(base: Measurement | None, candidate: Measurement | None) -> str | None:
    """Why one of two values is not there, or says nothing of the other by how it came to be; None where it does."""
    if base is None or base.value is None:
        return "not measured in the baseline"
    if candidate is None or candidate.value is None:
        return "not measured in this run"
    if base.unit != candidate.unit:
        return f"another unit: {base.unit} in the baseline, {candidate.unit} here"
    if base.provenance is not candidate.provenance:
        return f"{base.provenance} in the baseline, {candidate.provenance} here"
    if (LOWER_BOUND in base.flags) is not (LOWER_BOUND in candidate.flags):
        where = "in the baseline" if LOWER_BOUND in base.flags else "here"
        return f"a lower bound {where} only: the total is not known there"
    return None


def scores_differ(
    base: Scores | None, candidate: Scores | None, metric: str, other: str = "the baseline"
) -> str | None:
    """Why two rows' scores in a metric cannot be paired clip by clip, None where they can.

    Args:
        base, candidate: of both rows.
        metric: its name, without a group.
        other: what the reason calls the first of them.
    """
    if base is None or candidate is None:
        return f"{other if base is None else 'this run'} keeps no scores per clip of this row"
    if base.dataset != candidate.dataset:
        return f"another evaluation set: {base.dataset[:12]} in {other}, {candidate.dataset[:12]} here"
    theirs, ours = base.protocol.get(metric), candidate.protocol.get(metric)
    if theirs != ours:
        return f"another protocol: '{theirs}' in {other}, '{ours}' here"
    if sorted(base.clips) != sorted(candidate.clips):
        return "other clips, although the evaluation set is called the same"
    return None


def targets_differ(
    base: Timing | None, candidate: Timing | None, clocked: bool, other: str = "the baseline"
) -> str | None:
    """Why a target's numbers cannot be compared, None where they can.

    Args:
        base, candidate: what each number holds for.
        clocked: they were read off a clock: then the processor and what surrounds the graph matter too.
        other: what the reason calls the first of them.
    """
    if base is None or candidate is None:
        return f"{other if base is None else 'this run'} does not say what its numbers on the target hold for"
    if base.kind != candidate.kind:
        return f"another kind of target: {base.kind or 'unknown'} in {other}, {candidate.kind or 'unknown'} here"
    keys = {**ENGINE, **(CLOCK if clocked else {})}
    if differing := environments_differ(base.environment, candidate.environment, keys, other):
        return differing
    if clocked:
        theirs, ours = _machine(base), _machine(candidate)
        if not theirs or not ours:
            return f"{'here' if theirs else f'in {other}'} it is not known which machine it was"
        if theirs != ours:
            return "another machine of the same kind"
    return None


def environments_differ(
    base: Mapping[str, Any], candidate: Mapping[str, Any], keys: Mapping[str, str], other: str = "the baseline"
) -> str | None:
    """The first of `keys` (key -> what it is called) in which two environments differ, in words."""
    for key, called in keys.items():
        if base.get(key) != candidate.get(key):
            return f"another {called}: {_short(base.get(key))} in {other}, {_short(candidate.get(key))} here"
    return None


def _machine(timing: Timing) -> str:
    """What tells one machine from another of its kind; empty where it is not known."""
    kept = timing.environment
    return str(timing.machine or kept.get("device") or kept.get("serial") or "")


def _short(value: object) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 60 else text[:59] + "…"
