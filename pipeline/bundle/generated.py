"""The model as C, and a test of it that runs anywhere: digests of what the network makes of known frames."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from earshot.pipeline.bundle.part import Entry, template
from earshot.quantize.c import generate
from earshot.quantize.metadata import read_description
from earshot.targets.mcu.reference import ReferenceStream

FOLDER = "src"
SELF_TEST_FRAMES = 64
_WHAT = {"model.h": "network: what an application calls", "model_frontend.h": "sound in, enhanced sound out"}


def generated_c(model: Path) -> dict[str, Entry]:
    """The files of `earshot codegen`, in `src/`. Raises ModelError for a model that cannot become C."""
    with tempfile.TemporaryDirectory(prefix="earshot-bundle-") as temporary:
        folder = Path(temporary)
        generated = generate(model, folder, with_frontend=True)
        return {
            f"{FOLDER}/{name}": Entry((folder / name).read_bytes(), _what(name)) for name in sorted(generated.files)
        }


def _what(name: str) -> str:
    if name in _WHAT:
        return _WHAT[name]
    if name.startswith("kernels/"):
        return "operators in C"
    if "tables" in name or "weights" in name:
        return "constant tables in C"
    return "how to build the generated C" if name == "README.md" else "generated C"


def self_test(model: Path) -> str:
    """`expected.h`: a digest of the network's output for each of 64 random frames, by TFLite's reference kernels.

    Frames come from xorshift32 (Marsaglia 2003) and digests are 32-bit FNV-1a, so that a few lines of C do the same.
    """
    stream = ReferenceStream(model)
    graph, description = stream.graph, read_description(model)
    frame = graph.tensors[graph.inputs[description.input]]
    random, digests = 1, []
    for _ in range(SELF_TEST_FRAMES):
        values = np.zeros(frame.size, frame.dtype)
        for index in range(frame.size):
            random ^= random << 13 & 0xFFFFFFFF
            random ^= random >> 17
            random ^= random << 5 & 0xFFFFFFFF
            values[index] = np.array(random, np.uint32).view(np.int32) >> (32 - 8 * values.itemsize)
        digests.append(_fnv(stream.step(values).astype(f"<i{values.itemsize}").tobytes()))
    lines = [", ".join(f"0x{digest:08x}u" for digest in digests[at : at + 6]) for at in range(0, len(digests), 6)]
    return template("c/expected.h", {"FRAMES": SELF_TEST_FRAMES, "DIGESTS": ",\n    ".join(lines)})


def _fnv(content: bytes) -> int:
    digest = 0x811C9DC5
    for byte in content:
        digest = (digest ^ byte) * 0x01000193 & 0xFFFFFFFF
    return digest
