"""Weights on disk: they come back bit for bit, and what is not a checkpoint is refused without being executed."""

from __future__ import annotations

import io
import json
import pickle
import struct
from pathlib import Path

import pytest
import safetensors.torch
import torch

from earshot.core.errors import EarshotError, ModelError
from earshot.models import checkpoint
from earshot.models.frontend import Frontend
from earshot.models.registry import build
from earshot.models.streaming import StreamingModel

FRONTEND = Frontend(window=64, hop=32, fft=64)
SIZES = {"channels": [4], "strides": [4], "latent": 4, "hidden": 4}


@pytest.fixture
def model() -> StreamingModel:
    torch.manual_seed(3)
    model = build("dae_unet", FRONTEND, SIZES)
    model.down[0].norm.running_mean.normal_()
    return model.eval()


@pytest.fixture
def saved(model: StreamingModel, tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    checkpoint.save(model, "dae_unet", path)
    return path


def same_weights(one: StreamingModel, other: StreamingModel) -> bool:
    left, right = one.state_dict(), other.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)


def test_a_round_trip_keeps_every_bit(model: StreamingModel, saved: Path, tmp_path: Path) -> None:
    loaded = checkpoint.load(saved)
    assert same_weights(loaded, model)
    assert (loaded.frontend, loaded.params) == (model.frontend, model.params)
    assert not loaded.training
    frames = torch.rand(1, 1, 5, FRONTEND.bins)
    assert torch.equal(loaded(frames), model(frames))
    again = tmp_path / "again.safetensors"
    checkpoint.save(loaded, "dae_unet", again)
    assert again.read_bytes() == saved.read_bytes()


def test_the_header_says_what_the_contract_says(saved: Path) -> None:
    size = struct.unpack("<Q", saved.read_bytes()[:8])[0]
    header = json.loads(saved.read_bytes()[8 : 8 + size])
    assert list(header["__metadata__"]) == ["earshot"]
    data = json.loads(header["__metadata__"]["earshot"])
    assert set(data) == {"schema", "network", "params", "frontend"}
    assert (data["schema"], data["network"]) == ("earshot.checkpoint/1", "dae_unet")
    found = checkpoint.describe(saved)
    assert found is not None
    assert (found.network, found.frontend, found.params["channels"]) == ("dae_unet", FRONTEND, [4])


def test_a_save_that_fails_keeps_the_old_file(model: StreamingModel, saved: Path) -> None:
    blocked = saved / "inside-a-file.safetensors"
    with pytest.raises(EarshotError, match=r"inside-a-file\.safetensors"):
        checkpoint.save(model, "dae_unet", blocked)
    assert same_weights(checkpoint.load(saved), model)


@pytest.mark.parametrize("keep", [0, 1, 7, 8, 9, 100, 400, -1])
def test_a_truncated_file_is_refused(saved: Path, keep: int) -> None:
    saved.write_bytes(saved.read_bytes()[:keep])
    with pytest.raises(ModelError, match=r"model\.safetensors"):
        checkpoint.load(saved)


@pytest.mark.parametrize(
    "content",
    [
        b"RIFF....WAVEfmt nothing of the kind",
        struct.pack("<Q", 2**62) + b"{}",
        struct.pack("<Q", 4) + b"[1]\n",
        struct.pack("<Q", 20) + b'{"__metadata__": 5}\n',
        struct.pack("<Q", 4) + b"{\xff}\n",
    ],
    ids=["sound", "endless", "list", "metadata", "bytes"],
)
def test_a_foreign_file_is_refused(saved: Path, content: bytes) -> None:
    saved.write_bytes(content)
    with pytest.raises(ModelError, match=r"model\.safetensors"):
        checkpoint.load(saved, network="dae_unet", params=SIZES, frontend=FRONTEND)


@pytest.mark.parametrize(
    "change",
    [
        {"schema": "earshot.checkpoint/9"},
        {"network": "no_such_net"},
        {"network": 7},
        {"params": {"chanels": [4]}},
        {"params": 5},
        {"params": {**SIZES, "latent": 8}},
        {"frontend": {"window": 100}},
        {"frontend": None},
        {"frontend": {"window": 512, "hop": 256, "fft": 512}},
    ],
    ids=str,
)
def test_a_description_that_does_not_fit_is_refused(model: StreamingModel, saved: Path, change: dict) -> None:
    found = checkpoint.describe(saved)
    assert found is not None
    data = {"schema": checkpoint.SCHEMA, "network": found.network, "params": found.params}
    data |= {"frontend": found.frontend.model_dump()} | change
    safetensors.torch.save_file(model.state_dict(), saved, {"earshot": json.dumps(data)})
    with pytest.raises(EarshotError) as caught:
        checkpoint.load(saved)
    assert caught.value.exit_code == 2
    assert "no_such_net" in caught.value.message or "model.safetensors" in caught.value.message


class Bomb:
    """A pickle that makes a file when it is loaded."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple:
        return Path.touch, (self.target,)


@pytest.mark.parametrize("ending", [".safetensors", ".pt", ".pth"])
@pytest.mark.parametrize("how", ["pickle", "torch", "legacy"])
def test_a_pickle_is_never_executed(tmp_path: Path, ending: str, how: str) -> None:
    bomb, path = {"weights": Bomb(tmp_path / "boom")}, tmp_path / f"weights{ending}"
    if how == "pickle":
        path.write_bytes(pickle.dumps(bomb))
    else:
        torch.save(bomb, path, _use_new_zipfile_serialization=how == "torch")
    with pytest.raises(ModelError, match=r"never executed|not executed") as caught:
        checkpoint.load(path, network="dae_unet", params=SIZES, frontend=FRONTEND)
    assert str(path) in caught.value.message
    assert "safetensors" in str(caught.value.hint)
    assert not (tmp_path / "boom").exists()
    content = io.BytesIO(path.read_bytes())
    pickle.load(content) if how == "pickle" else torch.load(content, weights_only=False)
    assert (tmp_path / "boom").exists(), "the file that was refused is harmless: the test proves nothing"


def test_plain_weights_need_their_network_named(model: StreamingModel, tmp_path: Path) -> None:
    pickled, plain = tmp_path / "plain.pt", tmp_path / "plain.safetensors"
    torch.save(model.state_dict(), pickled)
    safetensors.torch.save_file(model.state_dict(), plain)
    assert checkpoint.describe(plain) is None
    for path in (pickled, plain):
        loaded = checkpoint.load(path, network="dae_unet", params=SIZES, frontend=FRONTEND)
        assert same_weights(loaded, model)
        with pytest.raises(ModelError, match="do not say which network") as caught:
            checkpoint.load(path)
        assert "network, params and frontend" in str(caught.value.hint)


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, {"model": {"weight": torch.zeros(1)}}, {3: torch.zeros(1)}])
def test_a_pt_file_that_is_no_state_dict_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "weights.pt")
    with pytest.raises(ModelError, match="expected a state_dict"):
        checkpoint.load(tmp_path / "weights.pt", network="dae_unet", params=SIZES, frontend=FRONTEND)


@pytest.mark.parametrize("name", ["weights.pt", "weights.safetensors"])
@pytest.mark.parametrize("folder", [True, False])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, folder: bool) -> None:
    if folder:
        (tmp_path / name).mkdir()
    with pytest.raises(ModelError, match=name):
        checkpoint.load(tmp_path / name, network="dae_unet", params=SIZES, frontend=FRONTEND)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_numbers_are_refused(model: StreamingModel, saved: Path, value: float) -> None:
    model.to_latent.bias.data[1] = value
    checkpoint.save(model, "dae_unet", saved)
    with pytest.raises(ModelError, match=r"NaN or infinity \(to_latent\.bias\)"):
        checkpoint.load(saved)


def test_weights_of_another_size_or_network_say_what_does_not_fit(model: StreamingModel, saved: Path) -> None:
    weights = model.state_dict()
    del weights["to_latent.bias"]
    safetensors.torch.save_file(weights, saved)
    with pytest.raises(ModelError, match=r"Missing key.*to_latent\.bias"):
        checkpoint.load(saved, network="dae_unet", params=SIZES, frontend=FRONTEND)
    safetensors.torch.save_file(model.state_dict(), saved)
    with pytest.raises(ModelError, match="size mismatch"):
        checkpoint.load(saved, network="dae_unet", params=SIZES | {"hidden": 6}, frontend=FRONTEND)
