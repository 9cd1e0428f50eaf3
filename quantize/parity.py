"""Holds a stream model against what it was made from, frame by frame over at least ten seconds."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from earshot.core.config import Config
from earshot.core.errors import ModelError
from earshot.quantize.calibration import channels_last
from earshot.quantize.graph import read_graph
from earshot.quantize.metadata import MASK, description_of
from earshot.quantize.runner import StreamRunner, to_real

if TYPE_CHECKING:
    from earshot.models.frontend import Frontend
    from earshot.models.streaming import StreamingModel

FLOAT_TOLERANCE = 1e-5
IDENTICAL_DB = 200.0  # what stands for an infinite ratio: JSON has none


class FloatParity(Config):
    """Largest absolute difference between the float file's masks and torch's, over `frames` frames."""

    max_abs: float
    frames: int


class IntegerParity(Config):
    """An integer file against the fake-quantised reference, and against the float file, over `frames` frames.

    Attributes:
        snr_db: mask power over the difference from the reference; 200 stands for identical.
        max_lsb: largest difference from the reference, in steps of the mask's scale.
        exact: share of mask values equal to the reference's.
        float_snr_db: mask power over the difference from the float file's masks.
        unavailable: why the reference could not be run, when it could not.
    """

    snr_db: float | None
    max_lsb: int | None
    exact: float | None
    float_snr_db: float
    frames: int
    unavailable: str | None = None


def one_stream(features: ArrayLike, frontend: Frontend, seconds: float) -> np.ndarray:
    """Clips joined end to end, repeated where they are too short: float32 `[1, channels, frames, bins]`."""
    values = np.asarray(features, np.float32)
    joined = values.transpose(1, 0, 2, 3).reshape(1, values.shape[1], -1, values.shape[3])
    wanted = math.ceil(seconds / frontend.hop_seconds)
    repeats = -(-wanted // joined.shape[2])
    return np.tile(joined, (1, 1, repeats, 1))[:, :, :wanted]


def stream(path: Path, sequence: np.ndarray) -> np.ndarray:
    """Outputs of a file on LiteRT, in its own dtype: `[1, channels, frames, bins]` -> `[frames, bins, outputs]`."""
    runner = StreamRunner(read_graph(path), path.read_bytes())
    return np.stack([mask[0, 0] for mask in runner.run(channels_last(sequence)[0])])


def float_parity(path: Path, model: StreamingModel, features: ArrayLike, seconds: float = 10.0) -> FloatParity:
    """The float file against the network's own `step`.

    Raises:
        ModelError: they differ by more than 1e-5: the conversion changed the network.
    """
    import torch

    sequence = one_stream(features, model.frontend, seconds)
    wanted = model.prepare_for_export().eval().stream(torch.from_numpy(sequence))[0].permute(1, 2, 0).numpy()
    difference = float(np.abs(stream(path, sequence) - wanted).max())
    if not difference <= FLOAT_TOLERANCE:
        raise ModelError(
            f"{path}: its masks differ from the network's by {difference:.2g}, more than {FLOAT_TOLERANCE:g}",
            "a layer is converted wrongly: give ConvTranspose2d padding 0 and crop, and check layers one by one",
        )
    return FloatParity(max_abs=difference, frames=sequence.shape[2])


def integer_parity(path: Path, float_path: Path, features: ArrayLike, seconds: float = 10.0) -> IntegerParity:
    """An integer file on LiteRT against the fake-quantised reference and against the float file."""
    import torch

    from earshot.quantize.reference import Reference

    graph = read_graph(path)
    sequence = one_stream(features, description_of(graph).frontend, seconds)
    quantization = graph.tensors[graph.outputs[MASK]].quantization
    masks = to_real(stream(path, sequence), quantization)
    float_snr = snr_db(stream(float_path, sequence), masks)
    frames = sequence.shape[2]
    try:
        reference = Reference(graph)
    except ModelError as error:
        return IntegerParity(
            snr_db=None, max_lsb=None, exact=None, float_snr_db=float_snr, frames=frames, unavailable=error.message
        )
    wanted = reference.run(torch.from_numpy(sequence))[0].permute(1, 2, 0).numpy()
    steps = np.abs(masks - wanted) / (quantization.scale if quantization else FLOAT_TOLERANCE)
    return IntegerParity(
        snr_db=snr_db(wanted, masks),
        max_lsb=round(float(steps.max())),
        exact=float((steps < 0.5).mean()),
        float_snr_db=float_snr,
        frames=frames,
    )


def snr_db(wanted: np.ndarray, found: np.ndarray) -> float:
    """Power of `wanted` over the power of the difference, dB; 200 where there is none."""
    noise = float(np.square(wanted.astype(np.float64) - found).sum())
    power = float(np.square(wanted.astype(np.float64)).sum())
    if noise == 0:
        return IDENTICAL_DB
    return min(10 * math.log10(max(power, 1e-30) / noise), IDENTICAL_DB)
