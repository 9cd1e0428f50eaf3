"""Operators that the quantizer does not know become integer all the same, and keep their names."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from earshot.models.frontend import Frontend
from earshot.models.streaming import State, StreamingModel, Trace
from earshot.quantize import integer
from earshot.quantize.graph import read_graph
from earshot.quantize.metadata import description_of, write_stream_model
from earshot.quantize.parity import integer_parity
from earshot.quantize.precision import float_operators, precision_report
from earshot.quantize.stand_ins import STAND_INS

from .conftest import FRONTEND, Exported, Params, export


class MirrorNet(StreamingModel):
    """A logarithm, a bound from above, and bins from the last to the first."""

    Params = Params

    def __init__(self, frontend: Frontend, params: Params) -> None:
        super().__init__(frontend, params)
        self.deep = nn.Conv2d(1, params.channels, (1, 3), padding=(0, 1))
        self.mask = nn.Conv2d(params.channels, 1, 1)

    def initial_state(self, batch: int = 1) -> State:
        return {"past": torch.zeros(batch, 1, 1, self.frontend.bins)}

    def step(self, frame: Tensor, state: State) -> tuple[Tensor, State]:
        deep = torch.log(torch.relu(self.deep(frame + state["past"])) + 0.5)
        bounded = torch.clamp_max(deep, 0.4)
        return torch.sigmoid(self.mask(bounded + bounded.flip(3))), {"past": frame}

    def trace(self, sequence: Tensor) -> Trace:
        mask = self.stream(sequence)
        return Trace(mask, mask[:, 0], ())

    def prepare_for_export(self) -> MirrorNet:
        return copy.deepcopy(self).eval()


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory, features: Tensor) -> Exported:
    torch.manual_seed(5)
    return export(MirrorNet(FRONTEND, Params()).eval(), tmp_path_factory.mktemp("mirror"), features)


def test_all_of_them_are_integer_and_right(mirror, features, tmp_path):
    assert {operator.name for operator in mirror.graph.operators} >= STAND_INS.keys()
    content = integer.quantize_graph(mirror.path, mirror.plan, "int8")
    graph = read_graph(content)
    assert float_operators(precision_report(graph, "int8")) == ()
    names = [operator.name for operator in graph.operators]
    assert all(names.count(name) == [one.name for one in mirror.graph.operators].count(name) for name in STAND_INS)
    path = tmp_path / "model.tflite"
    write_stream_model(path, content, description_of(mirror.graph).for_graph(graph, "int8"))
    parity = integer_parity(path, mirror.path, features, 0.3)
    assert parity.unavailable is None and parity.max_lsb <= 2 and parity.float_snr_db > 25


def test_without_stand_ins_they_are_float(mirror, monkeypatch):
    """The negative control: what the quantizer does by itself."""
    monkeypatch.setattr(integer, "disguise", lambda content, graph: content)
    lines = float_operators(
        precision_report(read_graph(integer.quantize_graph(mirror.path, mirror.plan, "int8")), "int8")
    )
    assert {line.operator for line in lines} == STAND_INS.keys()


def test_logarithms_of_16_bits_stay_float_with_what_keeps_them_from_zero(mirror):
    graph = read_graph(integer.quantize_graph(mirror.path, mirror.plan, "int16x8"))
    lines = float_operators(precision_report(graph, "int16x8"))
    assert [line.operator for line in lines] == ["ADD", "LOG"]
    assert all("straight lines" in line.reason for line in lines)
