"""The arithmetic of TFLite operators on real numbers, in torch, for many clips at once.

Every activation carries a clip axis in front of its shape in the graph: `[clips, *shape]`; constants have 1 there.
Fused activations and rounding to integers are the caller's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from earshot.core.errors import ModelError
from earshot.quantize.graph import Operator

SAME = 0  # schema Padding.SAME


@dataclass(frozen=True)
class Call:
    """One operator at work: its inputs (None where absent), index constants among them, and its outputs' shapes."""

    operator: Operator
    values: tuple[Tensor | None, ...]
    indices: tuple[np.ndarray | None, ...]
    shapes: tuple[tuple[int, ...], ...]

    def value(self, position: int) -> Tensor:
        """An input that must be there. Raises ModelError where a damaged graph lacks it."""
        found = self.values[position] if len(self.values) > position else None
        if found is None:
            raise ModelError(f"operator {self.operator.index} {self.operator.name} lacks input {position}")
        return found

    def index(self, position: int) -> np.ndarray:
        """A constant of indices or sizes that must be there. Raises ModelError where a damaged graph lacks it."""
        found = self.indices[position] if len(self.indices) > position else None
        if found is None:
            name = f"operator {self.operator.index} {self.operator.name}"
            raise ModelError(f"{name} lacks input {position}, a constant of indices or sizes")
        return found

    def bias(self, position: int) -> Tensor | None:
        """An optional bias `[outputs]`."""
        found = self.values[position] if len(self.values) > position else None
        return None if found is None else found[0]

    def shaped(self, value: Tensor) -> Tensor:
        """`value` as `[clips, *shape of the first output]`."""
        return value.reshape(value.shape[0], *self.shapes[0])


def _images(value: Tensor) -> Tensor:
    """`[clips, batch, H, W, C]` -> `[clips * batch, C, H, W]`."""
    return value.flatten(0, 1).permute(0, 3, 1, 2)


def _from_images(call: Call, images: Tensor) -> Tensor:
    clips = max(value.shape[0] for value in call.values if value is not None)
    return images.permute(0, 2, 3, 1).reshape(clips, *call.shapes[0])


def _same_padding(size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    total = max((-(-size // stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
    return total // 2, total - total // 2


def _convolve(call: Call, weight: Tensor, groups: int) -> Tensor:
    options = call.operator.options
    images = _images(call.value(0))
    stride = (options["strideH"], options["strideW"])
    dilation = (options["dilationHFactor"], options["dilationWFactor"])
    if options["padding"] == SAME:
        rows, columns = (
            _same_padding(images.shape[2 + axis], weight.shape[2 + axis], stride[axis], dilation[axis])
            for axis in (0, 1)
        )
        images = functional.pad(images, (*columns, *rows))
    return _from_images(call, functional.conv2d(images, weight, call.bias(2), stride, 0, dilation, groups))


def _conv(call: Call) -> Tensor:
    weight = call.value(1)[0].permute(0, 3, 1, 2)  # O H W I
    return _convolve(call, weight, call.value(0).shape[-1] // weight.shape[1])


def _depthwise(call: Call) -> Tensor:
    weight = call.value(1)[0].permute(3, 0, 1, 2)  # 1 H W O
    return _convolve(call, weight, call.value(0).shape[-1])


def _transpose_conv(call: Call) -> Tensor:
    weight = call.value(1)[0].permute(3, 0, 1, 2)  # O H W I
    options = call.operator.options
    full = functional.conv_transpose2d(
        _images(call.value(2)), weight, call.bias(3), (options["strideH"], options["strideW"])
    )
    rows, columns = call.shapes[0][1:3]
    top, left = (full.shape[2] - rows) // 2, (full.shape[3] - columns) // 2
    return _from_images(call, full[:, :, top : top + rows, left : left + columns])


def _fully_connected(call: Call) -> Tensor:
    weight = call.value(1)[0]
    source = call.value(0)
    return call.shaped(functional.linear(source.reshape(source.shape[0], -1, weight.shape[1]), weight, call.bias(2)))


def _elementwise(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Call], Tensor]:
    def kernel(call: Call) -> Tensor:
        rank = len(call.shapes[0])
        left, right = (
            value.reshape(value.shape[0], *[1] * (rank + 1 - value.dim()), *value.shape[1:])
            for value in (call.value(0), call.value(1))
        )
        return function(left, right)

    return kernel


def _unary(function: Callable[[Tensor], Tensor]) -> Callable[[Call], Tensor]:
    return lambda call: function(call.value(0))


def _concatenate(call: Call) -> Tensor:
    clips = max(value.shape[0] for value in call.values if value is not None)
    parts = [value.expand(clips, *value.shape[1:]) for value in call.values if value is not None]
    axis = int(call.operator.options["axis"])
    return torch.cat(parts, axis + 1 if axis >= 0 else axis)


def _slice(call: Call) -> Tensor:
    begin = call.index(1)
    return call.value(0)[
        (slice(None), *(slice(int(b), int(b) + size) for b, size in zip(begin, call.shapes[0], strict=True)))
    ]


def _strided_slice(call: Call) -> Tensor:
    options, source = call.operator.options, call.value(0)
    ranges = []
    for axis, (begin, end, stride) in enumerate(zip(call.index(1), call.index(2), call.index(3), strict=True)):
        bit = 1 << axis
        if options["shrinkAxisMask"] & bit:
            ranges.append(slice(int(begin), int(begin) + 1 or None))
            continue
        first = None if options["beginMask"] & bit else int(begin)
        last = None if options["endMask"] & bit else int(end)
        ranges.append(slice(first, last, int(stride)))
    return call.shaped(source[(slice(None), *ranges)])


def _pad(call: Call) -> Tensor:
    amounts = [int(amount) for pair in reversed(call.index(1).tolist()) for amount in pair]
    return functional.pad(call.value(0), amounts)


def _transpose(call: Call) -> Tensor:
    return call.value(0).permute(0, *(int(axis) + 1 for axis in call.index(1)))


def _split(call: Call) -> tuple[Tensor, ...]:
    axis = int(call.index(0).reshape(-1)[0])
    return call.value(1).chunk(int(call.operator.options["numSplits"]), axis + 1 if axis >= 0 else axis)


def _mean(call: Call) -> Tensor:
    rank = call.value(0).dim() - 1
    axes = [int(axis) % rank + 1 for axis in call.index(1).reshape(-1)]
    return call.shaped(call.value(0).mean(axes, keepdim=True))


def _divide(left: Tensor, right: Tensor) -> Tensor:
    """By zero, the end of the range on the numerator's side: kernels know neither infinity nor NaN."""
    return torch.where(right == 0, torch.where(left >= 0, torch.inf, -torch.inf), left / right)


def _inverse_root(value: Tensor) -> Tensor:
    """Of what is not positive, the largest number."""
    return torch.where(value > 0, torch.rsqrt(value), torch.inf)


def _logarithm(value: Tensor) -> Tensor:
    """Of what is not positive, the least number."""
    return torch.where(value > 0, torch.log(value), -torch.inf)


def _reverse(call: Call) -> Tensor:
    rank = call.value(0).dim() - 1
    return call.value(0).flip([int(axis) % rank + 1 for axis in call.index(1).reshape(-1)])


KERNELS: dict[str, Callable[[Call], Tensor | tuple[Tensor, ...]]] = {
    "CONV_2D": _conv,
    "DEPTHWISE_CONV_2D": _depthwise,
    "TRANSPOSE_CONV": _transpose_conv,
    "FULLY_CONNECTED": _fully_connected,
    "ADD": _elementwise(torch.add),
    "SUB": _elementwise(torch.sub),
    "MUL": _elementwise(torch.mul),
    "DIV": _elementwise(_divide),
    "MAXIMUM": _elementwise(torch.maximum),
    "MINIMUM": _elementwise(torch.minimum),
    "CONCATENATION": _concatenate,
    "SLICE": _slice,
    "STRIDED_SLICE": _strided_slice,
    "SPLIT": _split,
    "PAD": _pad,
    "RESHAPE": lambda call: call.shaped(call.value(0)),
    "SQUEEZE": lambda call: call.shaped(call.value(0)),
    "EXPAND_DIMS": lambda call: call.shaped(call.value(0)),
    "TRANSPOSE": _transpose,
    "REVERSE_V2": _reverse,
    "MEAN": _mean,
    "LOGISTIC": _unary(torch.sigmoid),
    "TANH": _unary(torch.tanh),
    "RSQRT": _unary(_inverse_root),
    "LOG": _unary(_logarithm),
    "RELU": _unary(torch.relu),
    "RELU6": _unary(functional.relu6),
    "HARD_SWISH": _unary(functional.hardswish),
    "PRELU": _elementwise(lambda value, slope: torch.where(value > 0, value, value * slope)),
    "LEAKY_RELU": lambda call: functional.leaky_relu(call.value(0), call.operator.options["alpha"]),
    "QUANTIZE": _unary(torch.clone),
    "DEQUANTIZE": _unary(torch.clone),
}
# Schema ActivationFunctionType.
FUSED: dict[int, Callable[[Tensor], Tensor]] = {
    1: torch.relu,
    2: lambda value: value.clamp(-1, 1),
    3: functional.relu6,
    4: torch.tanh,
}
