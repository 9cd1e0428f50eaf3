"""The frontend in C against the device agent's, compiled natively: frames, sound, and every size of FFT."""

import ctypes
import json
import shutil
import subprocess

import numpy as np
import pytest

from earshot.core.errors import ModelError
from earshot.models.frontend import Frontend
from earshot.quantize.c.frontend import radices, write_frontend
from earshot.quantize.graph import Graph, Quantization, TensorInfo
from earshot.targets.agent import Chunks, Stft

needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="no C compiler: apt-get install gcc")
FLAGS = ["-std=c99", "-O2", "-Wall", "-Wextra", "-Werror", "-pedantic", "-shared", "-fPIC"]
FRONTENDS = [
    Frontend(),
    Frontend(rate=8000, window=256, hop=128, fft=256),
    Frontend(rate=16000, window=320, hop=160, fft=512, compression=0.5),
    Frontend(rate=16000, window=128, hop=64, fft=128),  # a stage of two after those of four
    Frontend(rate=48000, window=960, hop=480, fft=960),  # stages of 4, 4, 2, 3, 5
    Frontend(rate=48000, window=1024, hop=512, fft=2048, compression=1.0),
    Frontend(rate=16000, window=98, hop=49, fft=98),  # an odd hop, and an odd half: 7 * 7
]
FRAME_STEP, MASK_STEP = 40 / 32767, 1 / 32767


def graph_of(frontend, dtype="int16", frame=(FRAME_STEP, 0), mask=(MASK_STEP, 0), network=False):
    """A graph of nothing but a frame and a mask."""

    def port(index, name, channels, quantization):
        scales, zeros = np.array([quantization[0]], np.float32), np.array([quantization[1]])
        return TensorInfo(index, name, (1, 1, frontend.bins, channels), dtype, Quantization(scales, zeros))

    description = {
        "schema": "earshot.stream/1",
        "frontend": frontend.model_dump(),
        "network": "none",
        "precision": "int8" if dtype == "int8" else "int16x8",
    }
    metadata = {"earshot": json.dumps(description).encode()}
    ports = (port(0, "f", frontend.inputs, frame), port(1, "m", frontend.outputs, mask))
    return Graph("test.tflite", ports, (), {"frame": 0}, {"mask": 1}, metadata)


def network_header(graph, name):
    """What the generated network's header says to the frontend."""
    frontend = json.loads(graph.metadata["earshot"])["frontend"]
    facts = {key.upper(): frontend[key] for key in ("rate", "window", "hop", "fft")}
    facts["COMPRESSION"] = f"{frontend['compression']:.9e}f"
    for kind, tensor in zip(("FRAME", "MASK"), graph.tensors, strict=True):
        quantization = tensor.quantization
        facts |= {
            f"{kind}_SIZE": tensor.shape[2] * tensor.shape[3],
            f"{kind}_SCALE": f"{quantization.scale:.9e}f",
            f"{kind}_ZERO_POINT": quantization.zero_point,
        }
    return "".join(f"#define {name}_{key} {value}\n" for key, value in facts.items()) + "#include <stdint.h>\n"


class Compiled:
    """The C frontend behind ctypes. Its network passes a mask of ones."""

    def __init__(self, graph, folder, name="model"):
        write_frontend(graph, folder, name)
        self.dtype = np.dtype(graph.tensors[0].dtype)
        c_type = f"{self.dtype.name}_t"
        declaration = f"void {name}_step(const {c_type} *frame, {c_type} *mask)"
        (folder / f"{name}.h").write_text(network_header(graph, name.upper()) + f"{declaration};\n")
        one = round(1 / float(graph.tensors[1].quantization.scale)) + graph.tensors[1].quantization.zero_point
        self.inputs, self.outputs = (tensor.shape[2] * tensor.shape[3] for tensor in graph.tensors)
        body = f"for (int k = 0; k < {self.outputs}; k++) mask[k] = ({c_type})(frame[0] * 0 + {one});"
        (folder / "network.c").write_text(f'#include "{name}.h"\n{declaration} {{ {body} }}\n')
        sources = [str(folder / f"{name}_frontend.c"), str(folder / "network.c")]
        subprocess.run(["gcc", *FLAGS, *sources, "-o", str(folder / "frontend.so")], check=True)
        self.library, self.name = ctypes.CDLL(str(folder / "frontend.so")), name

    def call(self, function, given, size, dtype):
        out = np.zeros(size, dtype)
        given = np.ascontiguousarray(given)
        pointers = [array.ctypes.data_as(ctypes.c_void_p) for array in (given, out)]
        getattr(self.library, f"{self.name}_{function}")(*pointers)
        return out

    def analyse(self, hop):
        return self.call("analyse", hop, self.inputs, self.dtype)

    def synthesise(self, mask, hop):
        return self.call("synthesise", mask, hop, np.float32)

    def enhance(self, hop):
        return self.call("enhance", hop, len(hop), np.float32)


def speechlike(hops, hop, rate):
    generator = np.random.default_rng(5)
    time = np.arange(hops * hop) / rate
    sound = sum(np.sin(2 * np.pi * f * time) / n for n, f in enumerate((180, 361, 1300, 2900), 2))
    swing = 0.5 + 0.5 * np.sin(2 * np.pi * 3 * time)
    sound = 0.3 * sound * swing + 0.01 * generator.standard_normal(hops * hop)
    sound[: 3 * hop] = 0  # digital silence first
    return sound.astype(np.float32).reshape(hops, hop)


@needs_gcc
@pytest.mark.parametrize("frontend", FRONTENDS, ids=lambda f: f"{f.window}-{f.fft}")
def test_frames_and_sound_are_those_of_the_agent(frontend, tmp_path):
    compiled, stft = Compiled(graph_of(frontend), tmp_path), Stft(frontend.model_dump())
    masks = np.random.default_rng(6).integers(0, 32768, (12, frontend.bins)).astype(np.int16)
    moved = 0.0
    for hop, mask in zip(speechlike(12, frontend.hop, frontend.rate), masks, strict=True):
        spectrum = stft.analyse(hop)
        steps = stft.features(spectrum)[0] / np.float32(FRAME_STEP)
        frame = compiled.analyse(hop)
        # Half a step of rounding, and what single precision leaves of the largest magnitudes.
        assert np.abs(frame - np.minimum(steps, 32767)).max() <= 0.5 + 2e-5 * steps.max() + 0.02
        expected = stft.synthesise(spectrum * (mask * np.float32(MASK_STEP)))
        sound = compiled.synthesise(mask, frontend.hop)
        assert np.abs(sound - expected).max() < 1e-6
        moved = max(moved, np.abs(expected).max())
    assert moved > 0.05


@needs_gcc
@pytest.mark.parametrize("frontend", FRONTENDS, ids=lambda f: f"{f.window}-{f.fft}")
def test_a_mask_of_ones_gives_the_sound_back_late(frontend, tmp_path):
    compiled = Compiled(graph_of(frontend), tmp_path, "other")
    sound = speechlike(10, frontend.hop, frontend.rate)
    enhanced = np.concatenate([compiled.enhance(hop) for hop in sound])
    late = np.concatenate([np.zeros(frontend.delay_samples, np.float32), sound.reshape(-1)])[: enhanced.size]
    assert np.abs(enhanced - late).max() < 2e-6
    assert np.abs(enhanced - sound.reshape(-1)).max() > 0.01
    compiled.library.other_frontend_reset()
    again = np.concatenate([compiled.enhance(hop) for hop in sound])
    assert np.array_equal(enhanced, again)


OTHERS = [
    Frontend(features="log1p", window=256, hop=128, fft=256),
    Frontend(features="complex", mask="complex", window=320, hop=160, fft=320),
    Frontend(features="complex", mask="complex", channels=3, window=256, hop=128, fft=512),
    Frontend(mask="complex", compression=0.5),
    Frontend(features="complex", channels=2),
    Frontend(kind="wave", hop=96),
]


@needs_gcc
@pytest.mark.parametrize("frontend", OTHERS, ids=lambda f: f"{f.kind}-{f.features}-{f.mask}-{f.channels}")
def test_other_features_masks_and_microphones_are_those_of_the_agent(frontend, tmp_path):
    graph = graph_of(frontend, frame=(FRAME_STEP, 7), mask=(MASK_STEP, 0))
    compiled = Compiled(graph, tmp_path)
    host = (Chunks if frontend.kind == "wave" else Stft)(frontend.model_dump())
    generator, moved = np.random.default_rng(8), 0.0
    for near in speechlike(10, frontend.hop, frontend.rate):
        apart = [np.roll(near, 5 * number) * np.float32(1 - 0.2 * number) for number in range(frontend.channels)]
        hop = np.stack(apart, axis=1) if frontend.channels > 1 else near
        spectrum = host.analyse(hop)
        steps = host.features(spectrum).reshape(-1) / np.float32(FRAME_STEP) + 7
        frame = compiled.analyse(hop)
        assert np.abs(frame - np.clip(steps, -32768, 32767)).max() <= 0.5 + 2e-5 * np.abs(steps).max() + 0.05
        mask = generator.integers(-32768, 32768, (1, frontend.bins * frontend.outputs)).astype(np.int16)
        expected = host.synthesise(host.apply(spectrum.copy(), mask * np.float32(MASK_STEP)))
        sound = compiled.synthesise(mask, frontend.hop)
        assert np.abs(sound - expected).max() < 2e-6
        moved = max(moved, float(np.abs(expected).max()))
    assert moved > 0.02


@needs_gcc
def test_bytes_are_rounded_and_held_as_the_agent_does(tmp_path):
    frontend, scale, zero = Frontend(compression=0.3), np.float32(0.005), -127
    compiled = Compiled(graph_of(frontend, "int8", (scale, zero), (1 / 256, -128)), tmp_path)
    stft, apart, held, count = Stft(frontend.model_dump()), 0, 0, 0
    for hop in speechlike(60, frontend.hop, frontend.rate):
        steps = np.minimum(stft.features(stft.analyse(hop))[0] / scale, 127 - zero)
        expected = (np.rint(steps) + zero).astype(np.int8)
        frame = compiled.analyse(hop)
        # On a tie's edge the last bit of a float decides.
        assert np.abs(frame.astype(int) - expected).max() <= 1
        apart, held, count = apart + (frame != expected).sum(), held + (frame == 127).sum(), count + frame.size
    assert apart <= count / 1000
    assert held > 100


@needs_gcc
def test_another_compression_is_another_frame(tmp_path):
    """The comparison above can fail."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    plain = Compiled(graph_of(Frontend()), tmp_path / "a")
    other = Compiled(graph_of(Frontend(compression=0.31)), tmp_path / "b")
    hop = speechlike(6, 256, 16000)[5]
    assert np.abs(plain.analyse(hop).astype(int) - other.analyse(hop)).max() > 10


@pytest.mark.parametrize(("length", "expected"), [(256, [4] * 4), (480, [4, 4, 2, 3, 5]), (49, [7, 7]), (2, [2])])
def test_stages_multiply_to_the_length(length, expected):
    assert radices(length) == expected
    assert np.prod(expected) == length


def test_what_cannot_be_written_in_c_is_refused(tmp_path):
    with pytest.raises(ModelError, match="fft is 513"):
        write_frontend(graph_of(Frontend(fft=513)), tmp_path)
    with pytest.raises(ModelError, match="prime factor 521"):
        write_frontend(graph_of(Frontend(fft=1042)), tmp_path)
    with pytest.raises(ModelError, match="tensor 'f' is float32"):
        write_frontend(graph_of(Frontend(), "float32"), tmp_path)
