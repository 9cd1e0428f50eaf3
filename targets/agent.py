"""Runs and times a streaming .tflite where it ships: one file, numpy and a TFLite runtime, Python 3.9 or later.

    python agent.py profile MODEL [--frames N] [--repeats R] [--warmup W] [--core C|last] [--threads T] [--no-delegate]
                                  [--audio RAW] [--paced] [--die-with-parent]
    python agent.py race BASE CANDIDATE [--frames N] [--core C|last] [--threads T] [--no-delegate] [--die-with-parent]
    python agent.py trace MODEL [--threads T] [--no-delegate]

`race` runs two models by turns so short that a busy machine holds both back alike, a round for each line on standard
input.
`trace` takes frames as the graph stores them, one line of base64 on standard input, and gives back its masks alike: for
comparing machines bit by bit.
Every line on standard output is one JSON object with an `event`: `start`, `repeat`..., `result`, or `error`. Exit
codes: 0 done, 2 the model or the request is wrong, 3 the machine lacks something. Paced, it ends when standard input
does. The same classes enhance sound on the host:

    sound -> Stft.analyse -> features -> StreamGraph (states carried) -> mask -> Stft.synthesise -> sound
"""

from __future__ import annotations

import argparse
import base64
import gc
import hmac
import importlib
import importlib.metadata
import json
import os
import platform
import random
import resource
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

SCHEMA = "earshot.stream/1"
FEATURE_EPSILON = np.array(1e-10, np.float32)  # arrays cost a ufunc less than scalars do
BLOCK_HOPS = 64  # numpy's cost a call is spread over this many frames; longer blocks fall out of the cache
RUNTIMES = {"ai_edge_litert": "ai-edge-litert", "tflite_runtime": "tflite-runtime"}
ONE = np.array(1, np.float32)
EVERYTHING = slice(None)
RACE_TURN_SECONDS = 1e-3
RACE_ROUND_SECONDS = 1.0
RACE_FEWEST_TURNS = 16  # of each model in a round, however long they take
RACE_WARMUP = 3
RACE_SOUND_HOPS = 256
RACE_BALLAST_BYTES = 1 << 20
PR_SET_PDEATHSIG = 1  # linux/prctl.h
# 1.5 * 2^23: a float32 this large has no bits below one, so that adding it rounds, and the low bits of the sum, read as
# an integer, are the rounded number: one call of numpy instead of three.
ROUNDER = 12582912
Transform = Callable[[np.ndarray, np.ndarray, np.ndarray], object]  # (from, factor, into)


class AgentError(Exception):
    """What the user must mend: one line, how to mend it, and the exit code (2 the request, 3 the machine)."""

    def __init__(self, message: str, hint: str | None = None, exit_code: int = 2) -> None:
        super().__init__(message)
        self.message, self.hint, self.exit_code = message, hint, exit_code


class Table:
    """One flatbuffer table, fields by number: just enough to read a .tflite without its schema, bounds checked."""

    def __init__(self, data: bytes, position: int) -> None:
        self.data, self.position = data, position
        self.vtable = position - self.number("<i", position)
        self.size = self.number("<H", self.vtable)

    def number(self, form: str, position: int) -> int:
        """The number at an absolute position. Raises struct.error outside the file."""
        if position < 0:
            raise struct.error("negative position")
        return struct.unpack_from(form, self.data, position)[0]

    def field(self, index: int) -> int | None:
        """Absolute position of a field, None when it holds its default."""
        slot = 4 + 2 * index
        offset = self.number("<H", self.vtable + slot) if slot < self.size else 0
        return self.position + offset if offset else None

    def follow(self, index: int) -> tuple[int, int] | None:
        """Position and length of a vector or string field, None when absent."""
        field = self.field(index)
        if field is None:
            return None
        start = field + self.number("<I", field)
        return start + 4, self.number("<I", start)

    def blob(self, index: int) -> bytes:
        """A byte vector or string, empty when absent."""
        start, length = self.follow(index) or (0, 0)
        if start + length > len(self.data):
            raise struct.error("vector past the end")
        return self.data[start : start + length]

    def tables(self, index: int) -> list[Table]:
        """A vector of tables."""
        start, length = self.follow(index) or (0, 0)
        spots = [start + 4 * item for item in range(min(length, len(self.data)))]
        return [Table(self.data, spot + self.number("<I", spot)) for spot in spots]


def read_model(path: str) -> Table:
    """Root table of a .tflite, every table of its graphs and every constant checked to lie inside the file.

    Older runtimes crash on a truncated file, so that is found here. Raises AgentError.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise AgentError(f"{path}: cannot be read ({error.strerror})", "check the path") from error
    if data[4:8] != b"TFL3":
        raise AgentError(f"{path}: not a .tflite file", "give a model written by earshot convert")
    try:
        model = Table(data, struct.unpack_from("<I", data)[0])
        for buffer in model.tables(4):
            buffer.blob(0)
        for graph in model.tables(2):
            for item in graph.tables(0) + graph.tables(3):
                for index in range((item.size - 4) // 2):
                    item.field(index)
    except (struct.error, MemoryError) as error:
        raise AgentError(f"{path}: truncated or damaged .tflite", "copy or convert the model again") from error
    return model


def read_description(path: str) -> dict[str, Any]:
    """The stream description inside a .tflite (metadata entry `earshot`), or else in the JSON file beside it.

    Raises:
        AgentError: neither is there, or it is not of this schema.
    """
    model = read_model(path)
    sidecar = Path(path).with_suffix(".json")
    text, source = b"", path
    for entry in model.tables(6):
        if entry.blob(0) == b"earshot":
            index = entry.field(1)
            text = model.tables(4)[entry.number("<I", index) if index else 0].blob(0)
    if not text and sidecar.is_file():
        text, source = sidecar.read_bytes(), str(sidecar)
    if not text:
        raise AgentError(
            f"{path}: no stream description in the file and no {sidecar.name} beside it",
            "convert the model with earshot, or keep NAME.json beside NAME.tflite",
        )
    try:
        description = json.loads(text.rstrip(b"\0").decode())
        if description["schema"] != SCHEMA:
            raise AgentError(f"{source}: schema {description['schema']!r}, this agent reads {SCHEMA}")
        _ = description["frontend"], description["input"], description["output"]
        for state in description["states"]:
            _ = state["input"], state["output"]
    except (ValueError, KeyError, TypeError) as error:
        raise AgentError(f"{source}: damaged stream description ({error!r})", "convert the model again") from error
    return description


def load_runtime() -> Any:
    """The interpreter module of whichever runtime is installed, ai-edge-litert first. Raises AgentError."""
    for module in RUNTIMES:
        try:
            return importlib.import_module(module + ".interpreter")
        except ModuleNotFoundError:
            continue
    raise AgentError("no TFLite runtime is installed", "pip install ai-edge-litert  (or tflite-runtime)", exit_code=3)


def open_interpreter(path: str, threads: int, delegate: bool) -> Any:
    """An interpreter with its tensors allocated. `delegate` False runs the plain kernels. Raises AgentError."""
    runtime = load_runtime()
    kinds = runtime.OpResolverType
    resolver = kinds.AUTO if delegate else kinds.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    try:
        interpreter = runtime.Interpreter(
            model_path=str(path), num_threads=threads, experimental_op_resolver_type=resolver
        )
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        refusal = f"{path}: refused by {runtime.__name__} ({' '.join(str(error).split())[:200]})"
        if "Didn't find op for builtin opcode" not in refusal:
            raise AgentError(refusal) from error
        package = RUNTIMES[runtime.__name__.split(".")[0]]
        old = f"{package} {version_of(package)} is too old for this model"
        raise AgentError(refusal, f"{old}: {sys.executable} -m pip install -U {package}", exit_code=3) from error
    return interpreter


def version_of(package: str) -> str:
    """Version of an installed distribution, `unknown` where it has no metadata."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


class Port:
    """One input or output tensor of a graph: its number, its view and its affine quantisation."""

    def __init__(self, interpreter: Any, details: dict[str, Any]) -> None:
        self.index, self.dtype, self.shape = details["index"], np.dtype(details["dtype"]), tuple(details["shape"])
        self.quantization = details["quantization"]
        self.size = int(np.prod(self.shape))
        self.scale, self.zero = (np.array(value, np.float32) for value in self.quantization)
        self.integer = self.dtype != np.float32
        if self.integer:
            if self.dtype not in (np.int8, np.uint8, np.int16):
                raise AgentError(
                    f"tensor {details['name']} holds {self.dtype}; frames, masks and states are float32, int8 or int16"
                )
            limits = np.iinfo(self.dtype)
            zero = self.quantization[1]
            steps = (limits.min - zero, limits.max - zero, ROUNDER + zero)
            self.lowest, self.highest, self.rounder = (np.array(value, np.float32) for value in steps)
            self.codes = np.dtype(f"u{self.dtype.itemsize}")
            every = np.arange(2 ** (8 * self.dtype.itemsize), dtype=self.codes).view(self.dtype)
            self.values = (every.astype(np.float32) - self.zero) * self.scale
        self.view = interpreter.tensor(self.index)().reshape(-1)

    def encode(self, values: np.ndarray) -> np.ndarray:
        """Real values as this tensor stores them."""
        if not self.integer:
            return values
        steps = values / self.scale
        np.maximum(steps, self.lowest, out=steps)
        np.minimum(steps, self.highest, out=steps)
        steps += self.rounder
        return steps.view(np.int32).astype(self.dtype)

    def decode(self, stored: np.ndarray) -> np.ndarray:
        """Stored values as real ones, float32."""
        if not self.integer:
            return stored
        return self.values.take(stored.view(self.codes))

    def raw(self) -> memoryview:
        """The tensor's memory as bytes that can be assigned."""
        return memoryview(self.view.view(np.uint8))


class StreamGraph:
    """One step of a network, its states carried from frame to frame.

    Frames are written into and masks read from the interpreter's own memory, and states are copied there byte by byte
    when both ends share one scale (they do in files earshot wrote), so that little Python runs between two frames.
    `views=False` goes through the runtime's public set and get calls instead: slower, same numbers.
    """

    def __init__(self, path: str | Path, threads: int = 1, delegate: bool = True, views: bool = True) -> None:
        self.path = path = str(path)
        self.description = read_description(path)
        self._interpreter = open_interpreter(path, threads, delegate)
        inputs, outputs = self._ports()
        try:
            self.frame = inputs.pop(self.description["input"])
            self.mask = outputs.pop(self.description["output"])
            self._states = [(inputs.pop(s["input"]), outputs.pop(s["output"])) for s in self.description["states"]]
        except KeyError as error:
            raise AgentError(f"{path}: the description names {error}, the graph has no such tensor") from error
        if inputs:
            raise AgentError(f"{path}: graph inputs {sorted(inputs)} are in no state of the description")
        for into, out in self._states:
            if into.size != out.size:
                raise AgentError(f"{path}: a state enters with {into.size} values and leaves with {out.size}")
        self.bins = self.frame.size
        self._invoke = self._interpreter._interpreter.Invoke  # the public one refuses to run while views are held
        self._tied = [(i, o) for i, o in self._states if (i.dtype, i.quantization) == (o.dtype, o.quantization)]
        self._loose = [pair for pair in self._states if pair not in self._tied]
        self._copies = [(into.raw(), out.raw()) for into, out in self._tied]
        self._initial = [(into.index, into.encode(np.zeros(into.shape, np.float32))) for into, _ in self._states]
        self.direct = views and self._views_hold()
        self.run = self._run_views if self.direct else self._run_tensors
        self.reset()

    def _ports(self) -> tuple[dict[str, Port], dict[str, Port]]:
        signatures = self._interpreter._get_full_signature_list()
        if len(signatures) != 1:
            raise AgentError(f"{self.path}: {len(signatures)} signatures, a stream model has one")
        signature = next(iter(signatures.values()))
        details = {item["index"]: item for item in self._interpreter.get_tensor_details()}

        def ports(side: str) -> dict[str, Port]:
            return {name: Port(self._interpreter, details[index]) for name, index in signature[side].items()}

        return ports("inputs"), ports("outputs")

    def _views_hold(self) -> bool:
        """Whether tensors stay where they are when the graph runs, so that views of them stay true."""
        self._invoke()
        ports = [self.frame, self.mask] + [port for pair in self._states for port in pair]
        return all(_address(self._interpreter.tensor(port.index)()) == _address(port.view) for port in ports)

    def reset(self) -> None:
        """Back to the start of a stream: all states zero."""
        for index, initial in self._initial:
            self._interpreter.set_tensor(index, initial)

    def step(self, features: np.ndarray) -> np.ndarray:
        """Mask float32 `[bins]` of one frame of features float32 `[bins]`."""
        return self.run(features[np.newaxis])[0]

    def time_invokes(self) -> list[int]:
        """From now on the nanoseconds of every invoke are appended to the list this returns."""
        plain, clock = self._invoke, time.perf_counter_ns
        spent: list[int] = []

        def invoke() -> None:
            start = clock()
            plain()
            spent.append(clock() - start)

        self._invoke = invoke
        return spent

    def _run_views(self, features: np.ndarray) -> np.ndarray:
        """Masks float32 `[frames, bins]` of features float32 `[frames, bins]`."""
        frames = self.frame.encode(features)
        masks = np.empty((len(frames), self.mask.size), self.mask.dtype)
        frame, mask = self.frame.view, self.mask.view
        for index in range(len(frames)):
            frame[EVERYTHING] = frames[index]
            self.advance()
            masks[index] = mask
        return self.mask.decode(masks)

    def advance(self) -> None:
        """One step: from the frame in its tensor's memory to the mask in its own, the states carried back."""
        self._invoke()
        for into, out in self._copies:
            into[EVERYTHING] = out
        for port, source in self._loose:
            port.view[EVERYTHING] = port.encode(source.decode(source.view))

    def _run_tensors(self, features: np.ndarray) -> np.ndarray:
        """The same through set_tensor and get_tensor. State inputs keep their values between calls."""
        interpreter = self._interpreter
        frames = self.frame.encode(features)
        masks = np.empty((len(frames), self.mask.size), self.mask.dtype)
        for index in range(len(frames)):
            interpreter.set_tensor(self.frame.index, frames[index].reshape(self.frame.shape))
            self._invoke()
            masks[index] = interpreter.get_tensor(self.mask.index).reshape(-1)
            leaving = [interpreter.get_tensor(out.index) for _, out in self._states]
            for (into, out), values in zip(self._states, leaving):  # noqa: B905
                tied = into.quantization == out.quantization
                stored = values if tied else into.encode(out.decode(values))
                interpreter.set_tensor(into.index, stored.reshape(into.shape))
        return self.mask.decode(masks)


class Stft:
    """Analysis and synthesis, any number of hops at a time; what comes out does not depend on how a stream is cut.

    The arithmetic is that of earshot's `Frontend`: frame t ends with hop t, square-root Hann on both sides, features
    (|X|² + 1e-10)^(compression / 2) or what else it says, output delayed by `delay` samples. Of several microphones the
    first is the one whose sound is enhanced.
    """

    def __init__(self, frontend: dict[str, Any]) -> None:
        self.rate, self.hop, self.window, self.fft = (int(frontend[key]) for key in ("rate", "hop", "window", "fft"))
        self.kind, self.mask = frontend.get("features", "magnitude"), frontend["mask"]
        self.channels = int(frontend.get("channels", 1))
        known = (frontend["kind"], frontend["window_kind"]) == ("stft", "sqrt_hann")
        known = known and self.kind in ("magnitude", "log1p", "complex") and self.mask in ("magnitude", "complex")
        known = known and self.channels >= 1 and (self.channels == 1 or self.kind == "complex")
        if not known or self.window != 2 * self.hop or self.fft < self.window or self.hop < 1:
            raise AgentError(f"this agent does not know the frontend {json.dumps(frontend)}", "update agent.py")
        self.bins = self.fft // 2 + 1
        self.inputs = self.bins * (2 * self.channels if self.kind == "complex" else 1)
        self.outputs = self.bins * (2 if self.mask == "complex" else 1)
        self.usual = (self.kind, self.mask) == ("magnitude", "magnitude")
        self.delay = self.window - self.hop
        self.exponent = np.array(frontend["compression"] / 2, np.float32)
        phase = 2 * np.pi * np.arange(self.window) / self.window
        self.weights = np.sqrt(0.5 - 0.5 * np.cos(phase)).astype(np.float32)
        self.share = np.array(1 / self.fft, np.float32)
        self.forward, self.inverse = _transforms(self.fft, self.window)
        self.recent, self.pending = np.zeros(self.window, np.float32), np.zeros(self.hop, np.float32)
        self.past = self.recent[self.hop :]
        self.pasts = [self.past] + [np.zeros(self.hop, np.float32) for _ in range(1, self.channels)]

    def reset(self) -> None:
        """Back to silence."""
        self.recent.fill(0)
        self.pending.fill(0)
        for past in self.pasts:
            past.fill(0)

    def analyse(self, block: np.ndarray) -> np.ndarray:
        """Spectra complex64 of the next samples.

        float32 `[hops * hop]` -> `[hops, bins]`, or of several microphones `[hops * hop, channels]` -> `[hops, bins,
        channels]`.
        """
        if self.channels == 1:
            return self._analyse(block, self.past)
        if block.shape[1:] != (self.channels,):
            raise ValueError(f"sound of {self.channels} microphones is needed, got an array of shape {block.shape}")
        return np.stack([self._analyse(block[:, number], past) for number, past in enumerate(self.pasts)], axis=2)

    def _analyse(self, block: np.ndarray, past: np.ndarray) -> np.ndarray:
        count, rest = divmod(len(block), self.hop)
        if rest or not count:
            raise ValueError(f"a block holds whole hops of {self.hop} samples, got {len(block)}")
        samples = np.concatenate((past, block))
        past[:] = samples[len(block) :]
        step = self.hop * 4
        frames = np.ndarray((count, self.window), np.float32, samples, 0, (step, 4)) * self.weights
        spectrum = np.empty((count, self.bins), np.complex64)
        self.forward(frames, ONE, spectrum)
        return spectrum

    def features(self, spectrum: np.ndarray) -> np.ndarray:
        """What the graph gets, float32 `[hops, inputs]`: bins one after another, each with all its parts."""
        parts = spectrum.reshape(len(spectrum), -1).view(np.float32)
        if self.kind == "complex":
            return parts
        squares = parts * parts
        power = squares[:, 0::2] + squares[:, 1::2]
        power += FEATURE_EPSILON
        if self.kind == "log1p":
            return np.log1p(np.sqrt(power, out=power), out=power)
        return np.power(power, self.exponent, out=power)

    def apply(self, spectrum: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """The first microphone's spectra, masked: float32 `[hops, outputs]` -> complex64 `[hops, bins]`."""
        if self.channels > 1:
            spectrum = np.ascontiguousarray(spectrum[..., 0])
        spectrum *= np.ascontiguousarray(mask).view(np.complex64) if self.mask == "complex" else mask
        return spectrum

    def synthesise(self, spectrum: np.ndarray) -> np.ndarray:
        """The next samples float32 `[hops * hop]` of masked spectra."""
        frames = np.empty((len(spectrum), self.fft), np.float32)
        self.inverse(spectrum, self.share, frames)
        frames = frames[:, : self.window] * self.weights
        rising, falling = frames[:, : self.hop], frames[:, self.hop :]
        rising[0] += self.pending
        rising[1:] += falling[:-1]
        self.pending[:] = falling[-1]
        return rising.reshape(-1)


class Chunks:
    """The frontend of graphs that work on samples: a hop goes in, a hop comes out, at once."""

    def __init__(self, frontend: dict[str, Any]) -> None:
        self.rate, self.hop = int(frontend["rate"]), int(frontend["hop"])
        if frontend.get("channels", 1) != 1 or self.hop < 1:
            raise AgentError(f"this agent does not know the frontend {json.dumps(frontend)}", "update agent.py")
        self.channels, self.delay = 1, 0
        self.bins = self.inputs = self.outputs = self.hop

    def reset(self) -> None:
        """Nothing is kept."""

    def analyse(self, block: np.ndarray) -> np.ndarray:
        """The next samples float32 `[hops * hop]` as `[hops, hop]`."""
        if len(block) % self.hop or not len(block):
            raise ValueError(f"a block holds whole hops of {self.hop} samples, got {len(block)}")
        return np.ascontiguousarray(block, np.float32).reshape(-1, self.hop)

    def features(self, chunks: np.ndarray) -> np.ndarray:
        """The samples themselves."""
        return chunks

    def apply(self, chunks: np.ndarray, output: np.ndarray) -> np.ndarray:
        """What the graph made of them."""
        return output

    def synthesise(self, chunks: np.ndarray) -> np.ndarray:
        """The next samples float32 `[hops * hop]`."""
        return chunks.reshape(-1)


def _address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


def _transforms(size: int, window: int) -> tuple[Transform, Transform]:
    """Real FFT pair over the last axis, float32 and complex64; frames shorter than `size` are padded with zeros.

    numpy 2 computes in single precision behind `np.fft`; its compiled functions are called directly where they are,
    because the wrapper around them takes longer than the transform of one frame. numpy 1 computes in double.
    """

    def forward(frames: np.ndarray, factor: np.ndarray, out: np.ndarray) -> None:
        out[...] = np.fft.rfft(frames, size)

    def inverse(spectrum: np.ndarray, factor: np.ndarray, out: np.ndarray) -> None:
        out[...] = np.fft.irfft(spectrum, size)

    probe = np.cos(np.arange(2 * window, dtype=np.float32) ** 2).reshape(2, window)
    spectrum, back = np.empty((2, size // 2 + 1), np.complex64), np.empty((2, size), np.float32)
    try:
        compiled = importlib.import_module("numpy.fft._pocketfft_umath")
        fast_forward, fast_inverse = (compiled.rfft_n_even if size % 2 == 0 else compiled.rfft_n_odd), compiled.irfft
        fast_forward(probe, ONE, spectrum)
        fast_inverse(spectrum, np.array(1 / size, np.float32), back)
    except (ImportError, AttributeError, TypeError, ValueError):
        return forward, inverse
    same = np.allclose(spectrum, np.fft.rfft(probe, size), atol=1e-4)
    same = same and np.allclose(back[:, :window], probe, atol=1e-5)
    return (fast_forward, fast_inverse) if same else (forward, inverse)


def hop_path(stft: Stft, graph: StreamGraph) -> Callable[[np.ndarray], np.ndarray]:
    """The whole path of one hop, for a device in real time: `StreamEnhancer.process` without what numpy adds to it.

    On one frame a call of numpy takes about a microsecond, most of it before any arithmetic, and every slice or
    attribute adds to that. So all arrays and views are made here, once, and reached as local names; nothing is
    converted or broadcast on the way; whole arrays are copied through memoryviews, at a third of the cost. The
    arithmetic is that of blocks to the bit, and the sound kept from hop to hop is the `Stft`'s own, so that hops and
    blocks may alternate.
    """
    multiply, add, power_of, divide, smaller = np.multiply, np.add, np.power, np.divide, np.fmin  # fmin: out by place
    forward, inverse, share, weights, exponent = stft.forward, stft.inverse, stft.share, stft.weights, stft.exponent
    one, epsilon, everything = ONE, FEATURE_EPSILON, EVERYTHING
    recent, past, pending = stft.recent, stft.past, stft.pending
    older, newer, waiting = recent.data[: stft.hop], past.data, pending.data
    frame, long = np.zeros(stft.window, np.float32), np.zeros(stft.fft, np.float32)
    back = long[: stft.window]
    rising, falling = back[: stft.hop], back.data[stft.hop :]
    spectrum, gains = np.zeros((2, stft.bins), np.complex64)
    parts, squares = spectrum.view(np.float32), np.zeros(2 * stft.bins, np.float32)
    real, imaginary = squares[0::2], squares[1::2]
    power = np.zeros(stft.bins, np.float32)
    rounded = power.view(np.int32)
    into, out = graph.frame, graph.mask
    # Gains are complex, because numpy converts real ones at each product, and looked up by numbers of its own kind.
    table = (out.values if out.integer else np.zeros(1)).astype(np.complex64)
    codes, places = (out.view.view(out.codes) if out.integer else out.view), np.zeros(stft.bins, np.intp)

    def process(hop: np.ndarray) -> np.ndarray:
        # Frame and spectrum
        older[everything] = newer
        past[everything] = hop
        multiply(recent, weights, frame)
        forward(frame, one, spectrum)
        # Features
        multiply(parts, parts, squares)
        add(real, imaginary, power)
        add(power, epsilon, power)
        power_of(power, exponent, power)
        # Graph: `Port.encode` in place, without a lower limit since features are positive
        if into.integer:
            divide(power, into.scale, power)
            smaller(power, into.highest, power)
            add(power, into.rounder, power)
            into.view[everything] = rounded
        else:
            into.view[everything] = power
        graph.advance()
        # Mask
        if out.integer:
            places[everything] = codes
            table.take(places, None, gains, "clip")  # never clips, but the default would buffer
        else:
            gains[everything] = codes
        multiply(spectrum, gains, spectrum)
        # Overlap-add
        inverse(spectrum, share, long)
        multiply(back, weights, back)
        enhanced = add(rising, pending)
        waiting[everything] = falling
        return enhanced

    return process


class StreamEnhancer:
    """Sound in, enhanced sound out, through one stream model."""

    def __init__(self, path: str | Path, threads: int = 1, delegate: bool = True) -> None:
        self.graph = StreamGraph(path, threads, delegate)
        frontend = self.graph.description["frontend"]
        self.stft: Chunks | Stft = Chunks(frontend) if frontend["kind"] == "wave" else Stft(frontend)
        sides = (("takes", self.graph.bins, self.stft.inputs), ("gives", self.graph.mask.size, self.stft.outputs))
        for verb, found, wanted in sides:
            if found != wanted:
                raise AgentError(f"{path}: the graph {verb} {found} values a frame, the frontend has {wanted}")
        self.rate, self.hop, self.delay = self.stft.rate, self.stft.hop, self.stft.delay
        # The shortcut for one hop knows the usual frontend only.
        stft = self.stft if isinstance(self.stft, Stft) and self.stft.usual else None
        self._one_hop = hop_path(stft, self.graph) if self.graph.direct and stft else None

    def reset(self) -> None:
        """Back to the start of a stream."""
        self.graph.reset()
        self.stft.reset()

    def process(self, block: np.ndarray) -> np.ndarray:
        """The next samples, float32 `[hops * hop]` in and out; what comes out is `delay` samples late.

        Of several microphones, `[hops * hop, channels]` goes in.
        """
        if len(block) == self.hop and self._one_hop:
            return self._one_hop(block)
        spectrum = self.stft.analyse(block)
        output = self.graph.run(self.stft.features(spectrum))
        return self.stft.synthesise(self.stft.apply(spectrum, output))

    def enhance(self, noisy: np.ndarray) -> np.ndarray:
        """A whole signal float32 `[samples]`, from a fresh state; the output is aligned and of equal length.

        Of several microphones, `[samples, channels]` goes in.
        """
        self.reset()
        noisy = np.asarray(noisy, np.float32)
        hops = -(-(len(noisy) + self.delay) // self.hop)
        padded = np.zeros((hops * self.hop, *noisy.shape[1:]), np.float32)
        padded[: len(noisy)] = noisy
        size = BLOCK_HOPS * self.hop
        blocks = [self.process(padded[start : start + size]) for start in range(0, len(padded), size)]
        return np.concatenate(blocks)[self.delay : self.delay + len(noisy)]


def delegate_coverage(interpreter: Any) -> tuple[int, int, list[str]]:
    """(operators run inside a delegate, operators in all, names of the others).

    The operators a delegate replaced stay listed; one is inside when walking back from a delegate's outputs meets it
    before the delegate's inputs.
    """
    listed = interpreter._get_ops_details()
    operators = [item for item in listed if "delegate" not in item["op_name"].lower()]
    maker = {int(output): number for number, item in enumerate(operators) for output in item["outputs"]}
    inside: set[int] = set()
    for part in listed:
        if "delegate" not in part["op_name"].lower():
            continue
        borders = {int(tensor) for tensor in part["inputs"]}
        waiting = [int(tensor) for tensor in part["outputs"]]
        while waiting:
            number = maker.get(waiting.pop())
            if number is None or number in inside:
                continue
            inside.add(number)
            waiting += [int(tensor) for tensor in operators[number]["inputs"] if int(tensor) not in borders]
    outside = [item["op_name"] for number, item in enumerate(operators) if number not in inside]
    return len(inside), len(operators), sorted(outside)


def arena_bytes(path: str) -> int:
    """Working memory of the plain kernels: the address span of every tensor that is no constant.

    Buffers of a delegate are its own and are not seen; this is what an interpreter without one reserves.
    """
    model = read_model(path)
    held = [bool(buffer.blob(0)) or buffer.field(1) is not None for buffer in model.tables(4)]
    interpreter = open_interpreter(path, 1, delegate=False)
    spans = []
    for index, tensor in enumerate(model.tables(2)[0].tables(0)):
        spot = tensor.field(2)
        if held[tensor.number("<I", spot) if spot else 0]:
            continue
        try:
            view = interpreter.tensor(index)()
        except ValueError:  # optimised away, never allocated
            continue
        spans.append((_address(view), _address(view) + view.nbytes))
    return max(end for _, end in spans) - min(start for start, _ in spans) if spans else 0


def peak_memory() -> int:
    """Peak resident bytes of this process. Linux's own mark, because getrusage's also counts the parent before exec."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def processor() -> str:
    """The CPU's name, as the system tells it; on a board without one, the board's."""
    for path, keys in (("/proc/cpuinfo", ("model name", "Model", "Hardware")), ("/proc/device-tree/model", ("",))):
        try:
            lines = Path(path).read_text(errors="replace").splitlines()
        except OSError:
            continue
        for line in lines:
            if line.startswith(keys):
                return line.split(":", 1)[-1].strip(" \t\0")
    return platform.processor() or platform.machine()


def read_text(path: Path) -> str:
    """A small file of the system's, stripped; empty where there is none."""
    try:
        return path.read_text(errors="replace").strip(" \t\n\0")
    except OSError:
        return ""


class Conditions:
    """How hot and how fast the machine is between repeats, and whether it was held back.

    A Raspberry Pi's firmware says so itself (get_throttled: bits 0 to 3 now, 16 to 19 the same since it was switched
    on, https://www.raspberrypi.com/documentation/computers/os.html#get_throttled); elsewhere the kernel's cooling of
    the clock is looked at. `root` is where /sys hangs.
    """

    HELD_BACK = ("under-voltage", "clock capped", "throttled", "soft temperature limit")
    ZONES = ("cpu", "soc", "pkg", "bcm2835")

    def __init__(self, core: int = 0, root: Path = Path("/")) -> None:
        system = root / "sys"
        thermal = system / "class" / "thermal"
        self._clock = system / f"devices/system/cpu/cpu{core}/cpufreq/scaling_cur_freq"
        self._flags = sorted(system.glob("devices/platform/soc*/*firmware/get_throttled"))
        self._zones = [
            zone / "temp"
            for zone in sorted(thermal.glob("thermal_zone*"))
            if any(word in read_text(zone / "type").lower() for word in self.ZONES)
        ]
        self._coolers = [
            cooler / "cur_state"
            for cooler in sorted(thermal.glob("cooling_device*"))
            if "cpufreq" in read_text(cooler / "type")
        ]
        self._vcgencmd = shutil.which("vcgencmd")
        self.samples: list[dict[str, Any]] = []

    def look(self) -> None:
        """Takes a sample."""
        degrees = [int(text) / 1e3 for text in map(read_text, self._zones) if _is_number(text)]
        # The kernel's clock is what it asked for; what a Pi's firmware made of it only the firmware knows.
        hertz, kilohertz = self._ask("measure_clock", "arm"), read_text(self._clock)
        clock = int(hertz) / 1e6 if _is_number(hertz) else int(kilohertz) / 1e3 if _is_number(kilohertz) else None
        flags = read_text(self._flags[0]) if self._flags else self._ask("get_throttled")
        states = [int(text) for text in map(read_text, self._coolers) if _is_number(text)]
        self.samples.append(
            {
                "temperature_c": max(degrees) if degrees else None,
                "clock_mhz": clock,
                "flags": int(flags, 16) if flags else None,
                "cooling": max(states) if states else None,
            }
        )

    def held_back(self) -> list[str] | None:
        """What held the clock back while the samples were taken; None where the machine cannot tell."""
        flags = [sample["flags"] for sample in self.samples if sample["flags"] is not None]
        cooling = [sample["cooling"] for sample in self.samples if sample["cooling"] is not None]
        if not flags and not cooling:
            return None
        seen = 0
        for now in flags:
            seen |= now | (now & ~flags[0]) >> 16
        reasons = [reason for bit, reason in enumerate(self.HELD_BACK) if seen >> bit & 1]
        return reasons + ["kernel cooling"] * (max(cooling, default=0) > 0)

    def _ask(self, *question: str) -> str:
        """The value vcgencmd gives, e.g. `50000` of `throttled=0x50000`; empty where it is not there or refuses."""
        if not self._vcgencmd:
            return ""
        try:
            asked = subprocess.run([self._vcgencmd, *question], capture_output=True, text=True, timeout=5, check=True)
        except (OSError, subprocess.SubprocessError):
            return ""
        what, _, value = asked.stdout.strip().partition("=")
        return value if what.startswith(("throttled", "frequency")) else ""  # else `error=1 error_msg=...`


def device_identity(root: Path = Path("/")) -> str:
    """What tells this machine from others of its kind without naming it; empty where it has nothing to tell by.

    A digest of the system's id, which must not be told as it is (machine-id(5)), and of the board's serial number and
    model: systems are copied from one card to the next, ids included.
    """
    places = "etc/machine-id", "proc/device-tree/serial-number", "proc/device-tree/model"
    system, serial, model = (read_text(root / place) for place in places)
    system = "" if system == "uninitialized" else system
    if not system and not serial:
        return ""
    return hmac.new("\n".join((system, serial, model)).encode(), b"earshot", "sha256").hexdigest()[:16]


def _is_number(text: str) -> bool:
    return text.lstrip("-").isdigit()


def environment(threads: int, delegate: bool) -> dict[str, Any]:
    """What the figures were taken on and with."""
    runtime = load_runtime().__name__.split(".")[0]
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    clock = Path(f"/sys/devices/system/cpu/cpu{max(cores, default=0)}/cpufreq")
    return {
        "runtime": RUNTIMES[runtime],
        "runtime_version": version_of(RUNTIMES[runtime]),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "cpu": processor(),
        "board": read_text(Path("/proc/device-tree/model")),
        "device": device_identity(),
        "machine": platform.machine(),
        "system": platform.platform(),
        "governor": read_text(clock / "scaling_governor"),
        "cores": cores,
        "threads": threads,
        "delegate": delegate,
    }


def spread(nanoseconds: list[int]) -> dict[str, float]:
    """Quantiles in microseconds."""
    micro = np.asarray(nanoseconds, np.float64) / 1e3
    figures = [micro.min(), *np.percentile(micro, [50, 95, 99]), micro.max(), micro.mean()]
    return {name: round(float(value), 3) for name, value in zip(("min", "p50", "p95", "p99", "max", "mean"), figures)}  # noqa: B905


def histogram(nanoseconds: list[int], bins_an_octave: int = 8) -> dict[str, list[float]]:
    """Counts over microseconds in logarithmic bins: `counts[i]` frames in [`edges_us[i]`, `edges_us[i + 1]`)."""
    micro = np.maximum(np.asarray(nanoseconds, np.float64) / 1e3, 1e-3)
    places = np.floor(np.log2(micro) * bins_an_octave).astype(int)
    edges = 2.0 ** (np.arange(places.min(), places.max() + 2) / bins_an_octave)
    return {"edges_us": edges.tolist(), "counts": np.bincount(places - places.min()).tolist()}


def deadline_misses(nanoseconds: list[int], hop_seconds: float) -> int:
    """Frames that took longer than the sound they hold."""
    return int(np.count_nonzero(np.asarray(nanoseconds) > hop_seconds * 1e9))


def swinging_noise(samples: int, rate: int) -> np.ndarray:
    """Noise with the slow swing of speech, the same on every machine."""
    noise = np.random.RandomState(0).standard_normal(samples).astype(np.float32)
    return noise * (0.05 + 0.05 * np.sin(2 * np.pi * 4 * np.arange(samples, dtype=np.float32) / rate))


def every_microphone(sound: np.ndarray, enhancer: StreamEnhancer) -> np.ndarray:
    """One microphone's sound as it reaches all, a few samples apart: `[samples]` or `[samples, channels]`."""
    count = enhancer.stft.channels
    return sound if count == 1 else np.stack([np.roll(sound, 3 * number) for number in range(count)], axis=1)


def read_sound(path: str, samples: int) -> np.ndarray:
    """Raw float32 samples, repeated to the length asked for. Raises AgentError."""
    try:
        sound = np.fromfile(path, "<f4")
    except OSError as error:
        raise AgentError(f"{path}: cannot be read ({error.strerror})", "check the path") from error
    if not len(sound) or not np.isfinite(sound).all():
        raise AgentError(f"{path}: no finite float32 samples in it", "give raw float32 mono at the model's rate")
    return np.resize(sound, samples)


def profile(
    path: str,
    *,
    frames: int = 500,
    repeats: int = 5,
    warmup: int = 50,
    threads: int = 1,
    delegate: bool = True,
    audio: str | None = None,
    emit: Callable[[dict[str, Any]], object] = lambda event: None,
    wait: Callable[[], object] = lambda: None,
) -> dict[str, Any]:
    """Times a model: hop by hop, as a device in real time runs it, and a whole signal in blocks, as a file is enhanced.

    Args:
        path: the .tflite.
        frames, repeats: timed frames of one repeat, and how many repeats; each starts a fresh stream.
        warmup: frames run before each repeat and not timed.
        audio: raw float32 file to run, noise when None.
        emit: receives one dictionary after each repeat.
        wait: called before each repeat; another model's repeat may run meanwhile.

    Returns:
        The result. Hop by hop, over all repeats: `graph_us` (one invoke), `path_us` (sound to sound), deadline misses
        of the whole path, a histogram of invokes. Real-time factors, the median of the repeats: `rtf` of the whole
        signal, `hop_rtf` hop by hop, `graph_rtf` of the invokes alone. Memory and delegate coverage. `conditions`
        before the first and after every repeat, and `held_back`: why the clock was, `[]` if not, None if unknown.
    """
    base_memory = peak_memory()
    conditions = Conditions(max(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0)
    enhancer = StreamEnhancer(path, threads, delegate)
    count = (frames + warmup) * enhancer.hop
    sound = every_microphone(read_sound(audio, count) if audio else swinging_noise(count, enhancer.rate), enhancer)
    hops = list(sound.reshape(-1, enhancer.hop, *sound.shape[1:]))
    graph_ns, clock, process = enhancer.graph.time_invokes(), time.perf_counter_ns, enhancer.process
    all_graph: list[int] = []
    all_path: list[int] = []
    rtfs, hop_rtfs, graph_rtfs = [], [], []
    by_repeat: list[dict[str, float]] = []
    seconds = frames * enhancer.hop / enhancer.rate
    conditions.look()
    for repeat in range(repeats):
        wait()
        enhancer.reset()
        gc.collect()
        gc.disable()
        for hop in hops[:warmup]:
            process(hop)
        del graph_ns[:]
        path_ns = []
        for hop in hops[warmup:]:
            start = clock()
            process(hop)
            path_ns.append(clock() - start)
        all_path += path_ns
        all_graph += graph_ns
        hop_rtfs.append(sum(path_ns) / 1e9 / seconds)
        graph_rtfs.append(sum(graph_ns) / 1e9 / seconds)
        start = clock()
        enhancer.enhance(sound[warmup * enhancer.hop :])
        rtfs.append((clock() - start) / 1e9 / seconds)
        gc.enable()
        conditions.look()
        quantiles = spread(all_graph[-frames:])
        rates = {"rtf": rtfs[-1], "hop_rtf": hop_rtfs[-1], "graph_rtf": graph_rtfs[-1]}
        by_repeat.append({**rates, **{f"frame_{name}_us": quantiles[name] for name in ("p50", "p95", "p99")}})
        emit(
            {
                "event": "repeat",
                "index": repeat,
                "repeats": repeats,
                "rtf": rtfs[-1],
                "graph_us": quantiles,
                "conditions": conditions.samples[-1],
            }
        )
    peak = peak_memory()
    covered, operators, outside = delegate_coverage(enhancer.graph._interpreter)
    return {
        "event": "result",
        "model": path,
        "precision": enhancer.graph.description.get("precision", ""),
        "frames": len(all_path),
        "repeats": repeats,
        "hop_us": enhancer.hop / enhancer.rate * 1e6,
        "graph_us": spread(all_graph),
        "path_us": spread(all_path),
        "rtf": float(np.median(rtfs)),
        "hop_rtf": float(np.median(hop_rtfs)),
        "graph_rtf": float(np.median(graph_rtfs)),
        "by_repeat": by_repeat,
        "deadline_misses": deadline_misses(all_path, enhancer.hop / enhancer.rate),
        "peak_rss_bytes": peak,
        "base_rss_bytes": base_memory,
        "arena_bytes": arena_bytes(path),
        "delegate_coverage": covered / operators,
        "operators": operators,
        "undelegated": {name: outside.count(name) for name in outside},
        "histogram": histogram(all_graph),
        "conditions": conditions.samples,
        "held_back": conditions.held_back(),
        "environment": environment(threads, delegate),
    }


class Runner:
    """One model of a race in one round: a stream of its own, its invokes timed."""

    def __init__(self, path: str, threads: int, delegate: bool) -> None:
        self.enhancer = StreamEnhancer(path, threads, delegate)
        self.graph_ns = self.enhancer.graph.time_invokes()
        self.kept: list[int] = []
        self.hop_seconds, self.block_seconds, self.hops, self.block_hops = 0.0, 0.0, 0, 0
        size = RACE_SOUND_HOPS * self.enhancer.hop
        self.sound = every_microphone(swinging_noise(size, self.enhancer.rate), self.enhancer)
        self.all_hops = list(self.sound.reshape(-1, self.enhancer.hop, *self.sound.shape[1:]))

    def turn(self, start: int, count: int, spent: Callable[[], float]) -> None:
        """Runs `count` hops one by one, then about as many as a block; before that a few untimed ones bring the model
        back into the caches. Where a hop takes long neither is more than a few: the call's own cost is nothing there.
        """
        process, warmup = self.enhancer.process, min(RACE_WARMUP, count)
        block = max(2, min(BLOCK_HOPS, count))  # of one hop would take the way of single hops
        hops = [self.all_hops[(start + number) % RACE_SOUND_HOPS] for number in range(count + warmup)]
        for hop in hops[:warmup]:
            process(hop)
        del self.graph_ns[:]
        begun = spent()
        for hop in hops[warmup:]:
            process(hop)
        self.hop_seconds += spent() - begun
        self.kept += self.graph_ns
        begun = spent()
        process(self.sound[: block * self.enhancer.hop])
        self.block_seconds += spent() - begun
        self.hops, self.block_hops = self.hops + count, self.block_hops + block

    def figures(self) -> dict[str, float]:
        """The round's: quantiles of the invokes by the wall clock, real-time factors by the processor's."""
        hop = self.enhancer.hop / self.enhancer.rate
        quantiles = spread(self.kept)
        return {
            **{f"frame_{name}_us": quantiles[name] for name in ("p50", "p95", "p99")},
            "hop_rtf": self.hop_seconds / (self.hops * hop),
            "rtf": self.block_seconds / (self.block_hops * hop),
        }


def race(
    paths: list[str],
    *,
    frames: int = 256,
    threads: int = 1,
    delegate: bool = True,
    emit: Callable[[dict[str, Any]], object] = lambda event: None,
    asked: Callable[[], object] = sys.stdin.readline,
) -> None:
    """Runs two models by turns, round after round, as long as one is asked for.

    A round opens both anew, the one first that came second before, among memory of random size: where a model happens
    to lie decides some per cent of its speed, and would stay the same for as long as it is open. Turns follow each
    other as A B B A, each of about `RACE_TURN_SECONDS`: below a scheduler's slice and the wandering of a clock, so that
    other work on the machine meets both alike. Real-time factors are of processor time where one thread runs, which
    does not count what others had; a quantile of single frames is hardly touched by them, frames being shorter than
    slices. A round of slow models ends after `RACE_ROUND_SECONDS`, though not before `RACE_FEWEST_TURNS`: rounds are
    what counts, and many short ones tell more than a few long ones.

    Args:
        paths: the two models.
        frames: timed hops of each model in a round, at most.
        emit: receives the figures of both after each round.
        asked: called before each round; what is empty, as at the end of standard input, ends the race.
    """
    spent = time.thread_time if threads == 1 else time.perf_counter
    chance = random.Random(0)
    index, length = 0, 0
    while asked():
        order = (0, 1) if index % 2 == 0 else (1, 0)
        ballast = []
        runners: dict[int, Runner] = {}
        for number in order:
            ballast.append(bytearray(chance.randrange(RACE_BALLAST_BYTES)))
            runners[number] = Runner(paths[number], threads, delegate)
        gc.collect()
        gc.disable()
        if not length:
            length = turn_length(list(runners.values()), frames)
        begun = time.perf_counter()
        for turn in range(-(-frames // length)):
            late = time.perf_counter() - begun > RACE_ROUND_SECONDS
            if late and turn >= RACE_FEWEST_TURNS and turn % 2 == 0:
                break
            for number in order if turn % 2 == 0 else order[::-1]:
                runners[number].turn(turn * length, length, spent)
        gc.enable()
        emit({"event": "round", "index": index, "models": [runners[number].figures() for number in (0, 1)]})
        index += 1


def turn_length(runners: list[Runner], frames: int) -> int:
    """Hops of one turn, so that it takes about `RACE_TURN_SECONDS` with the slower model."""
    slowest = 0.0
    for runner in runners:
        taken = []
        for hop in runner.all_hops[:8]:
            start = time.perf_counter()
            runner.enhancer.process(hop)
            taken.append(time.perf_counter() - start)
        slowest = max(slowest, float(np.median(taken)))
    return max(1, min(frames, int(RACE_TURN_SECONDS / slowest)))


def emit(event: dict[str, Any]) -> None:
    """One line of JSON on standard output, at once."""
    print(json.dumps(event), flush=True)


def pin(core: str, threads: int = 1) -> None:
    """Keeps this process, and the threads it will start, on one core; `last`: on as many of the last it may use.

    Raises:
        AgentError: the core cannot be used, or there are fewer cores than threads.
    """
    if not hasattr(os, "sched_setaffinity"):
        raise AgentError("this system cannot pin a process to a core", "leave out --core", exit_code=3)
    allowed = sorted(os.sched_getaffinity(0))
    if core != "last" and threads > 1:
        raise AgentError(f"{threads} threads were asked for on one core, {core}", "leave out the core, or use 1 thread")
    if threads > len(allowed):
        raise AgentError(
            f"{threads} threads need as many cores, this process may use {allowed}", "use fewer threads", 3
        )
    try:
        os.sched_setaffinity(0, set(allowed[-threads:]) if core == "last" else {int(core)})
    except (OSError, ValueError) as error:
        raise AgentError(f"core {core} cannot be used, this process may use {allowed}", "choose one of them") from error


def die_with_parent() -> None:
    """Linux kills this process when the thread that started it ends, however that happens; elsewhere nothing does."""
    if sys.platform == "linux":
        ctypes = importlib.import_module("ctypes")  # small systems leave it out
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def next_turn() -> None:
    """Waits for a line on standard input; ends this process when whoever paced it has gone."""
    if not sys.stdin.readline():
        sys.exit(3)


def stored_frames(enhancer: StreamEnhancer, count: int) -> np.ndarray:
    """Frames `[count, bins]` of swinging noise, as the graph stores them."""
    sound = every_microphone(swinging_noise(count * enhancer.hop, enhancer.rate), enhancer)
    return enhancer.graph.frame.encode(enhancer.stft.features(enhancer.stft.analyse(sound)))


def trace(graph: StreamGraph, frames: np.ndarray) -> np.ndarray:
    """Masks `[frames, bins]` as the graph stores them, from a fresh state, of stored frames `[frames, bins]`."""
    graph.reset()
    return graph.mask.encode(graph.run(graph.frame.decode(frames)))  # exact: storing undoes reading


def trace_line(model: str, line: str, threads: int, delegate: bool) -> dict[str, Any]:
    """The result of `trace` for raw stored frames in base64; the masks are in base64, too. Raises AgentError."""
    graph = StreamGraph(model, threads, delegate)
    try:
        stored = np.frombuffer(base64.b64decode(line, validate=True), graph.frame.dtype).reshape(-1, graph.bins)
    except ValueError as error:
        raise AgentError(f"standard input holds no whole frames of {graph.bins} values ({error})") from error
    masks = trace(graph, stored)
    return {
        "event": "result",
        "model": model,
        "dtype": str(masks.dtype),
        "shape": list(masks.shape),
        "masks": base64.b64encode(masks.tobytes()).decode(),
    }


def main(arguments: list[str] | None = None) -> int:
    """The command line. Returns the exit code."""
    parser = argparse.ArgumentParser(description="Times and runs a streaming .tflite where it ships.")
    commands = parser.add_subparsers(dest="command", required=True)
    timing, racing, tracing = (commands.add_parser(name) for name in ("profile", "race", "trace"))
    for command in (timing, tracing):
        command.add_argument("model")
    for command in (timing, racing):
        command.add_argument("--core", help="pin to this core, or to the `last`: as many as threads")
        command.add_argument("--die-with-parent", action="store_true", help="be killed when whoever started this ends")
    for command in (timing, racing, tracing):
        command.add_argument("--threads", type=int, default=1)
        command.add_argument("--no-delegate", action="store_true", help="plain kernels, no XNNPACK")
    timing.add_argument("--frames", type=int, default=500, help="timed frames of a repeat")
    timing.add_argument("--repeats", type=int, default=5)
    timing.add_argument("--warmup", type=int, default=50, help="untimed frames before a repeat")
    timing.add_argument("--audio", help="raw float32 mono samples at the model's rate")
    timing.add_argument("--paced", action="store_true", help="wait for a line on standard input before each repeat")
    racing.add_argument("models", nargs=2, metavar="MODEL", help="the base and the candidate")
    racing.add_argument("--frames", type=int, default=256, help="timed frames of each model in a round, at most")
    options = parser.parse_args(arguments)
    delegate = not options.no_delegate
    try:
        if options.threads < 1:
            raise AgentError("threads must be at least 1")
        if options.command == "trace":
            emit(trace_line(options.model, sys.stdin.readline().strip(), options.threads, delegate))
            return 0
        if options.frames < 1 or (options.command == "profile" and (options.repeats < 1 or options.warmup < 0)):
            raise AgentError("frames and repeats must be at least 1, warmup at least 0")
        if options.die_with_parent:
            die_with_parent()
        if options.core is not None:
            pin(options.core, options.threads)
        given = {"models": options.models} if options.command == "race" else {"model": options.model}
        emit({"event": "start", **given, "environment": environment(options.threads, delegate)})
        if options.command == "race":
            race(options.models, frames=options.frames, threads=options.threads, delegate=delegate, emit=emit)
            return 0
        result = profile(
            options.model,
            frames=options.frames,
            repeats=options.repeats,
            warmup=options.warmup,
            threads=options.threads,
            delegate=delegate,
            audio=options.audio,
            emit=emit,
            wait=next_turn if options.paced else lambda: None,
        )
        emit(result)
    except AgentError as error:
        emit({"event": "error", "message": error.message, "hint": error.hint})
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
