"""The guest's image, built once into the cache folder as a user's would be, and one running guest for all tests."""

from __future__ import annotations

import shutil

import psutil
import pytest

from earshot.pipeline.progress import Silent
from earshot.targets.guest.build import build_image, install, missing_tools
from earshot.targets.guest.image import find_image
from earshot.targets.guest.machine import EMULATOR, ENABLE, Machine
from earshot.targets.guest.recipe import Recipe
from earshot.targets.ssh.connection import Deadline, SshConnection


@pytest.fixture(scope="session")
def image():
    if not shutil.which(EMULATOR):
        pytest.skip(f"{EMULATOR} is not installed: {ENABLE}")
    found, missing = find_image(Recipe()), missing_tools()
    if not found and missing:
        pytest.skip(f"the image cannot be built: {install(missing)}")
    return found or build_image(Recipe(), Silent())


@pytest.fixture(scope="session")
def machine(image):
    with Machine("guest", image, boot_seconds=300) as running:
        yield running


@pytest.fixture(scope="session")
def shell(machine):
    """Runs a script in the guest and returns what it said."""
    with SshConnection("guest", machine.ssh_options()) as connection:

        def run(script, *arguments, data=b""):
            done = connection.run(script, *arguments, data=data, deadline=Deadline(120, "the guest is late"))
            assert done.ending.code == 0, done.ending.words
            return done.text

        yield run


def emulators() -> set[int]:
    """Process numbers of this process's emulators; a leash is one before it becomes one."""
    return {child.pid for child in psutil.Process().children(recursive=True) if _is_emulator(child)}


def _is_emulator(process) -> bool:
    try:
        return any(EMULATOR in word for word in process.cmdline()[:7])
    except psutil.Error:
        return False


@pytest.fixture
def no_emulator_left():
    before = emulators()
    yield
    assert emulators() <= before


@pytest.fixture(scope="session")
def student(tmp_path_factory):
    """A streaming U-Net of the quickstart's kind with random weights, calibrated on noise: float32 and int8 files."""
    import torch

    from earshot.models.dae_unet import DaeUnet, DaeUnetParams
    from earshot.models.frontend import Frontend
    from earshot.quantize.calibration import calibrate
    from earshot.quantize.export import export_float
    from earshot.quantize.integer import quantize_graph
    from earshot.quantize.metadata import read_description, write_stream_model
    from earshot.quantize.ranges import tie
    from earshot.targets.agent import Stft, swinging_noise

    folder = tmp_path_factory.mktemp("student")
    torch.manual_seed(3)
    params = DaeUnetParams(channels=(16, 32), strides=(8, 4), latent=48, hidden=48, widths=(32, 64, 32))
    made = {name: folder / f"{name}.tflite" for name in ("float32", "int8")}
    graph = export_float(DaeUnet(Frontend(), params).eval(), made["float32"])
    stft = Stft(Frontend().model_dump())
    features = stft.features(stft.analyse(swinging_noise(100 * stft.hop, stft.rate)))[None, None]
    content = quantize_graph(made["float32"], tie(graph, calibrate(made["float32"], features)), "int8")
    description = read_description(made["float32"]).model_copy(update={"precision": "int8"})
    write_stream_model(made["int8"], content, description)
    return made
