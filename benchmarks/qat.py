"""What quantization-aware training wins back, against as many steps of plain fine-tuning.

    python benchmarks/qat.py [--network NAME] [--unbalance K] [--float-steps N] [--steps N] [--seeds N]

Trains a small network on the embedded pack, then fine-tunes its float weights twice from the same batches, plainly and
rounding as its int8 file will. All three are exported, calibrated and converted as `earshot run` does it, and the int8
files are streamed through LiteRT over validation clips: SI-SDR against the clean sound, and against the output of the
same weights in float. Means over clips, and over seeds of the fine-tuning ± standard deviation.

With --unbalance, which needs the network metricgan, the channels of a layer between two fully connected ones are
multiplied by 1 to K before fine-tuning and the weights that read them are divided: the float network computes what it
did, but all channels share one range (Nagel et al. 2019, arXiv 1906.04721, section 3). It is made hard on purpose.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from earshot.models.frontend import Frontend
from earshot.models.metricgan import MetricGan
from earshot.models.registry import build
from earshot.models.streaming import StreamingModel
from earshot.pipeline.data.base import Data, EvalPair
from earshot.pipeline.data.config import DataConfig
from earshot.pipeline.data.open import open_data
from earshot.pipeline.progress import Silent
from earshot.pipeline.stages.calibration import calibration_features
from earshot.pipeline.training.config import TeachingConfig
from earshot.pipeline.training.loop import train
from earshot.quantize.calibration import calibrate, channels_last
from earshot.quantize.export import export_float
from earshot.quantize.graph import read_graph
from earshot.quantize.integer import quantize_graph
from earshot.quantize.ranges import tie
from earshot.quantize.runner import StreamRunner, to_real
from earshot.quantize.training.model import FakeQuantized

NETWORKS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "rt_senet": ({"kind": "wave", "hop": 128}, {"channels": [8, 12, 16], "strides": [4, 4, 4]}),
    "dae_unet": ({}, {"channels": [4, 8], "strides": [8, 4], "latent": 16, "hidden": 16}),
    "metricgan": ({"features": "log1p"}, {"hidden": 32, "wide": 48}),
    "dccrn": ({"features": "complex", "mask": "complex"}, {"channels": [4, 6, 8], "hidden": 12}),
}
CLIPS = 12  # that calibrate


@dataclass(frozen=True)
class Score:
    """SI-SDR in dB, means over clips: float and int8 against clean, int8 against float."""

    real: float
    integer: float
    fidelity: float

    def __str__(self) -> str:
        return f"float {self.real:6.2f}   int8 {self.integer:6.2f}   int8 against float {self.fidelity:6.2f}"


def si_sdr(reference: np.ndarray, estimate: np.ndarray) -> float:
    """In dB; both 1-dimensional."""
    reference, estimate = reference - reference.mean(), estimate - estimate.mean()
    part = (estimate @ reference) / (reference @ reference) * reference
    return float(10 * np.log10((part @ part) / ((estimate - part) @ (estimate - part))))


def settings(steps: int, rate: float) -> TeachingConfig:
    """Training towards SI-SDR, four epochs."""
    return TeachingConfig.model_validate(
        {
            "epochs": 4,
            "steps_per_epoch": steps // 4,
            "batch": 8,
            "segment_seconds": 0.5,
            "learning_rate": rate,
            "warmup_steps": 10,
            "loss": {"magnitude": 0, "complex": 0, "si_sdr": 1},
            "launcher": {"threads": 1, "accelerator": "cpu"},
        }
    )


def trained(model: StreamingModel, config: TeachingConfig, data: Data, seed: int) -> StreamingModel:
    """The model after training."""
    sampler = data.sampler(seed, config.segment_seconds)
    with tempfile.TemporaryDirectory() as work:
        return train(model, config, sampler, data.validation, seed, Path(work), Silent()).model


def score(model: StreamingModel, features: torch.Tensor, pairs: Sequence[EvalPair]) -> Score:
    """Of the float network and of its int8 file."""
    model.eval()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.tflite"
        export_float(model, path)
        content = quantize_graph(path, tie(read_graph(path), calibrate(path, features.numpy())), "int8")
    graph = read_graph(content)
    runner, mask = StreamRunner(graph, content), graph.tensors[graph.outputs["mask"]]
    rows = []
    for pair in pairs:
        clean, noisy = pair.load()
        analysed = model.frontend.analyse(torch.from_numpy(noisy)[None])
        frames = channels_last(analysed.sequence.numpy())[0]
        made = np.stack([to_real(frame, mask.quantization)[0, 0].T.copy() for frame in runner.run(frames)], 1)
        with torch.no_grad():
            real = model.frontend.synthesise(analysed, model(analysed.sequence))[0].numpy()
        integer = model.frontend.synthesise(analysed, torch.from_numpy(made)[None])[0].numpy()
        rows.append((si_sdr(clean, real), si_sdr(clean, integer), si_sdr(real, integer)))
    return Score(*(float(value) for value in np.mean(rows, 0)))


@torch.no_grad()
def unbalance(model: MetricGan, factor: float) -> None:
    """Channels of the head's hidden layer from once to `factor` times as large, what reads them as much smaller."""
    wide, gains = model.head.wide, torch.logspace(0, float(np.log10(factor)), model.head.wide.out_features)
    wide.weight.mul_(gains[:, None])
    wide.bias.mul_(gains)
    model.head.gains.weight.div_(gains)


def main() -> None:
    """Trains, fine-tunes and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=NETWORKS, default="rt_senet")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--float-steps", type=int, default=400)
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--unbalance", type=float, default=1.0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    frontend_keys, params = NETWORKS[given.network]
    frontend = Frontend.model_validate(frontend_keys)
    embedded = {part: {"kind": "embedded"} for part in ("train", "validation", "test")}
    with tempfile.TemporaryDirectory() as cache:
        data = open_data(DataConfig.model_validate(embedded), frontend.rate, 0, Path(cache), frontend.channels)
    features = torch.from_numpy(calibration_features(data, frontend, CLIPS, 3.0, 0))
    torch.manual_seed(0)
    start = trained(build(given.network, frontend, params), settings(given.float_steps, 3e-3), data, 0)
    if given.unbalance != 1:
        if not isinstance(start, MetricGan):
            parser.error("--unbalance needs --network metricgan")
        unbalance(start, given.unbalance)
    weights = {name: value.clone() for name, value in start.state_dict().items()}
    size = sum(value.numel() for value in start.parameters())
    noisy = np.mean([si_sdr(*pair.load()) for pair in data.validation])
    print(f"{given.network} {params}, {size} parameters, {given.float_steps} steps; dB, n={len(data.validation)} clips")
    print(f"noisy input                  {noisy:6.2f}")
    print(f"post-training int8           {score(start, features, data.validation)}", flush=True)
    config = settings(given.steps, given.learning_rate)
    for arm in ("plain fine-tuning", "quantization-aware"):
        found = []
        for seed in range(1, given.seeds + 1):
            model = build(given.network, frontend, params)
            model.load_state_dict(weights)
            trained(FakeQuantized(model, features) if arm.startswith("q") else model, config, data, seed)
            found.append(score(model, features, data.validation))
            print(f"{arm}, seed {seed}   {found[-1]}", flush=True)
        table = np.array([(one.real, one.integer, one.fidelity) for one in found])
        mean, spread = table.mean(0), table.std(0, ddof=1) if len(found) > 1 else np.zeros(3)
        cells = "   ".join(f"{a:6.2f} ± {b:.2f}" for a, b in zip(mean, spread, strict=True))
        print(
            f"{arm}, {given.steps} steps, mean ± sd over {len(found)} seeds: float, int8, int8 against float: {cells}"
        )


if __name__ == "__main__":
    main()
