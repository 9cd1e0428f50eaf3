"""Enters the quantize stage with the user's own model: a float .tflite with explicit states, or a Keras/SavedModel."""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import ArrayLike
from pydantic import Field

from earshot.core.config import Config
from earshot.core.errors import ModelError, ToolError, UsageError
from earshot.models.frontend import Frontend
from earshot.quantize.graph import Graph, read_graph
from earshot.quantize.metadata import (
    ENTRY,
    FRAME,
    MASK,
    STATE_PREFIX,
    StreamDescription,
    description_of,
    write_stream_model,
)
from earshot.quantize.plan import FLOAT_FILE, QuantizeConfig, QuantizedPlan, settle
from earshot.quantize.quiet import quiet
from earshot.quantize.standard import standardise


class EntryConfig(Config):
    """What a foreign file does not say about itself.

    Attributes:
        frontend: the signal processing its features and mask belong to.
        input, output: signature names of the frame and the mask; found by elimination when absent.
        states: signature input -> signature output of every state; those of equal names are paired without it.
        wide_states: signature inputs of the states that need 16 bits at int8: running means with small updates.
        network: what reports call it.
    """

    frontend: Frontend = Frontend()
    input: str | None = None
    output: str | None = None
    states: Mapping[str, str] = Field(default_factory=dict)
    wide_states: tuple[str, ...] = ()
    network: str = "user"


def quantize_tflite(
    path: Path,
    features: ArrayLike,
    out: Path,
    config: QuantizeConfig | None = None,
    *,
    entry: EntryConfig | None = None,
    advance: Callable[[], object] | None = None,
) -> QuantizedPlan:
    """A plan from a float32 .tflite of one step whose states are explicit inputs and outputs.

    A file that earshot wrote describes itself, and `entry` is not needed. Errors as `quantize_model`, and ModelError
    for a file that is not float32, whose frame does not fit the frontend, or whose states cannot be paired.
    """
    graph = read_graph(path)
    given = entry or EntryConfig()
    inputs, outputs = _names(graph, given)
    if entry is None and ENTRY in graph.metadata:
        description = description_of(graph)
    else:
        wide = tuple(inputs.get(name, name).removeprefix(STATE_PREFIX) for name in given.wide_states)
        description = StreamDescription(
            frontend=given.frontend, network=given.network, precision="float32", wide_states=wide
        )
    _check(graph, inputs, description.frontend)
    content = standardise(path.read_bytes(), inputs, outputs, str(path))
    write_stream_model(out / FLOAT_FILE, content, description)
    return settle(out, features, config or QuantizeConfig(), None, advance)


def quantize_tensorflow(
    path: Path,
    features: ArrayLike,
    out: Path,
    config: QuantizeConfig | None = None,
    *,
    entry: EntryConfig | None = None,
    advance: Callable[[], object] | None = None,
) -> QuantizedPlan:
    """A plan from a Keras file (`.keras`, `.h5`) or a SavedModel folder; errors as `quantize_tflite`.

    Raises:
        UsageError: TensorFlow is not installed.
        ToolError: its converter failed.
    """
    try:
        import tensorflow as tf
    except ImportError as error:
        raise UsageError(f"{path}: TensorFlow is needed to read it", "pip install 'earshot[tensorflow]'") from error
    try:
        with quiet(), contextlib.redirect_stdout(io.StringIO()):
            lite = tf.lite.TFLiteConverter
            saved = path.is_dir()
            model = None if saved else tf.keras.models.load_model(path)
            converter = lite.from_saved_model(str(path)) if saved else lite.from_keras_model(model)
            content = converter.convert()
    except Exception as error:
        raise ToolError(f"{path}: TensorFlow could not convert it ({str(error)[:200]})") from error
    with tempfile.TemporaryDirectory() as folder:
        converted = Path(folder) / f"{path.name}.tflite"
        converted.write_bytes(content)
        return quantize_tflite(converted, features, out, config, entry=entry, advance=advance)


def _names(graph: Graph, entry: EntryConfig) -> tuple[dict[str, str], dict[str, str]]:
    """Found -> standard names of the signature's inputs and outputs."""
    pairs = {**graph.state_pairs, **entry.states}
    frame = entry.input or _only(graph, "inputs", set(graph.inputs) - set(pairs))
    mask = entry.output or _only(graph, "outputs", set(graph.outputs) - set(pairs.values()))
    standard = {name: STATE_PREFIX + name.removeprefix(STATE_PREFIX) for name in pairs if name != frame}
    inputs = {frame: FRAME, **standard}
    outputs = {mask: MASK, **{pairs[name]: wanted for name, wanted in standard.items()}}
    return inputs, outputs


def _only(graph: Graph, side: str, left: set[str]) -> str:
    if len(left) == 1:
        return left.pop()
    raise ModelError(
        f"{graph.source}: of the signature's {side}, {sorted(left)} are no states: expected exactly one",
        "give every state the same name in and out, or pair them with 'states: {input: output}'",
    )


def _check(graph: Graph, inputs: Mapping[str, Any], frontend: Frontend) -> None:
    for name in inputs:
        if name not in graph.inputs:
            raise ModelError(f"{graph.source}: the signature has no input '{name}'", f"it has {sorted(graph.inputs)}")
        tensor = graph.tensors[graph.inputs[name]]
        if tensor.dtype != "float32":
            raise ModelError(f"{graph.source}: input '{name}' is {tensor.dtype}", "give the float32 file")
        if inputs[name] == FRAME and tensor.shape != (1, 1, frontend.bins, frontend.inputs):
            wanted = [1, 1, frontend.bins, frontend.inputs]
            raise ModelError(
                f"{graph.source}: frames are {list(tensor.shape)}, expected {wanted}",
                "set the frontend it was trained with",
            )
