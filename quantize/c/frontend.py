"""The streaming frontend in C: window, FFT, features and mask around a generated network, on the device itself.

    sound -> NAME_analyse -> frame -> NAME_step (the network) -> mask -> NAME_synthesise -> sound

`stft/frontend.c` is the arithmetic of `models/frontend.py` one hop at a time; what depends on the model is generated:
sizes and quantisation in the network's `NAME.h`, types in `NAME_frontend.h`, tables in `NAME_frontend_tables.h`.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from earshot.core.errors import ModelError
from earshot.core.files import write_atomic
from earshot.models.frontend import FEATURE_EPSILON, Frontend
from earshot.quantize.graph import Graph, TensorInfo
from earshot.quantize.metadata import StreamDescription, description_of

SOURCES = Path(__file__).with_name("stft")
C_TYPES = {"int8": "int8_t", "int16": "int16_t"}

HEADER = """\
/* Sound in, enhanced sound out, one hop at a time. Samples are floats, full scale is 1.
 *
 *     model_reset();                   the network's states: a new stream
 *     model_frontend_reset();          the frontend's
 *     model_enhance(hop, enhanced);    every {hop} / {rate} s; what comes out is {delay} samples late
 */
#ifndef MODEL_FRONTEND_H
#define MODEL_FRONTEND_H

#include <stdint.h>

#include "model.h"

#define MODEL_BINS {bins}
#define MODEL_CHANNELS {channels} /* microphones; the first is the one that is enhanced */
#define MODEL_COMPLEX_FEATURES {complex_features}
#define MODEL_LOG_FEATURES {log_features}
#define MODEL_COMPLEX_MASK {complex_mask}
#define MODEL_DELAY {delay} /* samples from an input sample to its enhanced form */
#define MODEL_EPSILON {epsilon} /* on power, before compression */

/* What frames and masks are made of. */
typedef {c_type} model_value_t;
#define MODEL_VALUE_MIN ({smallest})
#define MODEL_VALUE_MAX {largest}

void model_frontend_reset(void);
/* hop: the next samples, those of all microphones side by side. frame: the network's input. */
void model_analyse(const float hop[MODEL_HOP * MODEL_CHANNELS], model_value_t frame[MODEL_FRAME_SIZE]);
/* mask: the network's output for the frame analysed last. hop: enhanced samples. */
void model_synthesise(const model_value_t mask[MODEL_MASK_SIZE], float hop[MODEL_HOP]);

/* One hop through analysis, network and synthesis. `hop` and `enhanced` may be the same array. */
void model_enhance(const float hop[MODEL_HOP * MODEL_CHANNELS], float enhanced[MODEL_HOP]);
/* What it passed to the network last, and what came back. */
extern model_value_t model_frame[MODEL_FRAME_SIZE], model_mask[MODEL_MASK_SIZE];

#endif
"""

TABLES = """\
/* Constants of the frontend, in flash. */
#ifndef MODEL_FRONTEND_TABLES_H
#define MODEL_FRONTEND_TABLES_H

#include <stdint.h>

/* The FFT's stages. */
#define MODEL_STAGES {stages}
static const uint8_t model_radices[MODEL_STAGES] = {radices};

/* Square-root Hann. */
static const float model_window[{window}] = {window_values};

/* exp(-2 pi i k / {half}) */
static const float model_twiddles[{half}][2] = {twiddle_values};

/* exp(-2 pi i k / {fft}) */
static const float model_split[{splits}][2] = {split_values};

#endif
"""


def write_frontend(graph: Graph, out: Path, name: str = "model") -> list[Path]:
    """Writes `NAME_frontend.h`, `.c` and the headers these include, for a network generated as `name`.

    Raises:
        ModelError: the graph is no integer stream model, or its frontend cannot be written in C.
    """
    description = description_of(graph)
    frontend = description.frontend
    texts = {
        f"{name}_frontend.h": _header(graph, description),
        f"{name}_frontend_quantize.h": (SOURCES / "frontend_quantize.h").read_text(),
    }
    if frontend.kind == "wave":
        texts[f"{name}_frontend.c"] = (SOURCES / "chunks.c").read_text()
    else:
        texts[f"{name}_frontend_tables.h"] = _tables(frontend, graph.source)
        texts[f"{name}_frontend.c"] = (SOURCES / "frontend.c").read_text()
    for file, text in texts.items():
        write_atomic(out / file, _renamed(text, name))
    return [out / file for file in texts]


_LARGEST = 32768  # half an FFT; the C code's indices are far from overflow
_LARGEST_RADIX = 255


def radices(length: int) -> list[int]:
    """Stages of an FFT: fours first, then a two, then the odd primes in rising order."""
    found = []
    for factor in (4, 2):
        while length % factor == 0:
            found.append(factor)
            length //= factor
    factor = 3
    while length > 1:
        if length % factor == 0:
            found.append(factor)
            length //= factor
        else:
            factor += 2
    return found


def _header(graph: Graph, description: StreamDescription) -> str:
    frontend = description.frontend
    frame = _port(graph, graph.inputs[description.input], frontend.bins * frontend.inputs)
    mask = _port(graph, graph.outputs[description.output], frontend.bins * frontend.outputs)
    if frame.dtype != mask.dtype:
        raise ModelError(f"{graph.source}: the frame is {frame.dtype} and the mask {mask.dtype}; they must be alike")
    return HEADER.format(
        rate=frontend.rate,
        hop=frontend.hop,
        delay=frontend.delay_samples,
        epsilon=_float(FEATURE_EPSILON),
        c_type=C_TYPES[frame.dtype],
        smallest=np.iinfo(frame.dtype).min,
        largest=np.iinfo(frame.dtype).max,
        bins=frontend.bins,
        channels=frontend.channels,
        complex_features=int(frontend.features == "complex"),
        log_features=int(frontend.features == "log1p"),
        complex_mask=int(frontend.mask == "complex"),
    )


def _port(graph: Graph, index: int, size: int) -> TensorInfo:
    tensor = graph.tensors[index]
    if tensor.dtype not in C_TYPES or tensor.quantization is None:
        hint = "convert it to int8 or int16x8"
        raise ModelError(f"{graph.source}: tensor '{tensor.name}' is {tensor.dtype}, C is made of integers", hint)
    if int(np.prod(tensor.shape)) != size:
        raise ModelError(f"{graph.source}: tensor '{tensor.name}' is {tensor.shape}, the frontend has {size} values")
    return tensor


def _tables(frontend: Frontend, source: str) -> str:
    if frontend.fft % 2 or not 4 <= frontend.fft <= 2 * _LARGEST:
        limits = f"fft is {frontend.fft}; the C frontend takes even sizes from 4 to {2 * _LARGEST}"
        raise ModelError(f"{source}: {limits}", "train with an fft of a power of two")
    half = frontend.fft // 2
    stages = radices(half)
    if max(stages) > _LARGEST_RADIX:
        raise ModelError(
            f"{source}: fft {frontend.fft} has the prime factor {max(stages)}, too large for an FFT", _PRIMES
        )
    splits = half // 2 + 1
    return TABLES.format(
        stages=len(stages),
        radices="{" + ", ".join(map(str, stages)) + "}",
        window=frontend.window,
        window_values=_floats(frontend.window_array()),
        half=half,
        twiddle_values=_complex(np.exp(-2j * np.pi * np.arange(half) / half)),
        fft=frontend.fft,
        splits=splits,
        split_values=_complex(np.exp(-2j * np.pi * np.arange(splits) / frontend.fft)),
    )


_PRIMES = "train with an fft of small factors, best a power of two"


def _renamed(text: str, name: str) -> str:
    """The text with the prefix of its names changed from `model` to `name`."""
    text = re.sub(r"\bmodel(?=_|\.h)", name, text)
    return re.sub(r"\bMODEL_", f"{name.upper()}_", text)


def _float(value: float) -> str:
    """A float32 as a C literal that reads back to the same bits."""
    return np.format_float_scientific(np.float32(value), unique=True, trim="0") + "f"


def _floats(values: np.ndarray) -> str:
    return _lines([_float(value) for value in values], 8)


def _complex(values: np.ndarray) -> str:
    return _lines([f"{{{_float(value.real)}, {_float(value.imag)}}}" for value in values], 4)


def _lines(items: list[str], width: int) -> str:
    rows = [", ".join(items[start : start + width]) for start in range(0, len(items), width)]
    return "{\n    " + ",\n    ".join(rows) + "\n}"
