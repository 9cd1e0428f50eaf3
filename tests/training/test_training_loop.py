"""The training loop on tiny networks: it learns, repeats itself bit for bit, stops, and resumes after a kill."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tiny_training as tiny
import torch

from earshot.core.errors import ModelError, ToolError, UsageError
from earshot.models.frontend import Frontend
from earshot.models.registry import build
from earshot.pipeline.data.base import EvalPair
from earshot.pipeline.training.denormals import denormals_flushed
from earshot.pipeline.training.losses import task_loss


class SameBatch(tiny.Tones):
    """Draws one batch for ever."""

    def batch(self, step: int, size: int) -> tuple[tiny.Audio, tiny.Audio]:
        return super().batch(0, size)


def test_the_loss_falls_on_a_task_it_can_overfit(tmp_path: Path) -> None:
    trained = tiny.run(tmp_path, tiny.settings(epochs=4, steps_per_epoch=40, learning_rate=0.02), sampler=SameBatch())
    losses = [curve.train_loss for curve in trained.curves]
    assert losses[-1] < 0.5 * losses[0], losses
    assert not trained.model.training
    still = tiny.run(tmp_path / "still", tiny.settings(epochs=4, learning_rate=1e-9), sampler=SameBatch())
    assert still.curves[-1].train_loss > 0.9 * still.curves[0].train_loss, "the loss falls without learning"


def test_a_seed_decides_every_bit(tmp_path: Path) -> None:
    first, second, other = (tiny.run(tmp_path / name, tiny.settings(), int(name[0])) for name in ("1", "1 again", "2"))
    assert tiny.digest(first.model) == tiny.digest(second.model)
    assert first.curves == second.curves
    assert tiny.digest(first.model) != tiny.digest(other.model)
    dropped = tiny.run(tmp_path / "d", tiny.settings(clip=1e-3), 1)
    assert tiny.digest(dropped.model) != tiny.digest(first.model)


def test_progress_counts_every_step(tmp_path: Path) -> None:
    told = tiny.Told()
    tiny.run(tmp_path, tiny.settings(), progress=told)
    assert (told.total, told.steps) == (10, 10)
    assert "validation loss" in told.notes[-1]


@dataclass(frozen=True)
class Untouched(tiny.MadePair):
    """Wants its noise kept: what a network that learns to be silent gets worse at."""

    def load(self) -> tuple[tiny.Audio, tiny.Audio]:
        return (sound := super().load()[1]), sound


class Silence(tiny.Tones):
    def batch(self, step: int, size: int) -> tuple[tiny.Audio, tiny.Audio]:
        noisy = super().batch(step, size)[1]
        return np.zeros_like(noisy), noisy


def test_training_stops_when_validation_gets_no_better_and_returns_the_best_weights(tmp_path: Path) -> None:
    pair = EvalPair("kept", "tones", None, Untouched(7))
    config = tiny.settings(epochs=50, patience=2, learning_rate=0.05)
    trained = tiny.run(tmp_path, config, sampler=Silence(), validation=[pair])
    best = [curve.epoch for curve in trained.curves if curve.best][-1]
    assert len(trained.curves) == best + 1 + config.patience < 50
    scores = [curve.validation_loss for curve in trained.curves]
    assert scores[best] == min(scores) < scores[-1]
    noisy = torch.from_numpy(pair.load()[1])[None]
    with torch.no_grad():
        analysed = tiny.FRONTEND.analyse(noisy)
        masked = tiny.FRONTEND.enhanced_spectrum(analysed, trained.model(analysed.sequence))
        assert float(task_loss(config.loss, tiny.FRONTEND, masked, noisy)) == pytest.approx(min(scores), rel=1e-5)


class TurnsNaN(tiny.Tones):
    def batch(self, step: int, size: int) -> tuple[tiny.Audio, tiny.Audio]:
        clean, noisy = super().batch(step, size)
        return clean, noisy * (np.nan if step == 7 else 1)


def test_a_loss_that_is_not_a_number_stops_training(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="loss became nan at step 7") as caught:
        tiny.run(tmp_path, tiny.settings(), sampler=TurnsNaN())
    assert "learning_rate" in str(caught.value.hint)


@dataclass(frozen=True)
class NeverFinite(tiny.MadePair):
    def load(self) -> tuple[tiny.Audio, tiny.Audio]:
        clean, noisy = super().load()
        return clean * np.float32(np.nan), noisy


def test_validation_that_is_never_finite_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="finite validation loss"):
        tiny.run(tmp_path, tiny.settings(), validation=[EvalPair("nan", "tones", None, NeverFinite(1))])


def test_gradients_reach_the_student_only(tmp_path: Path) -> None:
    student, teacher = tiny.network(1), tiny.network(2, hidden=6).train()
    before, untrained = tiny.digest(teacher), tiny.digest(student)
    for method in ("output", "latent_cosine"):
        trained = tiny.run(tmp_path / method, tiny.settings(method=method), model=student, teacher=teacher)
        assert tiny.digest(teacher) == before
        assert not teacher.training
        assert all(parameter.grad is None for parameter in teacher.parameters())
        assert tiny.digest(trained.model) != untrained
        assert sum(float(parameter.grad.abs().sum()) for parameter in student.parameters()) > 0
        assert trained.model.state_dict().keys() == tiny.network().state_dict().keys(), "the projection stayed"


def test_a_teacher_counts_by_its_weight(tmp_path: Path) -> None:
    """Without weight, or without a method, a teacher changes nothing; with weight it does."""
    teacher = tiny.network(9)
    alone = tiny.digest(tiny.run(tmp_path / "alone", tiny.settings()).model)
    ways = {"none": 1.0, "output": 0.0, "latent_cosine": 1.0}
    taught = {
        method: tiny.digest(
            tiny.run(tmp_path / method, tiny.settings(method=method, weight=weight), teacher=teacher).model
        )
        for method, weight in ways.items()
    }
    assert taught["none"] == alone
    assert taught["output"] == alone
    assert taught["latent_cosine"] != alone


@pytest.mark.parametrize("way", [{"two_step": 0.5}, {"only_where_better": True}])
def test_how_a_teacher_teaches_changes_what_is_learnt(tmp_path: Path, way: dict) -> None:
    teacher, usual = tiny.network(9), {"method": "output", "weight": 5.0}
    plain = tiny.run(tmp_path / "plain", tiny.settings(**usual), teacher=teacher)
    changed = tiny.run(tmp_path / "changed", tiny.settings(**usual, **way), teacher=teacher)
    assert tiny.digest(plain.model) != tiny.digest(changed.model)


def test_a_teacher_of_another_family_and_frame_rate_teaches(tmp_path: Path) -> None:
    """On samples, half as often, and deeper: waveforms are what both have in common, and frames are pooled."""
    teacher = build("rt_senet", Frontend(kind="wave", hop=64), {"channels": [3, 4], "strides": [4, 4]})
    alone = tiny.digest(tiny.run(tmp_path / "alone", tiny.settings()).model)
    for method in ("output", "output_waveform", "latent_cosine", "cnnc", "similarity"):
        trained = tiny.run(tmp_path / method, tiny.settings(method=method, weight=2.0), teacher=teacher)
        assert tiny.digest(trained.model) != alone


def test_training_leaves_small_numbers_as_it_found_them(tmp_path: Path) -> None:
    """A library that flushes denormals for good changes the arithmetic of whoever called it."""
    smallest = torch.tensor(1e-42)

    before = bool(smallest * 1 > 0)
    tiny.run(tmp_path, tiny.settings())
    with denormals_flushed():
        assert not bool(smallest * 1 > 0)
    assert bool(smallest * 1 > 0) is before is True


def test_a_student_on_samples_trains(tmp_path: Path) -> None:
    student = build("rt_senet", Frontend(kind="wave", hop=64), {"channels": [4, 6], "strides": [4, 4]})
    trained = tiny.run(tmp_path, tiny.settings(epochs=6, learning_rate=0.01), model=student)
    assert trained.curves[-1].validation_loss < trained.curves[0].validation_loss


def test_a_teacher_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    other = Frontend(rate=8000, window=64, hop=32, fft=64)
    with pytest.raises(ModelError, match="8000 and 16000 Hz"):
        tiny.run(tmp_path, tiny.settings(method="output"), teacher=build("dae_unet", other, tiny.SIZES))
    with pytest.raises(ModelError, match="'latent_cosine' needs a teacher"):
        tiny.run(tmp_path, tiny.settings(method="latent_cosine"))
    assert not list(tmp_path.iterdir())


def test_curves_go_to_tensorboard(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="the extra `tensorboard` is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trained = tiny.run(tmp_path, tiny.settings(log="tensorboard"))
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    logged = {name: [event.value for event in events.Scalars(name)] for name in ("loss/train", "loss/validation")}
    assert logged["loss/train"] == pytest.approx([curve.train_loss for curve in trained.curves])
    assert logged["loss/validation"] == pytest.approx([curve.validation_loss for curve in trained.curves])


def test_a_logger_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(UsageError, match="mlflow is not installed"):
        tiny.run(tmp_path, tiny.settings(log="mlflow"))


class Bomb:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple:
        return Path.touch, (self.target,)


class Interrupted(Exception):
    """Stands for a kill, in this process."""


class Interrupting(tiny.Tones):
    def batch(self, step: int, size: int) -> tuple[tiny.Audio, tiny.Audio]:
        if step >= 8:
            raise Interrupted
        return super().batch(step, size)


def sealed(content: bytes) -> bytes:
    """As a snapshot is written: its digest first."""
    return hashlib.sha256(content).digest() + content


def opened(path: Path) -> dict:
    saved = path.read_bytes()[hashlib.sha256().digest_size :]
    return torch.load(io.BytesIO(saved), weights_only=True)


def test_a_damaged_snapshot_is_dropped_and_training_starts_over(tmp_path: Path) -> None:
    whole = tiny.digest(tiny.run(tmp_path / "whole", tiny.settings()).model)
    with pytest.raises(Interrupted):
        tiny.run(tmp_path / "cut", tiny.settings(), sampler=Interrupting())
    snapshot = (tmp_path / "cut" / "last.pt").read_bytes()
    middle = len(snapshot) // 2
    contents = {
        "intact": snapshot,
        "truncated": snapshot[:middle],
        "empty": b"",
        "flipped": snapshot[:middle] + bytes([snapshot[middle] ^ 0xFF]) + snapshot[middle + 1 :],
        "pickle": sealed(pickle.dumps(Bomb(tmp_path / "boom"))),
    }
    for name, content in contents.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "last.pt").write_bytes(content)
        told = tiny.Told()
        assert tiny.digest(tiny.run(tmp_path / name, tiny.settings(), progress=told).model) == whole, name
        assert ("resumed" in told.notes) == (name == "intact")
    assert not (tmp_path / "boom").exists()


def test_an_epoch_without_a_finite_validation_loss_does_not_bar_the_next(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        tiny.run(tmp_path, tiny.settings(), sampler=Interrupting())
    snapshot = opened(tmp_path / "last.pt")
    snapshot["curves"][0] |= {"validation_loss": float("nan"), "best": False}
    changed = io.BytesIO()
    torch.save(snapshot | {"best_weights": None}, changed)
    (tmp_path / "last.pt").write_bytes(sealed(changed.getvalue()))
    assert [curve.best for curve in tiny.run(tmp_path, tiny.settings()).curves] == [False, True]


def start(work: Path, *how: str, **changes: object) -> subprocess.Popen[str]:
    command = [sys.executable, tiny.__file__, str(work), json.dumps(changes), *how]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def outcome(process: subprocess.Popen[str]) -> dict:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return json.loads(out.splitlines()[-1])


@pytest.mark.slow
def test_a_training_that_was_killed_ends_with_the_same_weights(tmp_path: Path) -> None:
    task = {"epochs": 6, "steps_per_epoch": 40, "launcher": {"threads": 1}}
    whole = outcome(start(tmp_path / "whole", **task))
    assert not whole["resumed"]
    dice, epochs_seen, snapshot = random.Random(0), 0, tmp_path / "killed" / "last.pt"
    for _ in range(2):
        written = snapshot.stat().st_mtime_ns if snapshot.exists() else 0
        process = start(tmp_path / "killed", **task)
        deadline = time.monotonic() + 60
        while not (snapshot.exists() and snapshot.stat().st_mtime_ns > written) and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(dice.uniform(0, 0.1))
        os.kill(process.pid, signal.SIGKILL)
        out, _ = process.communicate()
        assert process.returncode == -signal.SIGKILL, f"it ended before it was killed: {out}"
        epochs = len(opened(snapshot)["curves"])
        assert epochs_seen < epochs < 6
        epochs_seen = epochs
    resumed = outcome(start(tmp_path / "killed", **task))
    assert resumed["resumed"]
    assert resumed["steps"] == [240, 240]
    assert resumed["digest"] == whole["digest"]
    assert resumed["curves"] == whole["curves"]


@pytest.mark.slow
def test_two_processes_train_one_network_on_batches_of_their_own(tmp_path: Path) -> None:
    task = {"epochs": 2, "steps_per_epoch": 6, "launcher": {"devices": 2, "threads": 1, "accelerator": "cpu"}}
    found = outcome(start(tmp_path, **task))
    assert [np.isfinite([curve["train_loss"], curve["validation_loss"]]).all() for curve in found["curves"]] == [
        True
    ] * 2
    assert found["steps"] == [12, 12]
    drawn: dict[str, set[int]] = {}
    for path in (tmp_path / "drawn").iterdir():
        step, process = path.name.split(".")
        drawn.setdefault(process, set()).add(int(step))
    assert sorted(drawn.values(), key=min) == [set(range(0, 24, 2)), set(range(1, 24, 2))]
