"""Small networks that hold every trap of the conversion, exported once a session."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from earshot.core.config import Config
from earshot.models.frontend import Frontend
from earshot.models.streaming import State, StreamingModel, Trace
from earshot.quantize.calibration import calibrate
from earshot.quantize.export import export_float
from earshot.quantize.graph import Graph, read_graph
from earshot.quantize.ranges import RangePlan, tie

FRONTEND = Frontend(rate=16000, window=64, hop=32, fft=64)
torch.set_num_threads(1)


class Params(Config):
    channels: int = 4
    hidden: int = 6
    leaky: bool = False
    faulty_upsampling: bool = False


class LookbackNet(StreamingModel):
    """Looks back on the frame itself (state = input) and on what it computes on; its memory is a tanh's output."""

    Params = Params

    def __init__(self, frontend: Frontend, params: Params) -> None:
        super().__init__(frontend, params)
        self.bins = (frontend.bins - 1) // 2 + 1
        self.down = nn.Conv2d(1, params.channels, (2, 3), stride=(1, 2), padding=(0, 1))
        self.deep = nn.Conv2d(params.channels, params.channels, (2, 3), padding=(0, 1), groups=params.channels)
        self.into = nn.Linear(params.channels * self.bins, params.hidden)
        self.again = nn.Linear(params.hidden, params.hidden)
        self.back = nn.Linear(params.hidden, params.channels * self.bins)
        wide = params.channels
        padding = (0, 1) if params.faulty_upsampling else (0, 0)
        self.up = nn.ConvTranspose2d(wide, wide, (1, 3), (1, 2), padding)
        self.mask = nn.Conv2d(wide, 1, 1)

    def initial_state(self, batch: int = 1) -> State:
        return {
            "seen": torch.zeros(batch, 1, 1, self.frontend.bins),
            "held": torch.zeros(batch, self.params.channels, 1, self.bins),
            "memory": torch.zeros(batch, self.params.hidden),
        }

    def step(self, frame: Tensor, state: State) -> tuple[Tensor, State]:
        held = torch.relu(self.down(torch.cat([state["seen"], frame], 2)))
        low = held + self.deep(torch.cat([state["held"], held], 2))
        if self.params.leaky:
            low = functional.leaky_relu(low - 0.5, 0.1)
        memory = torch.tanh(self.into(low.flatten(1)) + self.again(state["memory"]))
        high = self.up(low + torch.relu(self.back(memory)).reshape(low.shape))
        if not self.params.faulty_upsampling:
            high = torch.relu(high[..., 1:-1])
        return torch.sigmoid(self.mask(high)), {"seen": frame, "held": held, "memory": memory}

    def trace(self, sequence: Tensor) -> Trace:
        mask = self.stream(sequence)
        return Trace(mask, mask[:, 0], ())

    def prepare_for_export(self) -> LookbackNet:
        return copy.deepcopy(self).eval()


class GatedNet(StreamingModel):
    """Gates, maxima, means: what other networks may bring; `older` leaves as `level` came in."""

    Params = Params

    def __init__(self, frontend: Frontend, params: Params) -> None:
        super().__init__(frontend, params)
        wide = params.channels
        self.wide = nn.Conv2d(1, 2 * wide, (3, 5), padding=(0, 2))
        self.deep = nn.Conv2d(wide, 2 * wide, (1, 3), padding=(0, 1), groups=wide)
        self.slope = nn.PReLU(2 * wide)
        self.mask = nn.Conv2d(2 * wide, 1, 1)

    def initial_state(self, batch: int = 1) -> State:
        quiet = torch.zeros(batch, self.params.channels)
        return {"past": torch.zeros(batch, 1, 2, self.frontend.bins), **dict.fromkeys(("level", "older"), quiet)}

    def step(self, frame: Tensor, state: State) -> tuple[Tensor, State]:
        seen = torch.cat([state["past"], frame], 2)
        left, right = self.wide(seen).chunk(2, 1)
        gated = torch.maximum(left, 0.1 * left) * torch.sigmoid(right)
        level = 0.8 * state["level"] + 0.1 * state["older"] + 0.1 * gated.mean((2, 3))
        rich = self.slope(self.deep(gated - level[:, :, None, None]))
        following = {"past": seen[:, :, 1:], "level": level, "older": state["level"]}
        return torch.sigmoid(self.mask(functional.relu6(rich))), following

    def trace(self, sequence: Tensor) -> Trace:
        mask = self.stream(sequence)
        return Trace(mask, mask[:, 0], ())

    def prepare_for_export(self) -> GatedNet:
        return copy.deepcopy(self).eval()


def settled(kind: type[StreamingModel], seed: int, **params: object) -> StreamingModel:
    """A random network."""
    torch.manual_seed(seed)
    model = kind(FRONTEND, kind.Params(**params))
    # A mask that moves over its whole range, so that an error anywhere shows in it.
    with torch.no_grad():
        model.mask.weight.mul_(12)
    return model.eval()


@dataclass(frozen=True)
class Exported:
    """A network, its float file, and what calibration found."""

    model: StreamingModel
    path: Path
    graph: Graph
    measured: dict
    plan: RangePlan


def export(model: StreamingModel, folder: Path, features: Tensor) -> Exported:
    path = folder / "float32.tflite"
    export_float(model, path)
    graph, measured = read_graph(path), calibrate(path, features)
    return Exported(model, path, graph, measured, tie(graph, measured))


@pytest.fixture(scope="session")
def features() -> Tensor:
    """Correlated positive features, `[3, 1, 40, 33]`, silence at the start of the last clip."""
    generator = torch.Generator().manual_seed(7)
    level = torch.rand(3, 1, 40, 1, generator=generator)
    values = level * torch.rand(3, 1, 40, FRONTEND.bins, generator=generator) ** 0.3
    values[2, :, :10] = 0
    return values


@pytest.fixture(scope="session")
def lookback(tmp_path_factory: pytest.TempPathFactory, features: Tensor) -> Exported:
    return export(settled(LookbackNet, 0), tmp_path_factory.mktemp("lookback"), features)


@pytest.fixture(scope="session")
def leaky(tmp_path_factory: pytest.TempPathFactory, features: Tensor) -> Exported:
    return export(settled(LookbackNet, 1, leaky=True, channels=3), tmp_path_factory.mktemp("leaky"), features)


@pytest.fixture(scope="session")
def gated(tmp_path_factory: pytest.TempPathFactory, features: Tensor) -> Exported:
    return export(settled(GatedNet, 2), tmp_path_factory.mktemp("gated"), features)


@pytest.fixture(scope="session")
def faulty() -> StreamingModel:
    """Transposed convolution with kernel 3, stride 2, padding 1: converts, but to another network."""
    return settled(LookbackNet, 3, faulty_upsampling=True)


@pytest.fixture(params=["lookback", "leaky", "gated"])
def network(request: pytest.FixtureRequest) -> Exported:
    """Each of the networks in turn."""
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session")
def frames(features: Tensor) -> np.ndarray:
    return features.numpy()
