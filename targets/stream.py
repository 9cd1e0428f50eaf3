"""The device agent's streaming enhancer for the rest of earshot: the same code, its errors as earshot's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from earshot.core.errors import DeviceError, ModelError

if TYPE_CHECKING:
    from earshot.targets.agent import StreamEnhancer


def open_stream(model: Path, threads: int = 1) -> StreamEnhancer:
    """A stream through a .tflite: `process(hops)`, `enhance(signal)`, `reset()`.

    Raises:
        ModelError: the file is no stream model, is damaged, or the runtime refuses it.
        DeviceError: no TFLite runtime is installed.
    """
    from earshot.targets.agent import AgentError, StreamEnhancer

    try:
        return StreamEnhancer(model, threads)
    except AgentError as error:
        kind = ModelError if error.exit_code == ModelError.exit_code else DeviceError
        raise kind(error.message, error.hint) from error
