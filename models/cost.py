"""What a network costs to run: parameters, multiply-accumulates per second of audio, bytes of state."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from earshot.core.measurement import Measurement
from earshot.models.streaming import StreamingModel


def parameters(model: StreamingModel) -> int:
    """Trainable numbers."""
    return sum(parameter.numel() for parameter in model.parameters())


def macs_per_frame(model: StreamingModel) -> int:
    """Multiply-accumulates of convolutions and matrix products in one step, counted while it runs."""
    ready = model.prepare_for_export()
    frame = torch.zeros(1, model.frontend.inputs, 1, model.frontend.bins)
    # The fused recurrent kernel is one operator, which torch's own table does not know.
    fused = {torch.ops.aten.mkldnn_rnn_layer: _recurrent_flops}
    with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=fused) as counter:
        ready.step(frame, ready.initial_state(1))
    return counter.get_total_flops() // 2


def macs_per_second(model: StreamingModel) -> int:
    """`macs_per_frame` times frames per second."""
    return round(macs_per_frame(model) / model.frontend.hop_seconds)


def state_bytes(model: StreamingModel) -> int:
    """Memory of one copy of all states, float32."""
    return sum(value.numel() * value.element_size() for value in model.initial_state(1).values())


def cost(model: StreamingModel) -> list[Measurement]:
    """All of it, with the algorithmic latency, computed from the network itself."""
    latency = 1000 * model.frontend.algorithmic_latency_samples / model.frontend.rate
    found = [Measurement("parameters", parameters(model), "1")]
    if model.causal:
        found += [
            Measurement("macs_per_second", macs_per_second(model), "MAC/s"),
            Measurement("state_bytes", state_bytes(model), "bytes"),
            Measurement("algorithmic_latency_ms", latency, "ms"),
        ]
    return found


def _recurrent_flops(
    sequence: tuple[int, ...], into: tuple[int, ...], again: tuple[int, ...], *_: Any, **__: Any
) -> int:
    """One layer and direction over `[frames, batch, inputs]`: every weight meets every frame of every sequence."""
    frames, batch, _inputs = sequence
    return 2 * frames * batch * (math.prod(into) + math.prod(again))
