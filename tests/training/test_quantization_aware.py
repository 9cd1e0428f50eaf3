"""The training loop on a network that rounds: nothing else changes, a teacher may help, a kill loses nothing."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import tiny_training as tiny
import torch
from test_training_loop import outcome, start
from torch import Tensor

from earshot.core.errors import ModelError
from earshot.models.frontend import Frontend
from earshot.models.registry import build
from earshot.models.streaming import StreamingModel
from earshot.quantize.training.model import FakeQuantized
from earshot.quantize.training.ranges import Rounding

WAVE = Frontend(kind="wave", hop=32)


def convolutions(seed: int = 0) -> StreamingModel:
    """Without recurrent layers, which round frame by frame and are fused otherwise."""
    torch.manual_seed(seed)
    return build("wave_unet", WAVE, {"channels": [4, 6], "strides": [4]})


def learnt(model: StreamingModel, work: Path, **given: object) -> str:
    """Digest of the weights that training `model` while it rounds leads to."""
    tiny.run(work, given.pop("config", tiny.settings()), model=tiny.rounding(model), **given)
    return tiny.digest(model)


def test_without_rounding_it_is_plain_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = tiny.digest(tiny.run(tmp_path / "plain", tiny.settings(), model=convolutions()).model)
    assert learnt(convolutions(), tmp_path / "rounding") != plain
    monkeypatch.setattr(Rounding, "settle", lambda self, values, index: values)
    monkeypatch.setattr(Rounding, "weights", lambda self, weights, rows: weights)
    assert learnt(convolutions(), tmp_path / "not rounding") == plain


def test_weights_that_rounding_hurts_come_to_fit_it(tmp_path: Path) -> None:
    """Rows with one huge weight leave a few integers to all others; what is validated is the rounded network."""
    model = tiny.network()
    with torch.no_grad():
        for part in model.encoder:
            part.expand.conv.weight[:, 0] *= 100
            part.project.conv.weight /= 100
    trained = tiny.run(tmp_path, tiny.settings(epochs=3, steps_per_epoch=6), model=tiny.rounding(model))
    losses = [curve.validation_loss for curve in trained.curves]
    assert min(losses) < losses[0]
    assert isinstance(trained.model, FakeQuantized)
    assert trained.model.network is model


def test_a_teacher_teaches_and_neither_learns_nor_rounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = tiny.network(2, hidden=6).train()
    before, rounded = tiny.digest(teacher), []
    weights = Rounding.weights

    def watched(self: Rounding, values: Tensor, rows: tuple[int, ...]) -> Tensor:
        rounded.append(tuple(values.shape))
        return weights(self, values, rows)

    monkeypatch.setattr(Rounding, "weights", watched)
    alone = learnt(tiny.network(1), tmp_path / "alone")
    seen = set(rounded)
    taught = learnt(tiny.network(1), tmp_path / "taught", config=tiny.settings(method="output"), teacher=teacher)
    assert taught != alone
    assert set(rounded) == seen, "a layer of the teacher's was rounded"
    assert tiny.digest(teacher) == before
    assert not teacher.training
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_methods_that_compare_layers_see_those_of_the_network(tmp_path: Path) -> None:
    teacher = tiny.network(2, hidden=6, channels=[6])
    config = tiny.settings(method="latent_cosine", epochs=1)
    assert learnt(tiny.network(1), tmp_path, config=config, teacher=teacher) != tiny.digest(tiny.network(1))


def test_a_method_without_its_teacher_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="'output' needs a teacher"):
        learnt(tiny.network(), tmp_path, config=tiny.settings(method="output"))


class Interrupted(Exception):
    """Stands for a kill, in this process."""


class Interrupting(tiny.Tones):
    def batch(self, step: int, size: int) -> tuple[tiny.Audio, tiny.Audio]:
        if step >= 8:
            raise Interrupted
        return super().batch(step, size)


def test_a_training_that_was_cut_off_ends_with_the_same_weights_and_ranges(tmp_path: Path) -> None:
    whole, model = tiny.network(), tiny.network()
    undisturbed = tiny.rounding(whole)
    tiny.run(tmp_path / "whole", tiny.settings(), model=undisturbed)
    with pytest.raises(Interrupted):
        tiny.run(tmp_path / "cut", tiny.settings(), model=tiny.rounding(model), sampler=Interrupting())
    again, told = tiny.rounding(tiny.network()), tiny.Told()
    tiny.run(tmp_path / "cut", tiny.settings(), model=again, progress=told)
    assert "resumed" in told.notes
    assert tiny.digest(again) == tiny.digest(undisturbed)
    assert {"ranges.low", "ranges.high"} <= set(again.state_dict())


@pytest.mark.slow
def test_two_processes_train_one_network_that_rounds(tmp_path: Path) -> None:
    """Each on batches of its own; what comes back is the network, with what both have learnt, and its ranges."""
    task = {"epochs": 2, "steps_per_epoch": 3}
    launcher = {"threads": 1, "accelerator": "cpu", "devices": 2}
    found = outcome(start(tmp_path / "two", "rounding", **task, launcher=launcher))
    assert found["steps"] == [6, 6]
    drawn = sorted(int(path.name.split(".")[0]) for path in (tmp_path / "two" / "drawn").iterdir())
    assert drawn == list(range(12))
    assert all(np.isfinite([curve["train_loss"], curve["validation_loss"]]).all() for curve in found["curves"])
    alone, fresh = tiny.network(), tiny.network()
    tiny.run(tmp_path / "one", tiny.settings(**task), model=tiny.rounding(alone))
    assert len({tiny.digest(fresh), tiny.digest(alone), found["student"]}) == 3
    # The weights that came back and the ranges are those that were validated.
    snapshot = torch.load(io.BytesIO((tmp_path / "two" / "last.pt").read_bytes()[32:]), weights_only=True)
    best, before = tiny.rounding(fresh), tiny.rounding(tiny.network()).ranges.high
    best.load_state_dict(snapshot["best_weights"])
    assert (tiny.digest(best), tiny.digest(best.network)) == (found["digest"], found["student"])
    assert not torch.equal(best.ranges.high, before)
