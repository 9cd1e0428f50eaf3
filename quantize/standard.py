"""Gives a converted float .tflite the form of every stream model: standard names, an own tensor for every output."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from earshot.core.errors import ModelError
from earshot.quantize.graph import load_flatbuffer, operator_name, pack_flatbuffer, read_graph
from earshot.quantize.metadata import MASK

SIGNATURE = "serving_default"
_BIAS = {"CONV_2D": 2, "DEPTHWISE_CONV_2D": 2, "FULLY_CONNECTED": 2, "TRANSPOSE_CONV": 3}  # operator -> its input


def standardise(content: bytes, inputs: Mapping[str, str], outputs: Mapping[str, str], source: str) -> bytes:
    """Renames the signature, gives every output a tensor of its own and every bias one dimension.

    Args:
        content: .tflite with one signature.
        inputs, outputs: found name -> wanted name.
        source: what messages call it.

    Raises:
        ModelError: the signature does not have exactly these inputs and outputs, or a state changes its shape.
    """
    found = read_graph(content, source)
    for side, wanted, there in (("inputs", inputs, found.inputs), ("outputs", outputs, found.outputs)):
        if set(wanted) != set(there):
            missing, extra = sorted(set(wanted) - set(there)), sorted(set(there) - set(wanted))
            raise ModelError(
                f"{source}: the signature's {side} do not fit: missing {missing}, unexpected {extra}",
                "pass every state as an input and return it: a mutated buffer is dropped by the converter",
            )
    model = load_flatbuffer(content, source)
    signature = model.signatureDefs[0]
    signature.signatureKey = SIGNATURE.encode()
    for items, names in ((signature.inputs, inputs), (signature.outputs, outputs)):
        for item in items:
            item.name = names[item.name.decode()].encode()
    _flatten_biases(model)
    _separate_outputs(model)
    _shorten_names(model)
    packed = pack_flatbuffer(model)
    graph = read_graph(packed, source)
    for entry, leaving in graph.state_pairs.items():
        inner, outer = graph.tensors[graph.inputs[entry]], graph.tensors[graph.outputs[leaving]]
        if inner.shape != outer.shape or inner.dtype != outer.dtype:
            raise ModelError(f"{source}: {entry} enters as {inner.shape} and leaves as {outer.shape}")
    return packed


def _flatten_biases(model: Any) -> None:
    """Writes biases `[1, outputs]`, as some converters leave them at FULLY_CONNECTED, as `[outputs]`."""
    graph = model.subgraphs[0]
    for operator in graph.operators:
        place = _BIAS.get(operator_name(model, operator), len(operator.inputs))
        if place < len(operator.inputs) and operator.inputs[place] >= 0:
            tensor = graph.tensors[operator.inputs[place]]
            if len(tensor.shape) > 1:
                tensor.shape = [int(np.prod(tensor.shape))]


def _separate_outputs(model: Any) -> None:
    """Copies every output that is an input, a constant or another output as well.

    A look-back of one frame over the input itself leaves as the very tensor that came in; runtimes that bind buffers to
    inputs and outputs then read one for the other. A RESHAPE to the same shape is a copy all of them keep.
    """
    from ai_edge_litert import schema_py_generated as schema

    graph, signature = model.subgraphs[0], model.signatureDefs[0]
    free = {int(index) for operator in graph.operators for index in operator.outputs}
    for item in signature.outputs:
        if item.tensorIndex not in free:
            item.tensorIndex = _append_copy(model, int(item.tensorIndex), schema)
        free.discard(item.tensorIndex)
    graph.outputs = [item.tensorIndex for item in signature.outputs]


def _shorten_names(model: Any) -> None:
    """Names tensors by signature or layer: converters write whole Python paths, a tenth of a small file."""
    graph, signature = model.subgraphs[0], model.signatureDefs[0]
    given = {int(item.tensorIndex): item.name.decode() for item in signature.inputs}
    for item in signature.outputs:
        name = item.name.decode()
        given[int(item.tensorIndex)] = name if name == MASK else f"next_{name}"
    taken: Counter[str] = Counter()
    for index, tensor in enumerate(graph.tensors):
        short = given.get(index) or _layer(tensor.name.decode())
        taken[short] += 1
        tensor.name = (short if taken[short] == 1 else f"{short};{taken[short]}").encode()


def _layer(name: str) -> str:
    """The layer a converter's name starts with, without module paths and the export's wrappers."""
    parts = [part.rsplit(".", 1)[-1] for part in name.split(";", 1)[0].split("/")]
    return "/".join(part for part in parts if not part.endswith(("_wrapped", "IOWrapper"))) or "step"


def _append_copy(model: Any, index: int, schema: Any) -> int:
    """Appends a RESHAPE of a tensor to its own shape; returns the new tensor."""
    graph = model.subgraphs[0]
    copied = copy.copy(graph.tensors[index])
    copied.name = copied.name + f"_copy{len(graph.tensors)}".encode()
    copied.buffer = 0
    shape_buffer, shape = schema.BufferT(), schema.TensorT()
    shape_buffer.data = np.frombuffer(np.asarray(copied.shape, np.int32).tobytes(), np.uint8)
    model.buffers.append(shape_buffer)
    shape.shape, shape.type, shape.buffer = [len(copied.shape)], schema.TensorType.INT32, len(model.buffers) - 1
    shape.name = copied.name + b"_shape"
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.RESHAPE
    code.version = 1
    model.operatorCodes.append(code)
    operator, options = schema.OperatorT(), schema.ReshapeOptionsT()
    options.newShape = list(copied.shape)
    operator.opcodeIndex = len(model.operatorCodes) - 1
    operator.builtinOptionsType, operator.builtinOptions = schema.BuiltinOptions.ReshapeOptions, options
    graph.tensors += [shape, copied]
    operator.inputs, operator.outputs = [index, len(graph.tensors) - 2], [len(graph.tensors) - 1]
    graph.operators.append(operator)
    return len(graph.tensors) - 1
