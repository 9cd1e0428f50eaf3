"""Small networks of the product's own kind, exported once a session, and the compiler they are given to."""

from __future__ import annotations

from pathlib import Path

import pytest


def _export(folder: Path, strides: tuple[int, ...]) -> dict[str, Path]:
    import torch

    from earshot.models.dae_unet import DaeUnet, DaeUnetParams
    from earshot.models.frontend import Frontend
    from earshot.quantize.calibration import calibrate
    from earshot.quantize.export import export_float
    from earshot.quantize.graph import read_graph
    from earshot.quantize.integer import quantize_graph
    from earshot.quantize.metadata import read_description, write_stream_model
    from earshot.quantize.ranges import tie

    torch.set_num_threads(1)
    torch.manual_seed(0)
    frontend = Frontend(rate=16000, window=128, hop=64, fft=128)
    network = DaeUnet(frontend, DaeUnetParams(channels=(8, 16), strides=strides, latent=16, hidden=16)).eval()
    path = folder / "float32.tflite"
    export_float(network, path)
    features = torch.rand(2, 1, 20, frontend.bins, generator=torch.Generator().manual_seed(1))
    plan, description = tie(read_graph(path), calibrate(path, features)), read_description(path)
    files = {"float32": path}
    for precision in ("int8", "int16x8"):
        files[precision] = folder / f"{precision}.tflite"
        content = quantize_graph(path, plan, precision)
        write_stream_model(files[precision], content, description.model_copy(update={"precision": precision}))
    return files


@pytest.fixture(scope="session")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Strides of 2: every operator has a place on an Ethos-U55."""
    return _export(tmp_path_factory.mktemp("narrow"), (2, 2))


@pytest.fixture(scope="session")
def wide(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Strides of 8 and 4, as the quickstart's student has them: an Ethos-U55 has no such strides."""
    return _export(tmp_path_factory.mktemp("wide"), (8, 4))


@pytest.fixture(autouse=True)
def nothing_stays_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What is compiled in leaves no scratch files, whether it goes well or not."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    yield
    assert list(scratch.iterdir()) == []
