"""Reads a .tflite file as plain values: tensors with their quantisation, operators, the signature, metadata.

Modules that change a graph go through `load_flatbuffer` and `pack_flatbuffer`; all others read `Graph`.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from earshot.core.errors import ModelError

FILE_IDENTIFIER = b"TFL3"
_LARGEST_OLD_CODE = 127  # what the schema's first field for operator codes holds
BAD_FILE_HINT = "give a .tflite file that a converter wrote whole"
# What the generated flatbuffer reader raises on bytes that are no flatbuffer.
_PARSE_ERRORS = (struct.error, IndexError, ValueError, TypeError, AttributeError, OverflowError, UnicodeDecodeError)


@dataclass(frozen=True, eq=False)
class Quantization:
    """real = scale (integer - zero point); one scale for the tensor, or one per index of `axis`."""

    scales: np.ndarray
    zero_points: np.ndarray
    axis: int = 0

    @property
    def scale(self) -> float:
        """The scale of a tensor quantised as a whole."""
        return float(self.scales[0])

    @property
    def zero_point(self) -> int:
        """The integer that stands for zero."""
        return int(self.zero_points[0])

    def same_as(self, other: Quantization | None) -> bool:
        """Whether integers mean the same numbers under both."""
        return (
            other is not None
            and np.array_equal(self.scales, other.scales)
            and np.array_equal(self.zero_points, other.zero_points)
        )


@dataclass(frozen=True, eq=False)
class TensorInfo:
    """One tensor; `data` is set for constants, `quantization` for integer tensors that stand for real numbers."""

    index: int
    name: str
    shape: tuple[int, ...]
    dtype: str
    quantization: Quantization | None = None
    data: np.ndarray | None = None

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    def real(self) -> np.ndarray:
        """The constant as float64 numbers, dequantised where it is quantised."""
        assert self.data is not None
        values = np.asarray(self.data, np.float64)
        if self.quantization is None:
            return values
        shape = [1] * values.ndim
        if self.quantization.scales.size > 1:
            shape[self.quantization.axis] = -1
        scales = self.quantization.scales.astype(np.float64).reshape(shape)
        return (values - self.quantization.zero_points.reshape(shape)) * scales


@dataclass(frozen=True)
class Operator:
    """One operator; `options` holds its builtin options by their schema names. Absent optional inputs are -1."""

    index: int
    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Graph:
    """The main subgraph; `inputs` and `outputs` map the signature's names to tensor indices."""

    source: str
    tensors: tuple[TensorInfo, ...]
    operators: tuple[Operator, ...]
    inputs: Mapping[str, int]
    outputs: Mapping[str, int]
    metadata: Mapping[str, bytes]

    @property
    def state_pairs(self) -> dict[str, str]:
        """Signature input -> signature output of every state: the same name on both sides."""
        return {name: name for name in self.inputs if name in self.outputs}

    def activations(self, operator: Operator) -> list[int]:
        """The operator's tensors that hold real numbers computed at run time."""
        return [index for index in (*operator.inputs, *operator.outputs) if index >= 0 and self.is_activation(index)]

    def is_activation(self, index: int) -> bool:
        """Whether a tensor holds real numbers computed at run time."""
        tensor = self.tensors[index]
        return tensor.data is None and (tensor.dtype == "float32" or tensor.quantization is not None)


def read_graph(source: Path | bytes, name: str = "the model") -> Graph:
    """Reads a .tflite file, or its bytes.

    Args:
        source: path or content.
        name: what the message calls content that has no path.

    Raises:
        ModelError: the file is missing, truncated, no .tflite, or has no signature.
    """
    label = str(source) if isinstance(source, Path) else name
    model = load_flatbuffer(source, name)
    try:
        tensors = tuple(_tensor(model, index) for index in range(len(model.subgraphs[0].tensors)))
        operators = tuple(_operator(model, index) for index in range(len(model.subgraphs[0].operators or ())))
        signature = model.signatureDefs[0] if model.signatureDefs else None
        inputs = {_text(item.name): int(item.tensorIndex) for item in (signature.inputs or ())} if signature else {}
        outputs = {_text(item.name): int(item.tensorIndex) for item in (signature.outputs or ())} if signature else {}
        metadata = {_text(item.name): _bytes(model.buffers[item.buffer].data) for item in model.metadata or ()}
    except _PARSE_ERRORS as error:
        raise ModelError(f"{label}: damaged .tflite file ({error})", BAD_FILE_HINT) from error
    if signature is None:
        raise ModelError(f"{label}: the graph has no signature, so its states have no names", _SIGNATURE_HINT)
    used = [*inputs.values(), *outputs.values(), *(i for op in operators for i in (*op.inputs, *op.outputs))]
    if any(not -1 <= index < len(tensors) for index in used):
        raise ModelError(f"{label}: damaged .tflite file (an operator names a tensor that is not there)", BAD_FILE_HINT)
    return Graph(label, tensors, operators, inputs, outputs, metadata)


_SIGNATURE_HINT = "convert it with a signature whose inputs and outputs give every state the same name"


def load_flatbuffer(source: Path | bytes, name: str = "the model") -> Any:
    """The file as the schema's mutable object tree (`ModelT`).

    Raises:
        ModelError: the file is missing, truncated, or no .tflite.
    """
    from ai_edge_litert.tools import flatbuffer_utils

    label = str(source) if isinstance(source, Path) else name
    content = _read(source) if isinstance(source, Path) else source
    if len(content) < 8 or content[4:8] != FILE_IDENTIFIER:
        raise ModelError(f"{label}: not a .tflite file", BAD_FILE_HINT)
    try:
        model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    except _PARSE_ERRORS as error:
        raise ModelError(f"{label}: damaged or truncated .tflite file ({error})", BAD_FILE_HINT) from error
    if not model.subgraphs or not model.subgraphs[0].tensors:
        raise ModelError(f"{label}: the .tflite file holds no graph", BAD_FILE_HINT)
    return model


def pack_flatbuffer(model: Any) -> bytes:
    """The bytes of an object tree."""
    from ai_edge_litert.tools import flatbuffer_utils

    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ModelError(f"{path}: no such file", "check the path") from error
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from error


@cache
def _names(kind: str) -> dict[int, str]:
    """Number -> name of a schema enumeration."""
    from ai_edge_litert import schema_py_generated as schema

    return {value: key for key, value in vars(getattr(schema, kind)).items() if not key.startswith("_")}


def operator_name(model: Any, operator: Any) -> str:
    """`CONV_2D`, or `CUSTOM:name`."""
    code = model.operatorCodes[operator.opcodeIndex]
    name = _names("BuiltinOperator").get(max(code.builtinCode, code.deprecatedBuiltinCode), "UNKNOWN")
    return f"CUSTOM:{_text(code.customCode)}" if name == "CUSTOM" else name


def operator_code(model: Any, name: str) -> int:
    """Index of a builtin operator among the model's codes; it is added where the model has none yet."""
    from ai_edge_litert import schema_py_generated as schema

    wanted = getattr(schema.BuiltinOperator, name)
    for index, code in enumerate(model.operatorCodes):
        if max(code.builtinCode, code.deprecatedBuiltinCode) == wanted:
            return index
    code = schema.OperatorCodeT()
    code.builtinCode, code.deprecatedBuiltinCode, code.version = wanted, min(wanted, _LARGEST_OLD_CODE), 1
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1


def _tensor(model: Any, index: int) -> TensorInfo:
    tensor = model.subgraphs[0].tensors[index]
    dtype = _names("TensorType")[tensor.type].lower()
    shape = tuple(int(size) for size in (tensor.shape if tensor.shape is not None else ()))
    parameters, quantization = tensor.quantization, None
    if parameters is not None and parameters.scale is not None and len(parameters.scale):
        scales = np.asarray(parameters.scale, np.float32)
        zero_points = np.asarray(parameters.zeroPoint, np.int64)
        zero_points = np.broadcast_to(zero_points if zero_points.size else np.int64(0), scales.shape)
        quantization = Quantization(scales, zero_points, int(parameters.quantizedDimension))
    data, raw = None, model.buffers[tensor.buffer].data
    if raw is not None and len(raw):
        data = np.frombuffer(_bytes(raw), np.dtype(dtype)).reshape(shape)
    return TensorInfo(index, _text(tensor.name), shape, dtype, quantization, data)


def _operator(model: Any, index: int) -> Operator:
    operator = model.subgraphs[0].operators[index]
    inputs, outputs = (
        tuple(int(i) for i in (ids if ids is not None else ())) for ids in (operator.inputs, operator.outputs)
    )
    options = operator.builtinOptions or operator.builtinOptions2
    return Operator(
        index, operator_name(model, operator), inputs, outputs, vars(options) if options is not None else {}
    )


def _bytes(raw: Any) -> bytes:
    return bytes(raw) if isinstance(raw, bytes | bytearray | memoryview) else np.asarray(raw, np.uint8).tobytes()


def _text(raw: Any) -> str:
    return raw.decode() if isinstance(raw, bytes) else str(raw or "")
