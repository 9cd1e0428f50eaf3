"""What the functions of torch become in an integer graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

# kind, then the names of its functions:
# moves        results are values of what goes in, and keep its range
# shares       so are these, out of several: kernels want one scale on all sides
# looks        only look at a value, or make one of its shape
# convolution, upsampling, linear   have weights; a BatchNorm behind the first two is folded into them
# norm         the BatchNorm
# relu         belongs to the operator before it, if that can take it
# recurrent    layers that hide their operators
# arithmetic   stays on 16 bits where all that goes in has them
# All others compute something on 8 bits.
_TABLE = """
moves __get__ __getitem__ cat chunk clone concat contiguous detach expand expand_as flatten flip index_select
moves interpolate movedim narrow pad permute pixel_shuffle repeat repeat_interleave reshape roll select split squeeze
moves stack swapaxes tile to transpose unbind unflatten unfold unsqueeze view view_as
shares amax clamp clamp_max clamp_min clip max max_pool1d max_pool2d maximum min minimum
looks __len__ dim empty_like full_like is_contiguous is_floating_point new_empty new_full new_ones new_zeros numel
looks ones_like size stride type zeros_like
convolution conv1d conv2d
upsampling conv_transpose1d conv_transpose2d
linear linear
norm batch_norm
relu relu relu6 hardtanh
recurrent gru lstm
"""
KINDS = {name: kind for kind, *names in map(str.split, _TABLE.strip().splitlines()) for name in names}
ARITHMETIC = frozenset(
    {"add", "div", "einsum", "maximum", "mean", "minimum", "mul", "relu", "rsqrt", "sqrt", "square", "sub", "sum"}
)
WEIGHTED = frozenset({"convolution", "upsampling", "linear"})
# Operators, by name or kind, that TFLite joins with a ReLU behind them.
JOINS = frozenset({"convolution", "linear", "add", "sub", "mul", "div", "neg"})
# Functions whose kernels prescribe the scale of what they put out.
PRESCRIBED = {"sigmoid": "LOGISTIC", "softmax": "SOFTMAX", "tanh": "TANH"}
_REVERSED = {"__radd__": "add", "__rmul__": "mul", "__rsub__": "sub", "__rdiv__": "div", "__rtruediv__": "div"}


def name_of(function: Any) -> str:
    """The name under which the tables know a function."""
    name: str = function.__name__
    return _REVERSED.get(name, name)


def writes(name: str) -> bool:
    """Whether a function changes a value in place."""
    return name == "__setitem__" or (name.endswith("_") and not name.startswith("__"))


def is_linear(name: str, args: Sequence[Any]) -> bool:
    """Whether this is a transposed convolution of one bin in each frame, which is exported as fully connected layer."""
    return name == "conv_transpose2d" and args[0].shape[3] == 1 and args[1].shape[2] == 1


def rows(name: str, args: Sequence[Any]) -> tuple[int, ...]:
    """The dimensions of a layer's weights along which each index has a scale of its own in the integer file."""
    if is_linear(name, args):
        return tuple(range(1, args[1].dim()))
    return (1,) if KINDS[name] == "upsampling" else (0,)
