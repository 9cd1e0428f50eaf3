"""Vela's passes told as the graph's operators: what each costs, and whether the NPU or the CPU runs it.

Vela cuts an operator into several passes, joins several into one, and names a pass by the tensor it makes, at times
with a suffix. Passes find their operator by that tensor, and among its neighbours by the kind they come from.
"""

from __future__ import annotations

from collections.abc import Iterator

from earshot.quantize.graph import Graph, Operator
from earshot.targets.base import OperatorCost
from earshot.targets.npu.vela import Pass, VelaReport

CPU, NPU = "cpu", "npu"
_ALIASES = {"sigmoid": "logistic"}


def operator_costs(graph: Graph, report: VelaReport) -> tuple[OperatorCost, ...]:
    """One cost in cycles an operator of the graph; no pass is dropped: one without an operator follows by itself."""
    made_by = {graph.tensors[index].name: operator for operator in graph.operators for index in operator.outputs}
    cycles = dict.fromkeys(range(len(graph.operators)), 0.0)
    on_cpu, strays = set(), []
    for found in report.passes:
        operator = _operator_of(found, graph, made_by, set(report.narrowed))
        if operator is None:
            strays.append(
                OperatorCost(len(cycles), found.operator, found.tensor, found.cycles, "cycles", found.placement)
            )
            continue
        cycles[operator.index] += found.cycles
        if found.placement == CPU:
            on_cpu.add(operator.index)
    costs = [
        OperatorCost(
            operator.index,
            operator.name,
            graph.tensors[operator.outputs[0]].name,
            cycles[operator.index],
            "cycles",
            CPU if operator.index in on_cpu else NPU,
        )
        for operator in graph.operators
    ]
    return (*costs, *strays)


def _operator_of(found: Pass, graph: Graph, made_by: dict[str, Operator], narrowed: set[str]) -> Operator | None:
    names = (name for name in made_by if found.tensor == name or found.tensor.startswith(f"{name}_"))
    nearest = max(names, key=len, default=None)
    if nearest is None:
        return None
    operator = made_by[nearest]
    if nearest in narrowed or _same_kind(found, operator):
        return operator
    return next((near for near in _neighbours(operator, graph) if _same_kind(found, near)), operator)


def _neighbours(operator: Operator, graph: Graph) -> Iterator[Operator]:
    """The operators it reads from, then those that read from it."""
    yield from (other for other in graph.operators if set(other.outputs) & set(operator.inputs))
    yield from (other for other in graph.operators if set(other.inputs) & set(operator.outputs))


def _same_kind(found: Pass, operator: Operator) -> bool:
    """`Conv2D` is CONV_2D, `Concat` CONCATENATION, `TransposeConv2D` TRANSPOSE_CONV."""
    theirs, ours = found.operator.lower(), operator.name.replace("_", "").lower()
    theirs = _ALIASES.get(theirs, theirs)
    return theirs.startswith(ours) or ours.startswith(theirs)
