"""The stream description: what a program needs beside the graph to run it, in the file and in a sidecar.

The JSON text is the buffer of the .tflite metadata entry `earshot` (the schema's standard `Metadata` table), and the
whole content of `NAME.json` beside `NAME.tflite`. Reading it needs no torch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from earshot.core.config import Config, parse
from earshot.core.errors import ConfigError, ModelError
from earshot.core.files import canonical_json, write_atomic, write_json
from earshot.models.frontend import Frontend
from earshot.quantize.graph import Graph, load_flatbuffer, pack_flatbuffer, read_graph

ENTRY = "earshot"
SCHEMA = "earshot.stream/1"
FRAME = "frame"
MASK = "mask"
STATE_PREFIX = "state_"
Precision = Literal["float32", "int8", "int16x8"]


class StateSpec(Config):
    """One state: signature names in and out, shape (NHWC when rank 4), and dtype in the file."""

    name: str
    input: str
    output: str
    shape: tuple[int, ...]
    dtype: str


class StreamDescription(Config):
    """What travels with a stream model. All states are zero (integers: their zero point) at the start of a stream.

    `wide_states` names the states that 8 bits do not hold: an int8 file gives them 16.
    """

    frontend: Frontend
    input: str = FRAME
    output: str = MASK
    states: tuple[StateSpec, ...] = ()
    network: str
    params: Mapping[str, Any] = Field(default_factory=dict)
    causal: bool = True
    precision: Precision
    wide_states: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data in the order of docs/architecture.md; `wide_states` only where there are any."""
        unsaid = set() if self.wide_states else {"wide_states"}
        return {"schema": SCHEMA, **self.model_dump(mode="json", exclude=unsaid)}

    def for_graph(self, graph: Graph, precision: Precision) -> StreamDescription:
        """The same stream in another graph of the same signature: states and precision are read off the graph."""
        return self.model_copy(update={"states": state_specs(graph), "precision": precision})


def state_specs(graph: Graph) -> tuple[StateSpec, ...]:
    """The states of a graph whose signature names them alike on both sides."""
    specs = []
    for source, sink in graph.state_pairs.items():
        tensor = graph.tensors[graph.inputs[source]]
        name = source.removeprefix(STATE_PREFIX)
        specs.append(StateSpec(name=name, input=source, output=sink, shape=tensor.shape, dtype=tensor.dtype))
    return tuple(specs)


def write_stream_model(path: Path, content: bytes, description: StreamDescription) -> Graph:
    """Writes `path` with the description embedded, and the sidecar beside it.

    Args:
        path: file to write, suffix `.tflite`.
        content: the .tflite without, or with another, description.
        description: its states and precision are replaced by those of the graph.

    Returns:
        The graph as it was written.
    """
    settled = description.for_graph(read_graph(content, str(path)), description.precision)
    embedded = embed(content, settled)
    graph = read_graph(embedded, str(path))
    write_atomic(path, embedded)
    write_json(path.with_suffix(".json"), settled.to_json())
    return graph


def embed(content: bytes, description: StreamDescription) -> bytes:
    """The .tflite with `description` as its metadata entry, in place of any before it."""
    from ai_edge_litert import schema_py_generated as schema

    model = load_flatbuffer(content)
    model.metadata = model.metadata or []
    entry = next((entry for entry in model.metadata if entry.name == ENTRY.encode()), None)
    if entry is None:
        entry = schema.MetadataT()
        entry.name, entry.buffer = ENTRY.encode(), len(model.buffers)
        model.buffers.append(schema.BufferT())
        model.metadata.append(entry)
    text = canonical_json(description.to_json()).encode()
    model.buffers[entry.buffer].data = np.frombuffer(text, np.uint8)
    return pack_flatbuffer(model)


def read_description(path: Path) -> StreamDescription:
    """The description of a stream model.

    Raises:
        ModelError: no .tflite, one without a description (foreign), or one that does not fit its graph.
    """
    return description_of(read_graph(path))


def description_of(graph: Graph) -> StreamDescription:
    """The description a graph carries; errors as `read_description`."""
    text = graph.metadata.get(ENTRY)
    if text is None:
        hint = "convert it with earshot: earshot run a recipe whose quantize stage enters with this file"
        raise ModelError(f"{graph.source}: not an earshot stream model (no metadata entry '{ENTRY}')", hint)
    try:
        content = json.loads(text)
        if content.pop("schema") != SCHEMA:
            raise ModelError(f"{graph.source}: its stream description is of another schema", "convert it again")
        description = parse(StreamDescription, content, graph.source)
    except (ValueError, KeyError, AttributeError, ConfigError) as error:
        raise ModelError(f"{graph.source}: its stream description cannot be read ({error})") from error
    named = {description.input, description.output, *(name for s in description.states for name in (s.input, s.output))}
    if named != {*graph.inputs, *graph.outputs}:
        raise ModelError(f"{graph.source}: its stream description names other inputs and outputs than its signature")
    return description
