"""Hand-written programs in place of generated networks, and real small networks, on emulated boards."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from earshot.models.frontend import Frontend
from earshot.pipeline.data.config import EmbeddedConfig
from earshot.pipeline.data.sources import material
from earshot.targets.agent import Stft
from earshot.targets.mcu.boards import BOARDS
from earshot.targets.mcu.toolchain import build

CORES = {
    "cortex-m4": ("mps2-an386", ("-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16", "-O2")),
    "cortex-m33": ("mps2-an505", ("-mcpu=cortex-m33", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv5-sp-d16", "-O2")),
    "cortex-m55": ("mps3-an547", ("-mcpu=cortex-m55", "-mthumb", "-mfloat-abi=hard", "-O2")),
}
TOOLS = ("arm-none-eabi-gcc", "qemu-system-arm", "gcc")
MISSING = [tool for tool in TOOLS if shutil.which(tool) is None]
INSTALL = "apt-get install gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm gcc"
needs_emulator = pytest.mark.skipif(bool(MISSING), reason=f"{', '.join(MISSING)} not installed: {INSTALL}")

HEADER = """
#include <stdint.h>
#define MODEL_HOP 8
#define MODEL_CHANNELS 1
#define MODEL_FRAME_SIZE 8
#define MODEL_MASK_SIZE 8
typedef int8_t model_value_t;
void model_reset(void);
void model_frontend_reset(void);
void model_enhance(const float *hop, float *enhanced);
extern model_value_t model_frame[MODEL_FRAME_SIZE], model_mask[MODEL_MASK_SIZE];
"""
# model_enhance in assembler, so that what lies between the marks is known to the instruction.
FRAME = """
model_value_t model_frame[MODEL_FRAME_SIZE], model_mask[MODEL_MASK_SIZE];
void model_reset(void) {}
void model_frontend_reset(void) {}
__attribute__((naked)) void model_analyse(void) { __asm__ volatile("bx lr"); }
__attribute__((naked)) void model_synthesise(void) { __asm__ volatile("bx lr"); }
void model_step(void);
__attribute__((naked)) void model_enhance(const float *hop, float *enhanced) {
    __asm__ volatile("push {r4, lr}\\n bl model_analyse\\n bl model_step\\n bl model_synthesise\\n pop {r4, pc}");
}
"""
# The same in C, where the compiler's call graph knows the stack.
PLAIN_FRAME = """
model_value_t model_frame[MODEL_FRAME_SIZE], model_mask[MODEL_MASK_SIZE];
void model_reset(void) {}
void model_frontend_reset(void) {}
__attribute__((noipa)) void model_analyse(void) {}
__attribute__((noipa)) void model_synthesise(void) {}
void model_step(void);
void model_enhance(const float *hop, float *enhanced) {
    (void)hop, (void)enhanced;
    model_analyse();
    model_step();
    model_synthesise();
}
"""


@pytest.fixture(scope="session")
def kept(tmp_path_factory):
    """Where programs and the counter are kept for the session, so that each is built once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module", autouse=True)
def cache(kept):
    """Not in the user's cache; and the tests of other targets find theirs again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EARSHOT_CACHE", str(kept))
        yield


@pytest.fixture
def made(tmp_path):
    """A function that builds a program whose network is C of the test's own."""

    def make(code: str, core: str = "cortex-m4", frame: str = FRAME):
        folder: Path = tmp_path / "source"
        folder.mkdir(exist_ok=True)
        (folder / "model.h").write_text(HEADER)
        (folder / "model_frontend.h").write_text("")
        (folder / "model.c").write_text('#include "model.h"\n' + frame + code)
        machine, flags = CORES[core]
        return build(folder, BOARDS[machine], flags), BOARDS[machine]

    return make


# The quickstart's student, as pruning leaves it.
QUICKSTART = {"channels": (16, 32), "strides": (8, 4), "latent": 48, "hidden": 48, "widths": (32, 64, 32)}


@pytest.fixture(scope="session")
def speech():
    """Real speech in noise of the embedded pack: float32 at 16 kHz, whole hops of 256 samples."""
    pairs = material(EmbeddedConfig(), "test", 16000).pairs(16000, None, None, 0)
    noisy = pairs[0].load()[1]
    assert noisy.size > 40 * 256 and np.abs(noisy).max() > 0.05
    return noisy[: noisy.size // 256 * 256]


@pytest.fixture(scope="session")
def students(tmp_path_factory, speech):
    """A student of the quickstart's size with random weights, calibrated on speech: precision -> .tflite."""
    import torch

    from earshot.models.dae_unet import DaeUnet, DaeUnetParams
    from earshot.quantize.calibration import calibrate
    from earshot.quantize.export import export_float
    from earshot.quantize.integer import quantize_graph
    from earshot.quantize.metadata import read_description, write_stream_model
    from earshot.quantize.ranges import tie

    folder = tmp_path_factory.mktemp("students")
    torch.manual_seed(3)
    model = DaeUnet(Frontend(), DaeUnetParams(**QUICKSTART)).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim > 1 and "mask" in name:
                weight.mul_(6)  # a mask that moves, so that an error anywhere is heard
    path = folder / "float32.tflite"
    graph = export_float(model, path)
    stft = Stft(Frontend().model_dump())
    features = stft.features(stft.analyse(speech))[None, None]
    plan = tie(graph, calibrate(path, features))
    made = {}
    for precision in ("int8", "int16x8"):
        content = quantize_graph(path, plan, precision)
        description = read_description(path).model_copy(update={"precision": precision})
        made[precision] = folder / f"{precision}.tflite"
        write_stream_model(made[precision], content, description)
    return made
