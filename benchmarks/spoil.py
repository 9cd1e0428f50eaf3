"""Stream models that are slower or worse than another for real, for benchmarks of what a comparison sees.

    python benchmarks/spoil.py slower MODEL.tflite OUT.tflite INDEX...    operators at these places run twice
    python benchmarks/spoil.py worse MODEL.tflite OUT.tflite SHARE       int8 weights get noise, SHARE of their spread

A doubled operator reads the same inputs; its result leaves the graph as an output, so that no runtime can skip it. What
the model computes stays the same to the bit.
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
    _write(model, out)


def write_worse(path: Path, out: Path, share: float) -> None:
    """Writes the model with Gaussian noise on the weights of its int8 operators, the same noise for every call."""
    model = read(path)
    graph, chance = model.subgraphs[0], np.random.default_rng(0)
    for index in heavy_operators(path):
        weights = graph.tensors[graph.operators[index].inputs[1]]
        buffer = model.buffers[weights.buffer]
        if weights.type != schema.TensorType.INT8 or buffer.data is None:
            continue
        stored = np.asarray(buffer.data, np.uint8).view(np.int8).astype(np.float32)
        noisy = stored + share * stored.std() * chance.standard_normal(stored.shape)
        buffer.data = np.clip(np.rint(noisy), -127, 127).astype(np.int8).view(np.uint8)
    _write(model, out)


def _write(model: Any, out: Path) -> None:
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(model.Pack(builder), b"TFL3")
    out.write_bytes(bytes(builder.Output()))


def main() -> None:
    """Writes the spoilt model."""
    if len(sys.argv) < 5 or sys.argv[1] not in ("slower", "worse"):
        sys.exit(__doc__)
    path, out = Path(sys.argv[2]), Path(sys.argv[3])
    if sys.argv[1] == "slower":
        write_slower(path, out, [int(text) for text in sys.argv[4:]])
    else:
        write_worse(path, out, float(sys.argv[4]))


if __name__ == "__main__":
    main()
