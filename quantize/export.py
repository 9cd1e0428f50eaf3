"""Turns one step of a StreamingModel into a float32 .tflite with every state explicit and named."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from earshot.core.errors import ModelError, ToolError
from earshot.quantize.graph import Graph, load_flatbuffer, pack_flatbuffer, read_graph
from earshot.quantize.metadata import FRAME, MASK, STATE_PREFIX, StreamDescription, write_stream_model

if TYPE_CHECKING:
    from earshot.models.streaming import StreamingModel

SIGNATURE = "serving_default"


def export_float(model: StreamingModel, path: Path, network: str | None = None) -> Graph:
    """Writes the float32 stream model and its sidecar.

    Args:
        model: the network; its `prepare_for_export()` copy is exported, channels last, batch 1.
        path: file to write, suffix `.tflite`.
        network: registered name for the description; the class's import path when absent.

    Raises:
        ModelError: the network cannot be exported (states that do not start at zero, a graph that lost a state).
        ToolError: the converter failed.
    """
    kind = type(model)
    description = StreamDescription(
        frontend=model.frontend,
        network=network or f"{kind.__module__}:{kind.__qualname__}",
        params=model.params.model_dump(mode="json"),
        causal=model.causal,
        precision="float32",
    )
    return write_stream_model(path, convert_step(model), description)


def convert_step(model: StreamingModel) -> bytes:
    """The .tflite of one step, signature `frame`, `state_<name>` -> `mask`, `state_<name>`; errors as `export_float`."""
    import torch

    from earshot.quantize.quiet import quiet

    ready = model.prepare_for_export().eval()
    states = ready.initial_state(1)
    nonzero = [name for name, value in states.items() if torch.count_nonzero(value)]
    if nonzero:
        raise ModelError(f"{type(model).__name__}: states {nonzero} do not start at zero", "a stream starts from zeros")
    frame = torch.zeros(1, 1, 1, ready.frontend.bins)
    inputs = (frame, *states.values())
    spatial = [index for index, value in enumerate(inputs) if value.dim() == 4]
    sample = tuple(v.permute(0, 2, 3, 1).contiguous() if v.dim() == 4 else v for v in inputs)
    with quiet(), torch.no_grad():
        import litert_torch

        step = litert_torch.to_channel_last_io(_one_step(ready, tuple(states)), args=spatial, outputs=spatial).eval()
        try:
            content = litert_torch.convert(step, sample).model_content()
        except Exception as error:  # noqa: BLE001 - the converter raises anything
            raise ToolError(
                f"{type(model).__name__}: litert-torch could not convert it ({_first_line(error)})",
                "write the step with plain layers; nn.Linear takes rank 2, ConvTranspose2d no padding",
            ) from error
    names = [FRAME, *(STATE_PREFIX + name for name in states)]
    leaving = [MASK, *names[1:]]
    return standardise(
        bytes(content),
        {f"args_{index}": name for index, name in enumerate(names)},
        {f"output_{index}": name for index, name in enumerate(leaving)},
        type(model).__name__,
    )


def standardise(content: bytes, inputs: Mapping[str, str], outputs: Mapping[str, str], source: str) -> bytes:
    """Renames the signature and gives every output a tensor of its own.

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
    _separate_outputs(model)
    packed = pack_flatbuffer(model)
    graph = read_graph(packed, source)
    for entry, leaving in graph.state_pairs.items():
        inner, outer = graph.tensors[graph.inputs[entry]], graph.tensors[graph.outputs[leaving]]
        if inner.shape != outer.shape or inner.dtype != outer.dtype:
            raise ModelError(f"{source}: {entry} enters as {inner.shape} and leaves as {outer.shape}")
    return packed


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


def _one_step(model: StreamingModel, names: tuple[str, ...]) -> Any:
    """The model's step with positional states, as the converter wants it."""
    from torch import Tensor, nn

    class OneStep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, frame: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
            mask, following = self.model.step(frame, dict(zip(names, states, strict=True)))
            return mask, *(following[name] for name in names)

    return OneStep()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
