"""Measures the range of every tensor while sound streams through the float graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from earshot.core.errors import DataError, ModelError
from earshot.quantize.graph import read_graph
from earshot.quantize.runner import StreamRunner


@dataclass(frozen=True)
class Range:
    """Least and greatest value a tensor took."""

    low: float
    high: float

    def join(self, other: Range) -> Range:
        """The least range that holds both."""
        return Range(min(self.low, other.low), max(self.high, other.high))


def channels_last(features: ArrayLike) -> np.ndarray:
    """Features `[clips, channels, frames, bins]` channels last, float32 `[clips, frames, 1, 1, bins, channels]`.

    Raises:
        DataError: another rank, nothing in it, or values that are not finite.
    """
    values = np.asarray(features, np.float32)
    if values.ndim != 4 or not values.size:
        raise DataError(
            f"features have shape {list(values.shape)}: expected [clips, channels, frames, bins], not empty"
        )
    if not np.isfinite(values).all():
        raise DataError("features hold NaN or infinity: a sound file they come from is damaged")
    return np.ascontiguousarray(values.transpose(0, 2, 3, 1))[:, :, None, None]


def calibrate(path: Path, features: ArrayLike, advance: Callable[[], object] | None = None) -> dict[int, Range]:
    """True minimum and maximum of every run-time tensor, states carried from frame to frame within a clip.

    Nothing is clipped or averaged: an average of per-frame extremes clips the loudest frames, and a clipped recurrent
    state stays wrong for the rest of the stream.

    Args:
        path: float32 stream model.
        features: float32 `[clips, channels, frames, bins]`.
        advance: called after every clip.

    Returns:
        Tensor index -> range.

    Raises:
        ModelError: the network's values do not stay finite.
    """
    content = path.read_bytes()
    graph = read_graph(path)
    runner = StreamRunner(graph, content, observe=True)
    alive = {*graph.inputs.values(), *(index for operator in graph.operators for index in graph.activations(operator))}
    watched = sorted(index for index in alive if graph.tensors[index].dtype == "float32")
    low, high = np.full(len(watched), np.inf), np.full(len(watched), -np.inf)
    for clip in channels_last(features):
        runner.reset()
        for frame in clip:
            runner.step(frame)
            values = [runner.tensor(index) for index in watched]
            np.minimum(low, [value.min() for value in values], out=low)
            np.maximum(high, [value.max() for value in values], out=high)
        if advance is not None:
            advance()
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise ModelError(
            f"{path}: its values do not stay finite on the calibration sound", "train it with a lower rate"
        )
    return {index: Range(float(a), float(b)) for index, a, b in zip(watched, low, high, strict=True)}
