"""Builds integer stream models operator by operator, without training or conversion: graphs no network would have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from earshot.models.frontend import Frontend
from earshot.quantize.graph import pack_flatbuffer, read_graph
from earshot.quantize.metadata import StreamDescription, write_stream_model

# Versions that LiteRT knows of operators it has no first version of.
OLDEST = {schema.BuiltinOperator.BROADCAST_TO: 2}
TYPES = {"int8": 9, "int16": 7, "int32": 2, "int64": 4, "float32": 0}


class Builder:
    """A graph in the making; tensors are known by their index."""

    def __init__(self, dtype: str, seed: int) -> None:
        self.dtype, self.draw = dtype, np.random.default_rng(seed)
        self.tensors: list[schema.TensorT] = []
        self.buffers = [schema.BufferT()]
        self.operators: list[schema.OperatorT] = []
        self.codes: list[int] = []
        self.inputs: dict[str, int] = {}
        self.outputs: dict[str, int] = {}
        self.made: list[int] = []

    def tensor(self, shape, dtype=None, scale=None, zero=None, data=None, axis=0, name=None) -> int:
        tensor = schema.TensorT()
        tensor.shape, tensor.type = list(shape), TYPES[dtype or self.dtype]
        tensor.name = (name or f"t{len(self.tensors)}").encode()
        tensor.buffer = 0
        if scale is not None:
            scales = np.atleast_1d(np.asarray(scale, np.float32))
            parameters = schema.QuantizationParametersT()
            parameters.scale = scales
            parameters.zeroPoint = np.full(scales.size, zero or 0, np.int64)
            parameters.quantizedDimension = axis
            tensor.quantization = parameters
        if data is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(data).tobytes(), np.uint8)
            self.buffers.append(buffer)
            tensor.buffer = len(self.buffers) - 1
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def activation(self, shape, *, scale=None, zero=None, name=None) -> int:
        """A tensor to compute: a random scale and zero point unless given."""
        if scale is None:
            scale = float(self.draw.uniform(0.3, 3.0)) * (2**-6 if self.dtype == "int8" else 2**-13)
        if zero is None:
            zero = int(self.draw.integers(-128, 128)) if self.dtype == "int8" else 0
        return self.tensor(shape, scale=scale, zero=zero, name=name)

    def like(self, other: int, shape) -> int:
        """A tensor with the scale and zero point of another."""
        return self.activation(shape, scale=self.scale(other), zero=self.zero(other))

    def indices(self, values) -> int:
        return self.tensor(np.shape(values), "int32", data=np.asarray(values, np.int32))

    def shape(self, index: int) -> tuple[int, ...]:
        return tuple(self.tensors[index].shape)

    def scale(self, index: int) -> float:
        return float(self.tensors[index].quantization.scale[0])

    def zero(self, index: int) -> int:
        return int(self.tensors[index].quantization.zeroPoint[0])

    def add(self, name: str, inputs, outputs, options=None, **values) -> int:
        """An operator; `options` names its options' class, `values` fills it. Returns the first output."""
        code = getattr(schema.BuiltinOperator, name)
        if code not in self.codes:
            self.codes.append(code)
        operator = schema.OperatorT()
        operator.opcodeIndex = self.codes.index(code)
        operator.inputs, operator.outputs = list(inputs), list(outputs)
        if options is not None:
            built = getattr(schema, options + "T")()
            for key, value in values.items():
                setattr(built, key, value)
            operator.builtinOptionsType, operator.builtinOptions = getattr(schema.BuiltinOptions, options), built
        self.operators.append(operator)
        self.made.extend(outputs)
        return outputs[0]

    def copy(self, source: int, sink: int) -> int:
        """`sink` becomes `source` in another shape."""
        return self.add(
            "RESHAPE",
            [source, self.indices(self.shape(sink))],
            [sink],
            "ReshapeOptions",
            newShape=list(self.shape(sink)),
        )

    def write(self, path: Path) -> Path:
        model, graph, signature = schema.ModelT(), schema.SubGraphT(), schema.SignatureDefT()
        model.version, model.subgraphs, model.buffers = 3, [graph], self.buffers
        model.operatorCodes = []
        for code in self.codes:
            entry = schema.OperatorCodeT()
            entry.builtinCode, entry.deprecatedBuiltinCode = code, min(code, 127)
            entry.version = OLDEST.get(code, 1)
            model.operatorCodes.append(entry)
        graph.tensors, graph.operators = self.tensors, self.operators
        graph.inputs, graph.outputs = list(self.inputs.values()), list(self.outputs.values())
        signature.signatureKey, signature.subgraphIndex = b"serving_default", 0
        for side, named in (("inputs", self.inputs), ("outputs", self.outputs)):
            items = []
            for name, index in named.items():
                item = schema.TensorMapT()
                item.name, item.tensorIndex = name.encode(), index
                items.append(item)
            setattr(signature, side, items)
        model.signatureDefs = [signature]
        content = pack_flatbuffer(model)
        precision = "int8" if self.dtype == "int8" else "int16x8"
        description = StreamDescription(
            frontend=Frontend(window=64, hop=32, fft=64), network="built", precision=precision
        )
        write_stream_model(path, content, description.for_graph(read_graph(content), precision))
        return path
