"""Rewrites a float32 stream model with integer weights and activations, by ai-edge-quantizer's static recipes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from earshot.core.errors import ToolError
from earshot.quantize.calibration import Range
from earshot.quantize.graph import Graph, load_flatbuffer, operator_name, pack_flatbuffer, read_graph
from earshot.quantize.metadata import MASK
from earshot.quantize.raised import fine_ranges, matching, raised, settle_outputs
from earshot.quantize.ranges import RangePlan
from earshot.quantize.stand_ins import disguise, reveal
from earshot.quantize.wide import coarse_operators, wide_operators, wide_states, widen_states

IntegerPrecision = Literal["int8", "int16x8"]
INTEGER_PRECISIONS: tuple[IntegerPrecision, ...] = ("int8", "int16x8")


def quantize_graph(
    path: Path,
    plan: RangePlan,
    precision: IntegerPrecision,
    keep_float: Sequence[str] = (),
    keep_wide: Sequence[str] = (),
) -> bytes:
    """The integer .tflite.

    Weights are int8, symmetric, one scale a channel; activations int8 with a zero point, or int16 symmetric (16x8);
    inputs and outputs are integer too. Tied tensors get one scale, hence no QUANTIZE between them. At int8, states that
    8 bits do not hold and the operators around them have int16 activations (`wide`), and so has what is `raised`.

    Args:
        path: the float32 stream model.
        plan: ranges of its activations.
        precision: which of the two forms.
        keep_float: regular expressions; operators they find stay float.
        keep_wide: regular expressions; at int8 the results of operators they find have 16 bits.

    Raises:
        ToolError: the quantizer failed.
    """
    from earshot.quantize.quiet import quiet

    content, graph = path.read_bytes(), read_graph(path)
    higher = raised(graph, keep_wide if precision == "int8" else ())
    wide = wide_operators(graph) | higher.operators.keys() if precision == "int8" else frozenset()
    coarse = coarse_operators(graph) & (wide if precision == "int8" else {one.index for one in graph.operators})
    with quiet():
        from ai_edge_quantizer import quantizer, recipe
        from ai_edge_quantizer.algorithm_manager import AlgorithmName

        recipes = {"int8": recipe.static_wi8_ai8, "int16x8": recipe.static_wi8_ai16}
        try:
            work = quantizer.Quantizer(disguise(content, graph), recipes[precision]())
            for index in sorted(wide | coarse):
                scope = _scope(graph, index)
                # Of rules that fit, the last one holds: what has no 16-bit form falls back on float, not on 8 bits.
                work.update_quantization_recipe(f"^{scope}$", "*", algorithm_key=AlgorithmName.NO_QUANTIZE)
                if index not in coarse:
                    work.add_static_config(f"^(?:{scope})$", "*", activation_num_bits=16, weight_num_bits=8)
            for index in matching(graph, keep_float):
                # \A in place of ^: an equal expression would take the earlier rule's place in the order instead.
                work.update_quantization_recipe(
                    rf"\A{_scope(graph, index)}$", "*", algorithm_key=AlgorithmName.NO_QUANTIZE
                )
            ranges = plan.at(precision) | fine_ranges(higher, graph, plan.at("int16x8"))
            result = work.quantize(_statistics(graph, ranges), enable_progress_bar=False, enable_progress_report=False)
        except Exception as error:
            raise ToolError(
                f"{path}: ai-edge-quantizer could not make it {precision} ({' '.join(str(error).split())[:200]})",
                "keep the operator it names in float32 with quantize.keep_float",
            ) from error
    repaired = reveal(repair(content, bytes(result.quantized_model)), graph)
    if not wide:
        return repaired
    states = dict.fromkeys((*wide_states(graph), *sorted(higher.states)))
    widened = widen_states(repaired, {name: ranges[graph.inputs[name]] for name in states})
    if not higher.operators:
        return widened
    mask = graph.outputs[MASK]
    narrow: dict[str, Range | None] = dict.fromkeys(set(graph.state_pairs) - set(states))
    narrow[MASK] = plan.at("int8")[mask] if mask in plan.prescribed else None
    return settle_outputs(widened, narrow)


def _scope(graph: Graph, index: int) -> str:
    """What the quantizer calls an operator, as a regular expression; it searches, so anchors belong around it."""
    return "".join(re.escape(f"{graph.tensors[output].name};") for output in graph.operators[index].outputs)


def _statistics(graph: Graph, ranges: Mapping[int, Range]) -> dict[str, dict[str, Any]]:
    """The ranges in the quantizer's own form: by tensor name, with the tensor's rank."""
    statistics = {}
    for index, found in ranges.items():
        tensor = graph.tensors[index]
        shape = [1] * len(tensor.shape)
        low, high = np.full(shape, found.low, np.float32), np.full(shape, found.high, np.float32)
        statistics[tensor.name] = {"min": low, "max": high}
    return statistics


def repair(before: bytes, after: bytes) -> bytes:
    """Mends what the quantizer leaves broken.

    - Signature indices: where it puts a QUANTIZE before an output, the graph's output is the new tensor but the
      signature still names the old one, whose memory is reused by then.
    - ADD and SUB on int16: with all scales near powers of two, the kernels take an old path that can fail to prepare; a
      flag of the operator keeps them on the general one.

    Args:
        before: the float file; position k of its graph inputs and outputs is position k after.
        after: the quantized file.
    """
    source, model = load_flatbuffer(before), load_flatbuffer(after)
    old, new = source.subgraphs[0], model.subgraphs[0]
    sides = (
        (old.inputs, new.inputs, source.signatureDefs[0].inputs, model.signatureDefs[0].inputs),
        (old.outputs, new.outputs, source.signatureDefs[0].outputs, model.signatureDefs[0].outputs),
    )
    for found, wanted, named, renamed in sides:
        position = {int(index): place for place, index in enumerate(found)}
        by_name = {item.name: int(wanted[position[int(item.tensorIndex)]]) for item in named}
        for item in renamed:
            item.tensorIndex = by_name[item.name]
    for operator in new.operators:
        if operator_name(model, operator) in ("ADD", "SUB") and operator.builtinOptions is not None:
            operator.builtinOptions.potScaleInt16 = False
    return pack_flatbuffer(model)
