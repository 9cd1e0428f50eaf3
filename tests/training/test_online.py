"""Online multi-metric distillation: losses by hand, gradients, real metrics learnt, resumption after a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import tiny_online as online
import tiny_training as tiny
import torch
from pydantic import ValidationError

from earshot.core.errors import ModelError, ToolError, UsageError
from earshot.models.frontend import Frontend
from earshot.models.metric_discriminator import MetricDiscriminator
from earshot.models.streaming import StreamingModel
from earshot.pipeline.data.config import DataConfig
from earshot.pipeline.data.open import open_data
from earshot.pipeline.training.config import OnlineConfig
from earshot.pipeline.training.metric_targets import open_scorer
from earshot.pipeline.training.online import _Training, discriminator_loss, student_loss, train_online

NAN = float("nan")


def test_a_students_loss_is_that_of_hand_arithmetic() -> None:
    score = torch.tensor([0.5, 0.0])  # (0.25 + 1) / 2 = 0.625
    own = torch.tensor([[[1.0, 2.0]], [[3.0, 4.0]]], requires_grad=True)
    second = torch.tensor([[[1.0, 0.0]], [[3.0, 4.0]]], requires_grad=True)  # 4 / 4 = 1
    third = torch.tensor([[[0.0, 2.0]], [[3.0, 2.0]]])  # (1 + 4) / 4 = 1.25
    assert float(student_loss(score, own, [], 5.0)) == pytest.approx(0.625)
    assert float(student_loss(score, own, [second], 5.0).detach()) == pytest.approx(0.625 + 5)
    loss = student_loss(score, own, [second, third], 5.0)
    assert float(loss.detach()) == pytest.approx(0.625 + 5 + 6.25)
    loss.backward()
    assert second.grad is None, "another student was moved"
    # d/d own of 5 mean (own - other)²: 5 * 2 / 4 * difference
    assert torch.allclose(own.grad, 2.5 * ((own - second) + (own - third)).detach())


def test_the_discriminators_loss_leaves_out_what_is_unknown() -> None:
    scores = torch.tensor([[0.5, 0.25], [1.0, 3.0]], requires_grad=True)
    targets = torch.tensor([[1.0, 0.25], [0.0, NAN]])
    loss = discriminator_loss(scores, targets)
    assert float(loss.detach()) == pytest.approx((0.25 + 0 + 1) / 3)
    loss.backward()
    assert torch.allclose(scores.grad, torch.tensor([[-1.0, 0.0], [2.0, 0.0]]) / 3)
    assert float(discriminator_loss(scores.detach(), torch.full((2, 2), NAN))) == 0


def test_a_discriminator_learns_real_pesq() -> None:
    """Of eight clips at four levels of real noise: the ranks and the values that the reference library gives."""
    pairs = [pair.load() for pair in open_data(DataConfig(), 16000).validation[:2]]
    length = 16000
    clean = [reference[:length] for reference, _ in pairs for _ in range(4)]
    judged = [
        reference[:length] + gain * (noisy - reference)[:length]
        for reference, noisy in pairs
        for gain in (0.0, 0.1, 0.4, 1.5)
    ]
    with open_scorer(16000) as scorer:
        targets = torch.from_numpy(scorer.score(["pesq_wb"], clean, judged).values)
    frontend = Frontend(window=256, hop=128, fft=256)
    signals = [torch.from_numpy(np.stack(sounds)) for sounds in (clean, judged)]
    spectra = [frontend.spectrum(signal).abs().log1p()[:, ::4, ::2] for signal in signals]  # enough to tell, and quick
    torch.manual_seed(0)
    judge = MetricDiscriminator(1, (4, 8))
    optimiser = torch.optim.Adam(judge.parameters(), lr=1e-2)
    losses = []
    for _ in range(200):
        loss = discriminator_loss(judge(*spectra), targets)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    spread = float(targets.var(unbiased=False))  # what predicting the mean would leave
    assert np.mean(losses[-10:]) < 0.5 * spread < np.mean(losses[:3])
    with torch.no_grad():
        found = judge(*spectra)
    for first in (0, 4):
        predicted, real = found[first : first + 4, 0], targets[first : first + 4, 0]
        assert (real.diff() < 0).all(), "more noise has to score less"
        assert (predicted.diff() < 0).all(), predicted


def gradients(module: torch.nn.Module) -> float:
    return sum(float(one.grad.abs().sum()) for one in module.parameters() if one.grad is not None)


def test_every_student_learns_and_one_of_the_same_class_stays(tmp_path: Path) -> None:
    config = online.settings(online={"student": online.TWO[1], "history": 0.5})
    networks = online.students(config)
    before = [tiny.digest(network) for network in networks]
    trained = online.run(tmp_path, config, students=networks)
    assert trained.model is networks[1] and type(trained.model) is type(networks[0])
    assert trained.model.state_dict().keys() == tiny.network().state_dict().keys()
    assert not trained.model.training
    assert tiny.digest(networks[0]) != before[0]
    assert all(gradients(network) > 0 for network in networks)
    assert len(trained.curves) == 3
    assert sorted(path.name for path in (tmp_path / "replay").iterdir()) == ["0.clips", "1.clips", "2.clips"]
    weights = trained.model.state_dict()
    assert all(torch.isfinite(tensor).all() for tensor in weights.values())


def test_students_learn_from_the_discriminator_and_from_each_other(tmp_path: Path) -> None:
    """Each part of the loss changes what is learnt; without another student there is nothing to be near to."""
    ways: dict[str, dict[str, Any]] = {
        "both": {},
        "again": {},
        "apart": {"distillation": 0},
        "task": {"task": 1.0},
        "no history": {"history": 0},
    }
    found = {}
    for name, way in ways.items():
        config = online.settings(online=way, learning_rate=0.01, warmup_steps=0)
        networks = online.students(config)
        online.run(tmp_path / name, config, students=networks)
        found[name] = tiny.digest(networks[1])  # it has its last weights, the first its best ones
    assert found["both"] == found["again"], "a seed does not decide every bit"
    assert len(set(found.values())) == 4, found


class Asked:
    """Remembers which steps were asked for."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def batch(self, step: int, size: int) -> tuple[tiny.Audio, tiny.Audio]:
        self.asked.append(step)
        return tiny.Tones().batch(step, size)


def test_the_discriminator_sees_only_the_scored_batches(tmp_path: Path) -> None:
    found = {}
    for name, scored in (("all", {}), ("named", {"scored": 3}), ("two", {"scored": 2})):
        sampler, config = Asked(), online.settings(online={"history": 0.5, **scored})
        networks = online.students(config)
        online.run(tmp_path / name, config, sampler=sampler, students=networks)
        clips = {
            len(safetensors.torch.load((tmp_path / name / "replay" / f"{epoch}.clips").read_bytes()[32:])["targets"])
            for epoch in range(3)
        }
        found[name] = (clips, sampler.asked, tiny.digest(networks[1]))  # its last weights
    assert found["all"] == found["named"], "all of an epoch's batches are what goes without saying"
    clips, asked, digest = found["two"]
    assert clips == {2 * 2} and found["all"][0] == {3 * 2}
    # The first epoch is the discriminator's; in the others the students train on all batches.
    assert asked == [0, 1, 3, 4, 5, 3, 4, 6, 7, 8, 6, 7]
    assert digest != found["all"][2]


def test_settings_from_before_a_key_existed_are_written_alike() -> None:
    """Identities of artifacts stand on them."""
    known = set(OnlineConfig.model_fields) - {"scored", "alone"}
    assert set(OnlineConfig().model_dump(mode="json")) == known
    used = OnlineConfig(scored=2, alone=1, task=1.0)
    assert OnlineConfig.model_validate(used.model_dump(mode="json")) == used
    assert set(used.model_dump(mode="json")) == {*known, "scored", "alone"}


def test_students_left_alone_at_first_follow_the_task_and_nothing_is_scored(tmp_path: Path) -> None:
    def losses(folder: str, alone: int, distillation: float) -> tuple[list[float], list[int]]:
        sampler = Asked()
        config = online.settings(online={"task": 1.0, "alone": alone, "distillation": distillation}, epochs=4)
        trained = online.run(tmp_path / folder, config, sampler=sampler)
        return [curve.train_loss for curve in trained.curves], sampler.asked

    near, asked = losses("near", 1, 5.0)
    apart, _ = losses("apart", 1, 0.0)
    assert near[:2] == apart[:2], "what the students are to each other changed what they did alone"
    assert near[2] != apart[2]
    assert losses("at once", 0, 5.0)[0][1] != near[1], "the check sees no discriminator"
    assert asked == [*range(3), *2 * [3, 4, 5], *2 * [6, 7, 8], *2 * [9, 10, 11]]
    assert sorted(path.name for path in (tmp_path / "near" / "replay").iterdir()) == ["1.clips", "2.clips", "3.clips"]


def scores_of_epochs(monkeypatch: pytest.MonkeyPatch, *losses: float) -> None:
    """What validation finds, epoch by epoch, whatever students have learnt."""
    found = iter(losses)
    monkeypatch.setattr(_Training, "_validate", lambda training, references: (next(found), {}))


@pytest.mark.parametrize(("alone", "best"), [(2, 3), (1, 2), (0, 1)])
def test_an_epoch_that_no_metric_taught_is_never_the_best(
    alone: int, best: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor are such epochs counted among those that patience is lost on."""
    scores_of_epochs(monkeypatch, 0.1, 0.2, 0.3, 0.5, 0.6, 0.4)
    config = online.settings(online={"task": 1.0, "alone": alone}, epochs=6, patience=2)
    trained = online.run(tmp_path, config)
    # Losses rise from the first that counts; patience is over before 0.4, but where 0.5 is the first.
    assert [curve.epoch for curve in trained.curves if curve.best] == ([3, 5] if alone == 2 else [best])
    assert len(trained.curves) == min(6, best + 3)


def test_an_interrupted_training_still_leaves_out_what_no_metric_taught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = online.settings(online={"task": 1.0, "alone": 1}, epochs=4)
    scores_of_epochs(monkeypatch, 0.1)

    class Stopped(tiny.Tones):
        def batch(self, step: int, size: int) -> tuple[tiny.Audio, tiny.Audio]:
            if step >= 3:
                raise KeyboardInterrupt
            return super().batch(step, size)

    with pytest.raises(KeyboardInterrupt):
        online.run(tmp_path, config, sampler=Stopped())
    scores_of_epochs(monkeypatch, 0.2, 0.4, 0.3)
    trained = online.run(tmp_path, config)
    assert [(curve.validation_loss, curve.best) for curve in trained.curves] == [
        (0.1, False),
        (0.2, False),
        (0.4, True),
        (0.3, True),
    ]


class Muffled(tiny.Tones):
    """The noise is small, and clips are 20 dB too quiet: louder is better, and only the second metric says so."""

    def batch(self, step: int, size: int) -> tuple[tiny.Audio, tiny.Audio]:
        clean, noisy = super().batch(step, size)
        return clean, (clean + 0.1 * (noisy - clean)) * np.float32(0.5)


def test_a_predicted_metric_alone_changes_the_real_one(tmp_path: Path) -> None:
    """No task loss: what moves the student is the discriminator, which has seen real scores only."""
    metric = online.TWO[1]
    config = online.settings(
        (metric,), {"learning_rate": 0.01}, epochs=8, steps_per_epoch=12, batch=4, learning_rate=0.01, warmup_steps=0
    )
    assert config.online is not None and config.online.task == 0
    trained = online.run(tmp_path, config)
    scores = [1 - curve.validation_loss for curve in trained.curves]
    assert max(scores) > scores[0] + 0.1, scores


class TurnsNaN(tiny.Tones):
    def batch(self, step: int, size: int) -> tuple[tiny.Audio, tiny.Audio]:
        clean, noisy = super().batch(step, size)
        return clean, noisy * (np.nan if step == 4 else 1)


def test_a_loss_that_is_not_a_number_stops_training(tmp_path: Path) -> None:
    with pytest.raises(
        ToolError, match=r"loss became nan \(the student's for tiny_online:LIKENESS\) at step 4"
    ) as caught:
        online.run(tmp_path, online.settings(), sampler=TurnsNaN())
    assert "learning_rate" in str(caught.value.hint)


def test_a_metric_that_scores_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="'tiny_online:NEVER' could score none of 6 training clips: it never does"):
        online.run(tmp_path, online.settings((online.TWO[0], "tiny_online:NEVER")))


def test_what_does_not_fit_is_refused_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no scale"):
        online.run(tmp_path, online.settings(("si_sdr",)))
    with pytest.raises(UsageError, match="needs data at 16000"):
        slow = [tiny.build("dae_unet", Frontend(rate=8000, window=64, hop=32, fft=64), tiny.SIZES)]
        online.run(tmp_path, online.settings(("pesq_wb",)), students=slow)
    with pytest.raises(ModelError, match="needs 17 frames and bins at least"):
        online.run(tmp_path, online.settings(online={"widths": (4, 4, 4, 4)}, segment_seconds=0.02))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"method": "output"}, "leave out method, or online"),
        ({"epochs": 1}, "first epoch"),
        ({"launcher": {"devices": 2}}, "one device"),
        ({"online": {"student": "stoi"}}, "student is one of the metrics"),
        ({"metrics": ("stoi", "stoi")}, "named twice"),
        ({"online": {"history": 1.5}}, "history"),
        ({"online": {"alone": 1}}, "set task above 0"),
        ({"online": {"alone": 2, "task": 1.0}}, "after 2 alone is the discriminator's: set epochs to 4"),
        ({"online": {"scored": 4}}, "online.scored: an epoch has 3 batches, not 4"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        online.settings(**changes)


def start(work: Path, **changes: Any) -> subprocess.Popen[str]:
    arguments = [sys.executable, str(Path(online.__file__)), str(work), json.dumps(changes)]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def outcome(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return json.loads(out)


def test_a_training_that_was_killed_ends_with_the_same_weights(tmp_path: Path) -> None:
    task = {"epochs": 6, "steps_per_epoch": 4, "online": {"history": 0.5}}
    whole = outcome(start(tmp_path / "whole", **task))
    assert not whole["resumed"]
    process = start(tmp_path / "killed", **task)
    snapshot, deadline = tmp_path / "killed" / "last.pt", time.monotonic() + 120
    while not snapshot.exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    out, _ = process.communicate()
    assert process.returncode == -signal.SIGKILL, f"it ended before it was killed: {out}"
    resumed = outcome(start(tmp_path / "killed", **task))
    assert resumed["resumed"]
    assert (resumed["digest"], resumed["curves"]) == (whole["digest"], whole["curves"])


def test_a_network_on_samples_can_be_a_student(tmp_path: Path) -> None:
    def wave(seed: int) -> StreamingModel:
        torch.manual_seed(seed)
        return tiny.build("rt_senet", Frontend(kind="wave", hop=64), {"channels": [4, 6], "strides": [4, 4]})

    config = online.settings(online={"widths": (4,)}, epochs=2)
    trained = train_online([wave(0), wave(1)], config, tiny.Tones(), tiny.VALIDATION, 0, tmp_path, tiny.Told())
    assert len(trained.curves) == 2 and trained.model.frontend.kind == "wave"
