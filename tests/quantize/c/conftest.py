"""Integer models of the small networks, of a U-Net, and of graphs that hold every operator."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from earshot.models.dae_unet import DaeUnet, DaeUnetParams
from earshot.models.frontend import Frontend
from earshot.models.registry import build
from earshot.models.streaming import StreamingModel
from earshot.quantize.calibration import calibrate
from earshot.quantize.export import export_float
from earshot.quantize.graph import read_graph
from earshot.quantize.integer import quantize_graph
from earshot.quantize.metadata import read_description, write_stream_model
from earshot.quantize.ranges import tie

from .harness import Kernels


@pytest.fixture(scope="session")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Kernels:
    return Kernels(tmp_path_factory.mktemp("kernels"))


@pytest.fixture(scope="session")
def unet(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, object]:
    """The quickstart's network at a fifth of its width, with random weights: float file and ranges."""
    torch.manual_seed(0)
    params = DaeUnetParams(channels=(6, 8), strides=(8, 4), latent=12, hidden=12)
    model: StreamingModel = DaeUnet(Frontend(rate=16000), params).eval()
    features = torch.rand(2, 1, 20, 257) ** 0.3 * torch.rand(2, 1, 20, 1)
    path = tmp_path_factory.mktemp("unet") / "float32.tflite"
    export_float(model, path)
    return path, tie(read_graph(path), calibrate(path, features))


@pytest.fixture(scope="session")
def mobile(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, object]:
    """A small full-band mobile UNet, whose running norms have states and operators of 16 bits in its int8 file."""
    torch.manual_seed(0)
    sizes = {"channels": [4, 6], "strides": [4, 2], "hidden": 6, "mask_hidden": 4}
    model = build("mobile_unet", Frontend(window=64, hop=32, fft=64), sizes).eval()
    features = torch.rand(2, 1, 40, 33) ** 0.3 * torch.rand(2, 1, 40, 1)
    path = tmp_path_factory.mktemp("mobile") / "float32.tflite"
    export_float(model, path)
    return path, tie(read_graph(path), calibrate(path, features))


@pytest.fixture(scope="session")
def integer_model(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, str], Path]:
    """(network, precision) -> its .tflite, made once."""
    made: dict[tuple[str, str], Path] = {}

    def make(network: str, precision: str) -> Path:
        if (network, precision) not in made:
            found = request.getfixturevalue(network)
            source, plan = found if isinstance(found, tuple) else (found.path, found.plan)
            content = quantize_graph(source, plan, precision)
            path = tmp_path_factory.mktemp(f"{network}_{precision}") / f"{network}.{precision}.tflite"
            description = read_description(source).for_graph(read_graph(content), precision)
            write_stream_model(path, content, description)
            made[network, precision] = path
        return made[network, precision]

    return make
