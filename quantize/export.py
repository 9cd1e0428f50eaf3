"""Turns one step of a StreamingModel into a float32 .tflite with every state explicit and named."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from earshot.core.errors import ModelError, ToolError
from earshot.quantize.graph import Graph
from earshot.quantize.metadata import FRAME, MASK, STATE_PREFIX, StreamDescription, write_stream_model
from earshot.quantize.standard import standardise

if TYPE_CHECKING:
    from earshot.models.streaming import StreamingModel


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
        params=_sizes(model),
        causal=model.causal,
        precision="float32",
        wide_states=tuple(sorted(model.wide_states())),
    )
    return write_stream_model(path, convert_step(model), description)


def convert_step(model: StreamingModel) -> bytes:
    """The .tflite of one step, in the signature of docs/architecture.md; errors as `export_float`."""
    import torch

    from earshot.quantize.quiet import quiet

    ready = model.prepare_for_export().eval()
    states = ready.initial_state(1)
    nonzero = [name for name, value in states.items() if torch.count_nonzero(value)]
    if nonzero:
        raise ModelError(f"{type(model).__name__}: states {nonzero} do not start at zero", "a stream starts from zeros")
    frame = torch.zeros(1, ready.frontend.inputs, 1, ready.frontend.bins)
    inputs = (frame, *states.values())
    spatial = [index for index, value in enumerate(inputs) if value.dim() == 4]
    # Cloned: one tensor given for two states would become one input.
    sample = tuple((value.permute(0, 2, 3, 1) if value.dim() == 4 else value).contiguous().clone() for value in inputs)
    with quiet(), torch.no_grad():
        import litert_torch

        step = litert_torch.to_channel_last_io(_one_step(ready, tuple(states)), args=spatial, outputs=spatial).eval()
        try:
            content = litert_torch.convert(step, sample).model_content()
        except Exception as error:
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


def _sizes(model: StreamingModel) -> dict[str, Any]:
    """The sizes the layers have now, where the network can say: pruning leaves others than it was built with."""
    try:
        return model.layer_params().model_dump(mode="json")
    except ModelError:
        return model.params.model_dump(mode="json")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
