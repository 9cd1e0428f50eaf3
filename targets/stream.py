"""The device agent's streaming enhancer for the rest of earshot: the same code, its errors as earshot's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from earshot.core.errors import DeviceError, ModelError
from earshot.core.standard_error import silenced

if TYPE_CHECKING:
    from earshot.targets.agent import StreamEnhancer


def open_stream(model: Path, threads: int = 1, delegate: bool = True) -> StreamEnhancer:
    """A stream through a .tflite: `process(hops)`, `enhance(signal)`, `reset()`.

    Without the delegate the plain kernels run.

    Raises:
        ModelError: the file is no stream model, is damaged, or the runtime refuses it.
        DeviceError: no TFLite runtime is installed.
    """
    from earshot.targets.agent import AgentError, StreamEnhancer

    try:
        with silenced():  # runtimes greet there; their refusals come as exceptions all the same
            return StreamEnhancer(model, threads, delegate)
    except AgentError as error:
        kind = ModelError if error.exit_code == ModelError.exit_code else DeviceError
        raise kind(error.message, error.hint) from error


def stream_precision(model: Path) -> str:
    """`float32`, `int8` or `int16x8`, as the stream description says; no runtime is needed. Raises ModelError."""
    from earshot.targets.agent import AgentError, read_description

    try:
        return str(read_description(str(model)).get("precision", "float32"))
    except AgentError as error:
        raise ModelError(error.message, error.hint) from error
