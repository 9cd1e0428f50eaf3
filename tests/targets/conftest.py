"""Tiny stream models written straight from the flatbuffer schema: no converter, and the arithmetic is known by hand.

smoother   state' = 0.9 state + 0.1 frame, mask = sigmoid(state')      the mask shows whether the state was carried
identity   mask = 1, state' = state + 1                                what goes in must come out
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

FLOAT, INT8 = schema.TensorType.FLOAT32, schema.TensorType.INT8
FRAME_Q, STATE_Q, MASK_Q, LOOSE_Q = (0.05, -128), (0.04, -128), (1 / 256, -128), (0.045, -120)


@dataclass
class GraphWriter:
    """Collects tensors and operators and packs them into a .tflite."""

    integer: bool
    model: schema.ModelT = field(default_factory=schema.ModelT)
    graph: schema.SubGraphT = field(default_factory=schema.SubGraphT)

    def __post_init__(self):
        self.model.version, self.model.subgraphs = 3, [self.graph]
        self.model.buffers, self.model.operatorCodes, self.model.metadata = [schema.BufferT()], [], []
        self.graph.tensors, self.graph.operators = [], []

    def buffer(self, data: bytes) -> int:
        item = schema.BufferT()
        item.data = np.frombuffer(data, np.uint8)
        self.model.buffers.append(item)
        return len(self.model.buffers) - 1

    def tensor(self, shape, quantization=(1.0, 0), value=None) -> int:
        item = schema.TensorT()
        item.shape, item.type, item.buffer = np.array(shape, np.int32), INT8 if self.integer else FLOAT, 0
        item.name = f"t{len(self.graph.tensors)}".encode()
        if self.integer:
            item.quantization = schema.QuantizationParametersT()
            item.quantization.scale = np.array([quantization[0]], np.float32)
            item.quantization.zeroPoint = np.array([quantization[1]], np.int64)
        if value is not None:
            stored = np.full(shape, value, np.float32)
            if self.integer:
                stored = np.rint(stored / quantization[0] + quantization[1]).astype(np.int8)
            item.buffer = self.buffer(stored.tobytes())
        self.graph.tensors.append(item)
        return len(self.graph.tensors) - 1

    def operator(self, name: str, inputs: list[int], output: int):
        code, item = schema.OperatorCodeT(), schema.OperatorT()
        code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, name)
        code.version = 2 if self.integer else 1
        self.model.operatorCodes.append(code)
        item.opcodeIndex = len(self.model.operatorCodes) - 1
        item.inputs, item.outputs = np.array(inputs, np.int32), np.array([output], np.int32)
        if name in ("ADD", "MUL"):
            item.builtinOptionsType = getattr(schema.BuiltinOptions, name.title() + "Options")
            item.builtinOptions = getattr(schema, name.title() + "OptionsT")()
        self.graph.operators.append(item)

    def pack(self, inputs: dict[str, int], outputs: dict[str, int], metadata: str | None) -> bytes:
        self.graph.inputs = np.array(list(inputs.values()), np.int32)
        self.graph.outputs = np.array(list(outputs.values()), np.int32)
        signature = schema.SignatureDefT()
        signature.signatureKey, signature.subgraphIndex = b"serving_default", 0
        signature.inputs, signature.outputs = _maps(inputs), _maps(outputs)
        self.model.signatureDefs = [signature]
        if metadata is not None:
            entry = schema.MetadataT()
            entry.name, entry.buffer = b"earshot", self.buffer(metadata.encode())
            self.model.metadata.append(entry)
        builder = flatbuffers.Builder(1024)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


def _maps(names: dict[str, int]):
    maps = []
    for name, index in names.items():
        item = schema.TensorMapT()
        item.name, item.tensorIndex = name.encode(), index
        maps.append(item)
    return maps


def describe(bins: int, rate: int, state_shape: list[int], dtype: str) -> dict:
    window = 2 * (bins - 1)
    return {
        "schema": "earshot.stream/1",
        "frontend": {
            "kind": "stft",
            "rate": rate,
            "window": window,
            "hop": window // 2,
            "fft": window,
            "window_kind": "sqrt_hann",
            "compression": 0.3,
            "mask": "magnitude",
        },
        "input": "frame",
        "output": "mask",
        "states": [
            {"name": "s", "input": "state_s", "output": "state_s", "shape": state_shape, "dtype": dtype},
        ],
        "network": "tiny",
        "params": {},
        "causal": True,
        "precision": dtype,
    }


def write_tiny(
    path: Path,
    kind: str,
    *,
    bins: int = 33,
    rate: int = 16000,
    integer: bool = False,
    loose: bool = False,
    where="inside",
) -> Path:
    """A tiny stream model. `loose` gives the state another scale where it leaves; `where` puts the description
    `inside` the file, `beside` it, or `nowhere`."""
    writer, shape = GraphWriter(integer), [1, 1, bins, 1]
    frame, mask = writer.tensor(shape, FRAME_Q), writer.tensor(shape, MASK_Q)
    if kind == "identity":
        assert not integer
        state_shape = [1, 4]
        state, following = writer.tensor(state_shape), writer.tensor(state_shape)
        nothing = writer.tensor(shape)
        writer.operator("ADD", [state, writer.tensor([1], value=1.0)], following)
        writer.operator("MUL", [frame, writer.tensor([1], value=0.0)], nothing)
        writer.operator("ADD", [nothing, writer.tensor([1], value=1.0)], mask)
    else:
        state_shape = shape
        state, following = writer.tensor(shape, STATE_Q), writer.tensor(shape, LOOSE_Q if loose else STATE_Q)
        kept, fresh = writer.tensor(shape, STATE_Q), writer.tensor(shape, (0.005, -128))
        writer.operator("MUL", [state, writer.tensor([1], (0.01, 0), 0.9)], kept)
        writer.operator("MUL", [frame, writer.tensor([1], (0.001, 0), 0.1)], fresh)
        writer.operator("ADD", [kept, fresh], following)
        writer.operator("LOGISTIC", [following], mask)
    text = json.dumps(describe(bins, rate, state_shape, "int8" if integer else "float32"))
    inputs, outputs = {"frame": frame, "state_s": state}, {"mask": mask, "state_s": following}
    path.write_bytes(writer.pack(inputs, outputs, text if where == "inside" else None))
    if where == "beside":
        path.with_suffix(".json").write_text(text)
    return path


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A function that writes a tiny model into a folder of its own and returns its path."""

    def make(kind="smoother", **options) -> Path:
        return write_tiny(tmp_path_factory.mktemp(kind) / "tiny.tflite", kind, **options)

    return make
