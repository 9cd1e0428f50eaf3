"""One function an operator: adds it to a graph with random sizes and options, on tensors that are there already."""

from __future__ import annotations

import numpy as np

from .builder import TYPES, Builder

NONE, RELU, RELU6 = 0, 1, 3


def pick(b: Builder, rank: int | None = None) -> int:
    """A tensor computed before, brought to a rank of four where that is asked for."""
    found = [index for index in b.made if rank is None or len(b.shape(index)) == rank]
    return int(b.draw.choice(found))


def weights(b: Builder, shape, axis: int) -> int:
    values = b.draw.integers(-127, 128, shape).astype(np.int8)
    scales = b.draw.uniform(0.5, 1.5, shape[axis]) * 2**-7 / np.sqrt(np.prod(shape) / shape[axis])
    return b.tensor(shape, "int8", scale=scales, data=values, axis=axis)


def bias(b: Builder, source: int, weight: int, channels: int) -> int:
    """Biases on the grid of sums, which LiteRT asks for where there is one channel."""
    scale = b.scale(source) * np.asarray(b.tensors[weight].quantization.scale, np.float64)
    dtype = "int32" if b.dtype == "int8" else "int64"
    return b.tensor([channels], dtype, scale=scale, data=b.draw.integers(-3000, 3000, channels).astype(dtype))


def activation(b: Builder) -> int:
    return int(b.draw.choice([NONE, RELU, RELU6]))


def image(b: Builder) -> int:
    """A rank-4 tensor worth convolving."""
    found = [i for i in b.made if len(b.shape(i)) == 4 and b.shape(i)[2] > 2]
    return int(b.draw.choice(found))


def conv(b: Builder) -> int:
    source = image(b)
    batches, height, width, channels = b.shape(source)
    kernel = int(b.draw.integers(1, min(height, 3) + 1)), int(b.draw.integers(1, min(width, 5) + 1))
    stride = int(b.draw.integers(1, 3)), int(b.draw.integers(1, 3))
    dilation = 2 if b.draw.random() < 0.3 and (kernel[1] - 1) * 2 < width else 1
    same = b.draw.random() < 0.5
    rows = int(b.draw.integers(1, 10))
    groups = 2 if channels % 2 == 0 and rows % 2 == 0 and b.draw.random() < 0.3 else 1
    reach = kernel[0], (kernel[1] - 1) * dilation + 1
    size = [-(-(n if same else n - k + 1) // s) for n, k, s in zip((height, width), reach, stride, strict=True)]
    weight = weights(b, (rows, *kernel, channels // groups), 0)
    sink = b.activation([batches, *size, rows])
    return b.add(
        "CONV_2D", [source, weight, bias(b, source, weight, rows)], [sink], "Conv2DOptions", padding=0 if same else 1,
        strideH=stride[0], strideW=stride[1], dilationHFactor=1, dilationWFactor=dilation,
        fusedActivationFunction=activation(b),
    )  # fmt: skip


def depthwise(b: Builder) -> int:
    source = image(b)
    batches, height, width, channels = b.shape(source)
    kernel = int(b.draw.integers(1, min(height, 3) + 1)), int(b.draw.integers(1, min(width, 5) + 1))
    stride = int(b.draw.integers(1, 3))
    same = b.draw.random() < 0.5
    multiplier = int(b.draw.choice([1, 1, 2, 3]))
    size = [-(-(n if same else n - k + 1) // stride) for n, k in zip((height, width), kernel, strict=True)]
    weight = weights(b, (1, *kernel, channels * multiplier), 3)
    sink = b.activation([batches, *size, channels * multiplier])
    return b.add(
        "DEPTHWISE_CONV_2D", [source, weight, bias(b, source, weight, channels * multiplier)], [sink],
        "DepthwiseConv2DOptions",
        padding=0 if same else 1, strideH=stride, strideW=stride, depthMultiplier=multiplier, dilationHFactor=1,
        dilationWFactor=1, fusedActivationFunction=activation(b),
    )  # fmt: skip


def transposed(b: Builder) -> int:
    source = image(b)
    batches, height, width, channels = b.shape(source)
    kernel = int(b.draw.integers(1, 3)), int(b.draw.integers(1, 6))
    stride = int(b.draw.integers(1, 3)), int(b.draw.integers(1, 5))
    same = b.draw.random() < 0.5
    size = [n * s if same else (n - 1) * s + k for n, k, s in zip((height, width), kernel, stride, strict=True)]
    rows = int(b.draw.integers(1, 6))
    sink = b.activation([batches, *size, rows])
    shape = b.indices([batches, *size, rows])
    weight = weights(b, (rows, *kernel, channels), 0)
    inputs = [shape, weight, source]
    if b.draw.random() < 0.7:
        inputs.append(bias(b, source, weight, rows))
    return b.add(
        "TRANSPOSE_CONV", inputs, [sink], "TransposeConvOptions", padding=0 if same else 1, strideH=stride[0],
        strideW=stride[1],
    )  # fmt: skip


def padded_conv(b: Builder) -> int:
    """PAD in front of a convolution that alone reads it, with other amounts on every side."""
    source = image(b)
    batches, height, width, channels = b.shape(source)
    amounts = b.draw.integers(0, 3, (2, 2))
    size = [height + int(amounts[0].sum()), width + int(amounts[1].sum())]
    wide = b.like(source, [batches, *size, channels])
    b.add("PAD", [source, b.indices([[0, 0], *amounts.tolist(), [0, 0]])], [wide], "PadOptions")
    kernel = int(b.draw.integers(1, size[0] + 1)), int(b.draw.integers(1, min(size[1], 4) + 1))
    sink = b.activation([batches, size[0] - kernel[0] + 1, size[1] - kernel[1] + 1, channels])
    b.made.remove(wide)
    weight = weights(b, (1, *kernel, channels), 3)
    return b.add(
        "DEPTHWISE_CONV_2D", [wide, weight, bias(b, wide, weight, channels)], [sink],
        "DepthwiseConv2DOptions", padding=1, strideH=1, strideW=1, depthMultiplier=1, dilationHFactor=1,
        dilationWFactor=1, fusedActivationFunction=activation(b),
    )  # fmt: skip


def dense(b: Builder) -> int:
    source = pick(b)
    depth = b.shape(source)[-1]
    rows = int(b.draw.integers(1, 12))
    weight = weights(b, (rows, depth), 0)
    inputs = [source, weight, bias(b, source, weight, rows) if b.draw.random() < 0.7 else -1]
    sink = b.activation([*b.shape(source)[:-1], rows])
    return b.add(
        "FULLY_CONNECTED",
        inputs,
        [sink],
        "FullyConnectedOptions",
        keepNumDims=True,
        fusedActivationFunction=activation(b),
    )


def partner(b: Builder, source: int, *, same_scale: bool = False) -> int:
    """A second operand: of the same shape, a constant, a vector over channels, or one number."""
    shape = list(b.shape(source))
    kind = b.draw.integers(0, 4)
    if kind == 0:
        found = [i for i in b.made if b.shape(i) == tuple(shape)]
        if same_scale:
            other = b.like(source, shape)
            return b.add("QUANTIZE", [int(b.draw.choice(found))], [other], "QuantizeOptions")
        return int(b.draw.choice(found))
    if kind == 1:
        shape = [1] * (len(shape) - 1) + shape[-1:]
    elif kind == 2 and len(shape) > 1:
        shape = [*shape[:-1], 1]
    elif kind == 3:
        shape = []
    limits = np.iinfo(b.dtype)
    data = b.draw.integers(limits.min, limits.max + 1, shape).astype(b.dtype)
    scale, zero = b.scale(source), b.zero(source)
    if not same_scale:
        scale, zero = scale * float(b.draw.uniform(0.2, 1)), int(b.draw.integers(-128, 128)) if b.dtype == "int8" else 0
    return b.tensor(shape, scale=scale, zero=zero, data=data)


def arithmetic(name: str, options: str):
    def make(b: Builder) -> int:
        source = pick(b)
        other = partner(b, source)
        sink = b.activation(b.shape(source), scale=b.scale(source) * float(b.draw.uniform(0.3, 2)))
        values = {} if name == "SQUARED_DIFFERENCE" else {"fusedActivationFunction": activation(b)}
        if name in ("ADD", "SUB"):
            values["potScaleInt16"] = False
        operands = [source, other] if b.draw.random() < 0.7 else [other, source]
        return b.add(name, operands, [sink], options, **values)

    return make


def quotient(b: Builder) -> int:
    """DIV by a constant that is nowhere zero, which the reference refuses.

    Its scale is so small that the reference never shifts by more than 31 bits, which C leaves undefined.
    """
    source = pick(b)
    limits, zero = np.iinfo(b.dtype), int(b.draw.integers(-100, 100)) if b.dtype == "int8" else 0
    data = b.draw.integers(limits.min, limits.max + 1, b.shape(source)[-1:])
    data = np.where(data == zero, zero + 1, data).astype(b.dtype)
    sink = b.activation(b.shape(source))
    largest = 2**9 if b.dtype == "int8" else 2**17
    scale = b.scale(source) / (b.scale(sink) * largest)
    other = b.tensor(data.shape, scale=scale, zero=zero, data=data)
    return b.add("DIV", [source, other], [sink], "DivOptions", fusedActivationFunction=activation(b))


def extreme(name: str):
    def make(b: Builder) -> int:
        source = pick(b)
        other = partner(b, source, same_scale=True)
        return b.add(name, [source, other], [b.like(source, b.shape(source))], "MaximumMinimumOptions")

    return make


def curve(name: str, int8: tuple[float, int]):
    def make(b: Builder) -> int:
        source = pick(b)
        scale, zero = int8 if b.dtype == "int8" else (2.0**-15, 0)
        return b.add(name, [source], [b.activation(b.shape(source), scale=scale, zero=zero)])

    return make


def unary(name: str, options: str | None = None, **values):
    def make(b: Builder) -> int:
        source = pick(b)
        return b.add(name, [source], [b.activation(b.shape(source))], options, **values)

    return make


def prelu(b: Builder) -> int:
    source = pick(b)
    channels = b.shape(source)[-1]
    slope = b.tensor([channels], scale=0.01, zero=3, data=b.draw.integers(-128, 128, channels).astype(np.int8))
    return b.add("PRELU", [source, slope], [b.activation(b.shape(source))])


def root(b: Builder) -> int:
    """RSQRT of what is never below zero: a square."""
    source = pick(b)
    square = b.activation(b.shape(source), zero=-128)
    b.add("SQUARED_DIFFERENCE", [source, partner(b, source)], [square], "SquaredDifferenceOptions")
    return b.add("RSQRT", [square], [b.activation(b.shape(source), scale=0.02)])


FLOAT = {
    "LEAKY_RELU": ("LeakyReluOptions", {"alpha": 0.1}),
    "ABS": ("AbsOptions", {}),
    "RELU": (None, {}),
    "RELU6": (None, {}),
    "RELU_N1_TO_1": (None, {}),
}
FLOAT_TABLES = {
    "EXP": ("ExpOptions", {}),
    "LOGISTIC": (None, {}),
    "NEG": ("NegOptions", {}),
    "SQUARE": ("SquareOptions", {}),
    "TANH": (None, {}),
    # After EXP: they take positive numbers.
    "LOG": (None, {}),
    "SQRT": (None, {}),
    "RSQRT": (None, {}),
}


def island(b: Builder) -> int:
    """Functions on float numbers, between DEQUANTIZE and QUANTIZE."""
    return float_chain(b, b.draw.choice(list(FLOAT), int(b.draw.integers(1, 3)), replace=False))


def float_chain(b: Builder, names) -> int:
    source = pick(b)
    shape = b.shape(source)
    value = b.add("DEQUANTIZE", [source], [b.tensor(shape, "float32")], "DequantizeOptions")
    for name in names:
        options, values = (FLOAT | FLOAT_TABLES)[str(name)]
        value = b.add(str(name), [value], [b.tensor(shape, "float32")], options, **values)
    sink = b.add("QUANTIZE", [value], [b.activation(shape)], "QuantizeOptions")
    b.made = [index for index in b.made if b.tensors[index].type != 0]
    return sink


def table_chains(b: Builder) -> int:
    """Every function that becomes a table, each in a chain of its own."""
    for name in FLOAT_TABLES:
        last = float_chain(b, ["EXP", name] if name in ("LOG", "SQRT", "RSQRT") else [name])
    return last


def logarithm(b: Builder) -> int:
    """LOG of what is never below zero, but zero at times."""
    source = pick(b)
    square = b.activation(b.shape(source), zero=-128)
    b.add("SQUARED_DIFFERENCE", [source, partner(b, source)], [square], "SquaredDifferenceOptions")
    return b.add("LOG", [square], [b.activation(b.shape(source))])


def sixteen(b: Builder, shape, scale: float | None = None) -> int:
    scale = scale or float(b.draw.uniform(0.3, 3.0)) * 2**-13
    return b.tensor(shape, "int16", scale=scale, zero=0)


def moments(b: Builder) -> int:
    """16 bits among 8, as running norms have them: x / sqrt(x² + ε), with the inverse root in float."""
    source = pick(b)
    shape, known = b.shape(source), list(b.made)
    wide = b.add("QUANTIZE", [source], [sixteen(b, shape)], "QuantizeOptions")
    square = b.add("MUL", [wide, wide], [sixteen(b, shape)], "MulOptions", fusedActivationFunction=RELU)
    value = b.add("DEQUANTIZE", [square], [b.tensor(shape, "float32")], "DequantizeOptions")
    number = b.tensor([1] * int(b.draw.integers(0, 3)), "float32", data=np.float32(b.draw.choice([1e-5, 0.3])))
    operands = [value, number] if b.draw.random() < 0.5 else [number, value]
    value = b.add("ADD", operands, [b.tensor(shape, "float32")], "AddOptions", fusedActivationFunction=0)
    value = b.add("RSQRT", [value], [b.tensor(shape, "float32")])
    scale = float(b.draw.choice([2.0**-12, 0.01]))
    spread = b.add("QUANTIZE", [value], [sixteen(b, shape, scale)], "QuantizeOptions")
    normed = b.add("MUL", [wide, spread], [sixteen(b, shape)], "MulOptions", fusedActivationFunction=0)
    sink = b.add("QUANTIZE", [normed], [b.activation(shape)], "QuantizeOptions")
    b.made = [*known, sink]
    return sink


def reverse(b: Builder) -> int:
    """REVERSE_V2 along axes that are neighbours: LiteRT takes no others."""
    source = pick(b)
    first, last = sorted(b.draw.integers(0, len(b.shape(source)), 2).tolist())
    axes = b.indices(list(range(first, last + 1)))
    return b.add("REVERSE_V2", [source, axes], [b.like(source, b.shape(source))], "ReverseV2Options")


def broadcast(b: Builder) -> int:
    source = pick(b)
    shape = b.shape(source)
    b_shape = [int(b.draw.integers(2, 4)) if size == 1 else size for size in shape]
    return b.add("BROADCAST_TO", [source, b.indices(b_shape)], [b.like(source, b_shape)], "BroadcastToOptions")


def repeat(b: Builder) -> int:
    source = image(b)
    batches, height, width, channels = b.shape(source)
    rows, columns = (int(count) for count in b.draw.integers(1, 4, 2))
    sink = b.like(source, [batches, height * rows, width * columns, channels])
    return b.add(
        "RESIZE_NEAREST_NEIGHBOR", [source, b.indices([height * rows, width * columns])], [sink],
        "ResizeNearestNeighborOptions", alignCorners=False, halfPixelCenters=bool(b.draw.random() < 0.5),
    )  # fmt: skip


def reciprocal_root(b: Builder) -> int:
    """RSQRT of int16, of what is never below zero: a RELU."""
    source = pick(b)
    positive = b.add("RELU", [source], [b.activation(b.shape(source))])
    return b.add("RSQRT", [positive], [b.activation(b.shape(source), scale=2.0**-12)])


def concatenation(b: Builder) -> int:
    source = pick(b)
    axis = int(b.draw.integers(0, len(b.shape(source))))
    parts, shape = [source], list(b.shape(source))
    for _ in range(int(b.draw.integers(1, 3))):
        part = b.like(source, b.shape(source))
        b.add("QUANTIZE", [source], [part], "QuantizeOptions")
        parts.append(part)
        shape[axis] += b.shape(source)[axis]
    return b.add(
        "CONCATENATION", parts, [b.like(source, shape)], "ConcatenationOptions", axis=axis, fusedActivationFunction=0
    )


def window(b: Builder, source: int) -> tuple[list[int], list[int]]:
    begin = [int(b.draw.integers(0, size)) for size in b.shape(source)]
    return begin, [
        int(b.draw.integers(1, size - first + 1)) for size, first in zip(b.shape(source), begin, strict=True)
    ]


def slice_(b: Builder) -> int:
    source = pick(b)
    begin, size = window(b, source)
    return b.add("SLICE", [source, b.indices(begin), b.indices(size)], [b.like(source, size)], "SliceOptions")


def strided_slice(b: Builder) -> int:
    source = pick(b)
    begin, size = window(b, source)
    step = [int(b.draw.integers(1, 3)) for _ in size]
    end = [first + extent for first, extent in zip(begin, size, strict=True)]
    if b.draw.random() < 0.3:  # one axis backwards, to its start
        axis = int(b.draw.integers(0, len(size)))
        begin[axis], step[axis], mask = b.shape(source)[axis] - 1, -1, 1 << axis
    else:
        axis, mask = 0, 0
    shape = [
        b.shape(source)[k] if mask == 1 << k else -(-(stop - first) // stride)
        for k, (first, stop, stride) in enumerate(zip(begin, end, step, strict=True))
    ]
    return b.add(
        "STRIDED_SLICE", [source, b.indices(begin), b.indices(end), b.indices(step)], [b.like(source, shape)],
        "StridedSliceOptions", beginMask=0, endMask=mask, ellipsisMask=0, newAxisMask=0, shrinkAxisMask=0,
    )  # fmt: skip


def split(b: Builder) -> int:
    source = pick(b)
    shape = b.shape(source)
    axis = int(np.argmax(shape))
    count = next(n for n in (4, 3, 2, 1) if shape[axis] % n == 0)
    part = [*shape[:axis], shape[axis] // count, *shape[axis + 1 :]]
    sinks = [b.like(source, part) for _ in range(count)]
    return b.add("SPLIT", [b.indices(axis), source], sinks, "SplitOptions", numSplits=count)


def pack(b: Builder) -> int:
    source = pick(b, 2)
    other = b.add("QUANTIZE", [source], [b.like(source, b.shape(source))], "QuantizeOptions")
    axis = int(b.draw.integers(0, 3))
    shape = list(b.shape(source))
    shape.insert(axis, 2)
    return b.add("PACK", [source, other], [b.like(source, shape)], "PackOptions", valuesCount=2, axis=axis)


def unpack(b: Builder) -> int:
    source = pick(b, 4)
    shape = list(b.shape(source))
    axis = int(np.argmin(shape))
    count = shape.pop(axis)
    sinks = [b.like(source, shape) for _ in range(count)]
    return b.add("UNPACK", [source], sinks, "UnpackOptions", num=count, axis=axis)


def gather(b: Builder) -> int:
    source = pick(b)
    axis = int(b.draw.integers(0, len(b.shape(source))))
    taken = b.draw.integers(0, b.shape(source)[axis], 3)
    shape = [*b.shape(source)[:axis], 3, *b.shape(source)[axis + 1 :]]
    return b.add("GATHER", [source, b.indices(taken)], [b.like(source, shape)], "GatherOptions", axis=axis, batchDims=0)


def pad(b: Builder) -> int:
    source = pick(b)
    amounts = b.draw.integers(0, 3, (len(b.shape(source)), 2))
    shape = [size + int(pair.sum()) for size, pair in zip(b.shape(source), amounts, strict=True)]
    inputs, sink = [source, b.indices(amounts)], b.like(source, shape)
    if b.draw.random() < 0.5:
        return b.add("PAD", inputs, [sink], "PadOptions")
    value = np.full(1, b.draw.integers(-100, 100), b.dtype)
    constant = b.tensor([1], scale=b.scale(source), zero=b.zero(source), data=value)
    return b.add("PADV2", [*inputs, constant], [sink], "PadV2Options")


def split_v(b: Builder) -> int:
    source = pick(b)
    shape = b.shape(source)
    axis = int(np.argmax(shape))
    first = int(b.draw.integers(1, shape[axis] + 1))
    sizes = [first, shape[axis] - first] if first < shape[axis] else [first]
    sinks = [b.like(source, [*shape[:axis], size, *shape[axis + 1 :]]) for size in sizes]
    inputs = [source, b.indices(sizes), b.indices(axis)]
    return b.add("SPLIT_V", inputs, sinks, "SplitVOptions", numSplits=len(sizes))


def squeeze(b: Builder) -> int:
    source = pick(b, 4)
    shape = b.shape(source)
    axes = [axis for axis, size in enumerate(shape[:3]) if size == 1]
    kept = [size for axis, size in enumerate(shape) if axis not in axes]
    return b.add("SQUEEZE", [source], [b.like(source, kept)], "SqueezeOptions", squeezeDims=axes)


def expand(b: Builder) -> int:
    source = pick(b, 2)
    axis = int(b.draw.integers(0, 3))
    shape = list(b.shape(source))
    shape.insert(axis, 1)
    return b.add("EXPAND_DIMS", [source, b.indices(axis)], [b.like(source, shape)], "ExpandDimsOptions")


def reshape(b: Builder) -> int:
    source = pick(b)
    count = int(np.prod(b.shape(source)))
    first = int(b.draw.choice([n for n in range(1, count + 1) if count % n == 0]))
    shape = [1, first, count // first, 1] if b.draw.random() < 0.6 else [first, count // first]
    return b.copy(source, b.like(source, shape))


def transpose(b: Builder) -> int:
    source = pick(b)
    order = b.draw.permutation(len(b.shape(source)))
    shape = [b.shape(source)[axis] for axis in order]
    return b.add("TRANSPOSE", [source, b.indices(order)], [b.like(source, shape)], "TransposeOptions")


def reduction(name: str):
    def make(b: Builder) -> int:
        source = pick(b)
        rank = len(b.shape(source))
        axes = sorted(b.draw.choice(rank, int(b.draw.integers(1, rank + 1)), replace=False).tolist())
        shape = [1 if axis in axes else size for axis, size in enumerate(b.shape(source))]
        return b.add(name, [source, b.indices(axes)], [b.activation(shape)], "ReducerOptions", keepDims=True)

    return make


BOTH = {
    "CONV_2D": conv,
    "DEPTHWISE_CONV_2D": depthwise,
    "TRANSPOSE_CONV": transposed,
    "PAD, DEPTHWISE_CONV_2D": padded_conv,
    "FULLY_CONNECTED": dense,
    "ADD": arithmetic("ADD", "AddOptions"),
    "SUB": arithmetic("SUB", "SubOptions"),
    "MUL": arithmetic("MUL", "MulOptions"),
    "MAXIMUM": extreme("MAXIMUM"),
    "MINIMUM": extreme("MINIMUM"),
    "DIV": quotient,
    "LOGISTIC": curve("LOGISTIC", (2.0**-8, -128)),
    "TANH": curve("TANH", (2.0**-7, 0)),
    "RELU": unary("RELU"),
    "RELU6": unary("RELU6"),
    "LEAKY_RELU": unary("LEAKY_RELU", "LeakyReluOptions", alpha=0.3),
    "QUANTIZE": unary("QUANTIZE", "QuantizeOptions"),
    "float": island,
    "BROADCAST_TO": broadcast,
    "RESIZE_NEAREST_NEIGHBOR": repeat,
    "CONCATENATION": concatenation,
    "SLICE": slice_,
    "STRIDED_SLICE": strided_slice,
    "SPLIT": split,
    "SPLIT_V": split_v,
    "SQUEEZE": squeeze,
    "EXPAND_DIMS": expand,
    "PACK": pack,
    "UNPACK": unpack,
    "GATHER": gather,
    "PAD": pad,
    "RESHAPE": reshape,
    "TRANSPOSE": transpose,
    "REVERSE_V2": reverse,
    "MEAN": reduction("MEAN"),
}
ONLY_INT8 = {
    "PRELU": prelu,
    "RELU_N1_TO_1": unary("RELU_N1_TO_1"),
    "float as tables": table_chains,
    "GELU": unary("GELU", "GeluOptions", approximate=False),
    "GELU by tanh": unary("GELU", "GeluOptions", approximate=True),
    "HARD_SWISH": unary("HARD_SWISH", "HardSwishOptions"),
    "RSQRT": root,
    "LOG": logarithm,
    "moments on 16 bits": moments,
    "ABS": unary("ABS", "AbsOptions"),
    "SQUARED_DIFFERENCE": arithmetic("SQUARED_DIFFERENCE", "SquaredDifferenceOptions"),
}


ONLY_INT16 = {"RSQRT": reciprocal_root}


def wide_state(b: Builder) -> None:
    """A state of 16 bits beside those of 8, which moves a little towards what came in."""
    entry = b.inputs["state_mean"] = b.tensor([1, 10], "int16", scale=2.0**-11, zero=0, name="state_mean")
    source = int(b.draw.choice([index for index in b.made if b.shape(index) == (1, 10)]))
    wide = b.add("QUANTIZE", [source], [sixteen(b, [1, 10])], "QuantizeOptions")
    share = b.tensor([], "int16", scale=0.02 / 32767, zero=0, data=np.int16(32767))
    values = {"fusedActivationFunction": 0, "potScaleInt16": False}
    step = b.add("SUB", [wide, entry], [sixteen(b, [1, 10], 2.0**-12)], "SubOptions", **values)
    step = b.add("MUL", [step, share], [sixteen(b, [1, 10], 2.0**-17)], "MulOptions", fusedActivationFunction=0)
    leaving = b.tensor([1, 10], "int16", scale=2.0**-11, zero=0)
    b.outputs["state_mean"] = b.add("ADD", [entry, step], [leaving], "AddOptions", **values)
    b.made = [index for index in b.made if b.tensors[index].type != TYPES["int16"]]


def random_model(dtype: str, seed: int, path, rounds: int = 1):
    """Every operator `rounds` times in random order, each on what random ones before it made; three states."""
    b = Builder(dtype, seed)
    frame = b.activation([1, 1, 12, 4], name="frame")
    b.inputs["frame"] = frame
    states = {}
    for number, shape in enumerate(([1, 2, 9, 4], [1, 10], [1, 1, 12, 4])):
        states[f"state_s{number}"] = b.activation(shape, name=f"state_s{number}")
    b.inputs |= states
    b.made = list(b.inputs.values())
    known = BOTH | (ONLY_INT8 if dtype == "int8" else ONLY_INT16)
    # A seed of one thing, so that every shape asked for is there.
    for name in [name for _ in range(rounds) for name in b.draw.permutation(list(known))]:
        known[name](b)
    if dtype == "int8":
        wide_state(b)
    for name, entry in states.items():
        leaving = b.like(entry, b.shape(entry))
        alike = [i for i in b.made if b.shape(i) == b.shape(entry)]
        other = int(b.draw.choice(alike))
        b.outputs[name] = b.add(
            "ADD", [entry, other], [leaving], "AddOptions", fusedActivationFunction=0, potScaleInt16=False
        )  # fmt: skip
    mask = b.activation(
        [1, 1, 12, 1], scale=2.0**-8 if dtype == "int8" else 2.0**-15, zero=-128 if dtype == "int8" else 0
    )
    low = b.activation([1, 1, 12, 1])
    last = int(b.draw.choice([i for i in b.made if b.shape(i) == (1, 1, 12, 4)]))
    b.add("MEAN", [last, b.indices([3])], [low], "ReducerOptions", keepDims=True)
    b.outputs["mask"] = b.add("LOGISTIC", [low], [mask])
    return b.write(path)
