"""A stream model that does the same and takes longer: some of its operators run twice, for real.

    python benchmarks/slower.py MODEL.tflite OUT.tflite INDEX...        the operators of these places in the graph

A doubled operator reads the same inputs; its result leaves the graph as an output, so that no runtime can skip it.
What the model computes stays the same to the bit.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

HEAVY = ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED")


def read(path: Path) -> Any:
    """The model as the schema's objects."""
    return schema.ModelT.InitFromObj(schema.Model.GetRootAs(path.read_bytes(), 0))


def heavy_operators(path: Path) -> list[int]:
    """Places in the graph of the operators that hold weights."""
    model = read(path)
    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
    codes = [names.get(max(code.builtinCode, code.deprecatedBuiltinCode), "") for code in model.operatorCodes]
    return [index for index, one in enumerate(model.subgraphs[0].operators) if codes[one.opcodeIndex] in HEAVY]


def write_slower(path: Path, out: Path, doubled: Sequence[int]) -> None:
    """Writes the model with operators run twice."""
    model = read(path)
    graph = model.subgraphs[0]
    extra = []
    for index in doubled:
        twin = copy.deepcopy(graph.operators[index])
        result = copy.deepcopy(graph.tensors[twin.outputs[0]])
        result.name = f"twice_{index}_{len(graph.tensors)}".encode()
        graph.tensors.append(result)
        twin.outputs = np.array([len(graph.tensors) - 1], np.int32)
        graph.outputs = np.append(graph.outputs, np.int32(len(graph.tensors) - 1))
        extra.append((index, twin))
    for index, twin in sorted(extra, key=lambda one: -one[0]):
        graph.operators.insert(index + 1, twin)
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(model.Pack(builder), b"TFL3")
    out.write_bytes(bytes(builder.Output()))


def main() -> None:
    """Writes the slower model."""
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    write_slower(Path(sys.argv[1]), Path(sys.argv[2]), [int(text) for text in sys.argv[3:]])


if __name__ == "__main__":
    main()
