"""What time and memory on a target go to: the dearest operators of a graph, the parts of a device's memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from earshot.ci.comparison import ModelResult, Operator
from earshot.ci.explanation import Costs, Share

SHOWN = 5
# Metrics that tell time, with what takes more than the graph: the whole frame, and the graph's part of it.
_WHOLE = {
    "rtf": "graph_rtf",
    "hop_rtf": "graph_rtf",
    "instructions_per_frame": "graph_instructions_per_frame",
    "cycles_per_frame": "graph_cycles_per_frame",
}
TIMES = frozenset(
    {
        *_WHOLE,
        *_WHOLE.values(),
        *("frame_p50_us", "frame_p95_us", "frame_p99_us", "frame_max_us", "deadline_misses"),
        *("realtime_clock_mhz", "instructions_per_mac", "npu_coverage", "delegate_coverage"),
    }
)
# Whole -> its parts that are measured by themselves, in words, and what the rest is.
_MEMORY: Mapping[str, tuple[tuple[tuple[str, str], ...], str]] = {
    "ram_bytes": (
        (("arena_bytes", "arena"), ("state_bytes", "states"), ("stack_bytes", "stack")),
        "frontend buffers and scratch",
    ),
    "peak_rss_bytes": ((("arena_bytes", "arena"), ("state_bytes", "states")), "process, runtime and libraries"),
    "memory_footprint_bytes": ((("arena_bytes", "arena"), ("state_bytes", "states")), "runtime"),
    "flash_bytes": ((("constant_bytes", "weights and tables"),), "code and constants"),
}
MEMORY = frozenset(_MEMORY)


def operator_costs(target: str, result: ModelResult, metric: str) -> Costs | None:
    """The operators that cost most; None where the target told no costs.

    Where a profile mixes units, those in the commonest one are compared.
    """
    if not result.operators:
        return None
    unit = Counter(operator.unit for operator in result.operators).most_common(1)[0][0]
    counted = [operator for operator in result.operators if operator.unit == unit]
    total = sum(operator.value for operator in counted)
    if total <= 0:
        return None
    dearest = sorted(counted, key=lambda operator: (-operator.value, operator.index))[:SHOWN]
    parts = tuple(_share(operator, total) for operator in dearest)
    return Costs("operators", target, result.model, total, unit, parts, len(counted), _outside(result, metric))


def memory_costs(target: str, result: ModelResult, metric: str) -> Costs | None:
    """What a memory metric is made of, as far as its parts were measured; None where none was."""
    found = result.find(metric)
    if metric not in _MEMORY or found is None or not found.value:
        return None
    known, rest = _MEMORY[metric]
    parts = [
        Share(words, part.value, part.value / found.value)
        for name, words in known
        if (part := result.find(name)) is not None and part.value
    ]
    if not parts:
        return None
    left = found.value - sum(part.value for part in parts)
    if left > 0:
        parts.append(Share(rest, left, left / found.value))
    remark = "" if left >= 0 else "the parts overlap: together they are more than the whole"
    ranked = tuple(sorted(parts, key=lambda part: -part.value))
    return Costs("memory", target, result.model, found.value, found.unit, ranked, len(ranked), remark)


def cost_sentence(costs: Costs) -> str:
    """The dearest parts in words: `3 of 46 operators take 61 % on cortex-m4: CONV_2D (enc1) 30 %, …`."""
    said = ", ".join(
        f"{part.name}{f' ({part.location})' if part.location else ''} {100 * part.share:.0f} %"
        for part in (costs.parts[:3] if costs.what == "operators" else costs.parts)
    )
    if costs.what != "operators":
        return f"of {costs.total:,.0f} {costs.unit} on {costs.target}: {said}"
    top = costs.parts[:3]
    share = 100 * sum(part.share for part in top)
    return f"{len(top)} of {costs.count} operators take {share:.0f} % of the graph on {costs.target}: {said}"


def _share(operator: Operator, total: float) -> Share:
    return Share(operator.name, operator.value, operator.value / total, operator.location, operator.placement)


def _outside(result: ModelResult, metric: str) -> str:
    """How much of a frame is not the graph, where the metric is one of the whole frame."""
    whole, graph = result.find(metric), result.find(_WHOLE.get(metric, ""))
    if whole is None or graph is None or not whole.value or graph.value is None or graph.value > whole.value:
        return ""
    share = 100 * (1 - graph.value / whole.value)
    return f"{share:.0f} % of the whole frame is not the graph: frontend, rounding, copies"
