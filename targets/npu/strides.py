"""Convolutions with strides that Ethos-U55 and U65 have not, as ones they have: the same sums of the same integers.

Along frequency (images one row high), with s the stride and k the kernel's width:

    convolution              pad ─> s neighbours become channels ─> convolution, stride 1, kernel ceil(k / s)
    transposed convolution   pad ─> convolution, stride 1, kernel ceil(k / s), s times the outputs ─> these become
                             neighbours ─> crop

Kernels are filled up with zeros, which costs products but changes no sum. A depthwise convolution of one channel is a
convolution.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from earshot.quantize.graph import load_flatbuffer, operator_name, pack_flatbuffer

VERSION = "1"  # of what is replaced by what: estimates depend on it
WIDEST = 3  # stride of a convolution; a transposed one has 2
VALID = 1
_VERSIONS = {"PAD": 3, "RESHAPE": 1, "CONV_2D": 5, "SLICE": 3}


@dataclass(frozen=True)
class Narrowed:
    """A .tflite without wide strides, and the names of the tensors whose operators were replaced."""

    content: bytes
    tensors: frozenset[str]


def narrow_strides(path: Path) -> Narrowed:
    """Replaces every wide stride along the width of an integer .tflite; its own bytes where there is none.

    Raises:
        ModelError: the file is missing or damaged.
    """
    model = load_flatbuffer(path)
    graph = model.subgraphs[0]
    rewriter = _Rewriter(model)
    for operator in list(graph.operators or ()):
        name = operator_name(model, operator)
        options = operator.builtinOptions
        if name == "TRANSPOSE_CONV" and rewriter.is_row(operator, 2) and options.strideW > WIDEST - 1:
            rewriter.transposed(operator)
        elif name in ("CONV_2D", "DEPTHWISE_CONV_2D") and rewriter.is_row(operator, 0):
            single = graph.tensors[operator.inputs[0]].shape[3] == 1
            if options.strideW > WIDEST and options.dilationWFactor == 1 and (name == "CONV_2D" or single):
                rewriter.strided(operator, depthwise=name == "DEPTHWISE_CONV_2D")
    content = pack_flatbuffer(model) if rewriter.replaced else path.read_bytes()
    return Narrowed(content, frozenset(rewriter.replaced))


@dataclass
class _Filter:
    """A convolution's constants: weights `[outputs, width, inputs]`, scales and biases one an output."""

    weights: np.ndarray
    scales: np.ndarray
    bias: np.ndarray | None


class _Rewriter:
    """Replaces operators of a model in place."""

    def __init__(self, model: Any) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self.schema, self.model, self.graph = schema, model, model.subgraphs[0]
        self.replaced: set[str] = set()

    def is_row(self, operator: Any, image: int) -> bool:
        """An image of one row under a kernel of one row, of int8 weights."""
        shape = self.graph.tensors[operator.inputs[image]].shape
        kernel = self.graph.tensors[operator.inputs[1]]
        rows = shape is not None and len(shape) == 4 and shape[0] == shape[1] == 1 and kernel.shape[1] == 1
        return bool(rows and operator.builtinOptions.strideH == 1 and kernel.type == self.schema.TensorType.INT8)

    def strided(self, operator: Any, depthwise: bool) -> None:
        """A convolution with a wide stride."""
        options, (image, kernel, *bias) = operator.builtinOptions, operator.inputs
        found = self._filter(kernel, bias)
        # Depthwise weights are [1, 1, width, rows].
        if depthwise:
            found.weights = found.weights.transpose(2, 1, 0)
        rows, width, depth = found.weights.shape
        stride, (positions, before) = options.strideW, self._positions(operator, width)
        taps = -(-width // stride)
        length = stride * (positions + taps - 1)
        wide = np.zeros((rows, taps * stride, depth), found.weights.dtype)
        wide[:, :width] = found.weights
        found.weights = wide.reshape(rows, taps, stride * depth)
        have = self.graph.tensors[image].shape[2]
        used = min(have, length - before)
        chain = _Chain(self, operator, image)
        if used < have:
            chain.slice(used)
        chain.pad(before, length - before - used)
        chain.reshape((1, 1, length // stride, stride * depth))
        chain.convolve(found, options.fusedActivationFunction)
        chain.close()

    def transposed(self, operator: Any) -> None:
        """A transposed convolution with a wide stride and no padding."""
        options, (_, kernel, image, *bias) = operator.builtinOptions, operator.inputs
        output = self.graph.tensors[operator.outputs[0]].shape
        found = self._filter(kernel, bias)
        rows, width, depth = found.weights.shape
        stride, count = options.strideW, self.graph.tensors[image].shape[2]
        if options.padding != VALID or output[2] != stride * (count - 1) + width:
            return
        taps = -(-width // stride)
        wide = np.zeros((rows, taps * stride, depth), found.weights.dtype)
        wide[:, :width] = found.weights
        # [rows, taps, stride, depth] -> [stride, rows, taps backwards, depth]
        found.weights = wide.reshape(rows, taps, stride, depth).transpose(2, 0, 1, 3)[:, :, ::-1]
        found.weights = found.weights.reshape(stride * rows, taps, depth)
        found.scales = np.tile(found.scales, stride) if found.scales.size > 1 else found.scales
        found.bias = np.tile(found.bias, stride) if found.bias is not None else None
        chain = _Chain(self, operator, image)
        chain.pad(taps - 1, taps - 1)
        chain.convolve(found, getattr(options, "fusedActivationFunction", 0))
        chain.reshape((1, 1, stride * (count + taps - 1), rows))
        chain.slice(int(output[2]))
        chain.close()

    def _positions(self, operator: Any, width: int) -> tuple[int, int]:
        """Outputs of a convolution and the zeros before its input."""
        have, stride = self.graph.tensors[operator.inputs[0]].shape[2], operator.builtinOptions.strideW
        if operator.builtinOptions.padding == VALID:
            return (int(have) - width) // stride + 1, 0
        positions = -(-int(have) // stride)
        return positions, max((positions - 1) * stride + width - int(have), 0) // 2

    def _filter(self, kernel: int, bias: list[int]) -> _Filter:
        tensor = self.graph.tensors[kernel]
        weights = self._data(tensor, np.int8).reshape(tensor.shape)[:, 0]
        scales = np.asarray(tensor.quantization.scale, np.float32)
        values = None
        if bias and bias[0] >= 0:
            held = self.graph.tensors[bias[0]]
            values = self._data(held, np.int64 if held.type == self.schema.TensorType.INT64 else np.int32)
        return _Filter(weights, scales, values)

    def _data(self, tensor: Any, dtype: Any) -> np.ndarray:
        return np.frombuffer(bytes(self.model.buffers[tensor.buffer].data), dtype)

    def constant(self, name: str, values: np.ndarray, like: Any = None) -> int:
        """A constant tensor; quantised as `like` is."""
        buffer = self.schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
        self.model.buffers.append(buffer)
        kinds = {"int8": "INT8", "int32": "INT32", "int64": "INT64"}
        kind = getattr(self.schema.TensorType, kinds[values.dtype.name])
        return self.tensor(name, values.shape, kind, like, len(self.model.buffers) - 1)

    def tensor(self, name: str, shape: tuple[int, ...], kind: int, quantization: Any, buffer: int = 0) -> int:
        """A tensor, a computed one unless it has a buffer."""
        made = self.schema.TensorT()
        made.name, made.shape, made.type = name.encode(), np.asarray(shape, np.int32), kind
        made.quantization, made.buffer = quantization, buffer
        self.graph.tensors.append(made)
        return len(self.graph.tensors) - 1

    def code(self, name: str) -> int:
        """The index of an operator's code."""
        number = getattr(self.schema.BuiltinOperator, name)
        for index, code in enumerate(self.model.operatorCodes):
            if max(code.builtinCode, code.deprecatedBuiltinCode) == number:
                return index
        code = self.schema.OperatorCodeT()
        code.builtinCode, code.version = number, _VERSIONS[name]
        code.deprecatedBuiltinCode = min(number, 127)
        self.model.operatorCodes.append(code)
        return len(self.model.operatorCodes) - 1


class _Chain:
    """Operators one after the other in place of one; the last takes over its output."""

    def __init__(self, rewriter: _Rewriter, operator: Any, image: int) -> None:
        self.rewriter, self.operator, self.at = rewriter, operator, image
        self.made: list[Any] = []
        output = rewriter.graph.tensors[operator.outputs[0]]
        self.name, self.output = output.name.decode(), output

    def pad(self, before: int, after: int) -> None:
        """Zeros on both sides."""
        if before or after:
            shape = self._shape()
            sides = np.array([[0, 0], [0, 0], [before, after], [0, 0]], np.int32)
            options = ("PadOptions", self.rewriter.schema.PadOptionsT())
            self._add("PAD", [sides], (1, 1, int(shape[2]) + before + after, int(shape[3])), options)

    def reshape(self, shape: tuple[int, ...]) -> None:
        """The same elements in another shape."""
        options = self.rewriter.schema.ReshapeOptionsT()
        options.newShape = np.asarray(shape, np.int32)
        self._add("RESHAPE", [np.asarray(shape, np.int32)], shape, ("ReshapeOptions", options))

    def slice(self, width: int) -> None:
        """The first columns."""
        shape = (1, 1, width, int(self._shape()[3]))
        if width != self._shape()[2]:
            begin, size = np.zeros(4, np.int32), np.asarray(shape, np.int32)
            self._add("SLICE", [begin, size], shape, ("SliceOptions", self.rewriter.schema.SliceOptionsT()))

    def convolve(self, found: _Filter, activation: int) -> None:
        """A convolution with stride 1 and no padding, to the output's scale."""
        schema, rewriter = self.rewriter.schema, self.rewriter
        quantization = schema.QuantizationParametersT()
        quantization.scale = found.scales
        quantization.zeroPoint = np.zeros(found.scales.size, np.int64)
        weights = found.weights[:, None]
        inputs = [rewriter.constant(f"{self.name}_weights", weights, quantization)]
        if found.bias is not None:
            image = rewriter.graph.tensors[self.at].quantization.scale[0]
            scales = schema.QuantizationParametersT()
            scales.scale = (found.scales * np.float32(image)).astype(np.float32)
            scales.zeroPoint = np.zeros(found.scales.size, np.int64)
            inputs.append(rewriter.constant(f"{self.name}_bias", found.bias, scales))
        options = schema.Conv2DOptionsT()
        options.padding, options.strideW, options.strideH = VALID, 1, 1
        options.dilationWFactor, options.dilationHFactor = 1, 1
        options.fusedActivationFunction = activation
        width = int(self._shape()[2]) - weights.shape[2] + 1
        shape = (1, 1, width, weights.shape[0])
        self._add("CONV_2D", inputs, shape, ("Conv2DOptions", options), self.output.quantization)

    def close(self) -> None:
        """Puts the operators in the old one's place."""
        self.made[-1].outputs = self.operator.outputs
        operators = self.rewriter.graph.operators
        place = next(index for index, operator in enumerate(operators) if operator is self.operator)
        operators[place : place + 1] = self.made
        self.rewriter.replaced.add(self.name)

    def _shape(self) -> Any:
        return self.rewriter.graph.tensors[self.at].shape

    def _add(
        self,
        name: str,
        constants: list[Any],
        shape: tuple[int, ...],
        options: tuple[str, Any],
        quantization: Any = None,
    ) -> None:
        rewriter, made = self.rewriter, self.rewriter.schema.OperatorT()
        step = f"{self.name}_{name.lower()}"
        ids = [
            value if isinstance(value, int) else rewriter.constant(f"{step}{index}", value)
            for index, value in enumerate(constants)
        ]
        made.opcodeIndex = rewriter.code(name)
        made.inputs = np.array([self.at, *ids], np.int32)
        made.builtinOptionsType = getattr(rewriter.schema.BuiltinOptions, options[0])
        made.builtinOptions = options[1]
        quantization = quantization or rewriter.graph.tensors[self.at].quantization
        self.at = rewriter.tensor(step, shape, self.output.type, quantization)
        made.outputs = np.array([self.at], np.int32)
        self.made.append(made)
