"""`frontend.json`: the signal processing around the network, with its numbers, for whoever writes one of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from earshot.models.frontend import FEATURE_EPSILON, Frontend
from earshot.pipeline.bundle.description import json_text
from earshot.quantize.graph import TensorInfo, read_graph
from earshot.quantize.metadata import description_of

_STFT = (
    "a frame is the newest `window` samples times window_values; zeros stand before the first sample",
    "X = rfft of the frame, zeros at its end, `fft` points",
    "features: magnitude = (|X|^2 + feature_epsilon)^(compression / 2); "
    "log1p = ln(1 + (|X|^2 + feature_epsilon)^(1/2)); complex = real and imaginary part of X, of every microphone",
    "the network: frame and states in, mask and states out; states start at zero (integers: at zero_point)",
    "Y = mask X of the first microphone; a complex mask is its real and imaginary part, side by side",
    "y = overlap-add of window_values times irfft(Y), every `hop` samples; delay_samples late",
)
_WAVE = (
    "a frame is the newest `hop` samples",
    "the network: frame and states in, mask and states out; states start at zero (integers: at zero_point)",
    "what it gives is the next `hop` enhanced samples",
)


def signal_json(model: Path) -> bytes:
    """The text of `frontend.json` of a stream model. Raises ModelError for another file."""
    graph = read_graph(model)
    description = description_of(graph)
    frontend = description.frontend
    states = [
        {
            "name": state.name,
            "input": state.input,
            "output": state.output,
            **_tensor(graph.tensors[graph.inputs[state.input]]),
        }
        for state in description.states
    ]
    return json_text(
        {
            "schema": "earshot.frontend/1",
            **frontend.model_dump(mode="json"),
            "bins": frontend.bins,
            "delay_samples": frontend.delay_samples,
            "algorithmic_latency_samples": frontend.algorithmic_latency_samples,
            "feature_epsilon": FEATURE_EPSILON,
            "arithmetic": list(_WAVE if frontend.kind == "wave" else _STFT),
            "integers": "real = (integer - zero_point) * scale; integer = round(real / scale) + zero_point, clipped",
            "frame": {"input": description.input, **_tensor(graph.tensors[graph.inputs[description.input]])},
            "mask": {"output": description.output, **_tensor(graph.tensors[graph.outputs[description.output]])},
            "states": states,
            "window_values": _window(frontend),
        }
    )


def _tensor(tensor: TensorInfo) -> dict[str, Any]:
    known = {"shape": list(tensor.shape), "dtype": tensor.dtype}
    if tensor.quantization is None:
        return known
    return {**known, "scale": tensor.quantization.scale, "zero_point": tensor.quantization.zero_point}


def _window(frontend: Frontend) -> list[float]:
    """float32 values, written so that they read back to the same bits."""
    return [] if frontend.kind == "wave" else [float(str(value)) for value in frontend.window_array()]
