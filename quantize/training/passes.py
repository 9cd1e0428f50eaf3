"""Follows one pass through a network, function by function, and settles values where the exported graph holds them.

Every call of a torch function is seen (`TorchFunctionMode`), also those between layers: skips, gates, gains. What the
conversion to TFLite joins into one operator is one here: a convolution, its BatchNorm and its ReLU hold one value.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from earshot.core.errors import ModelError
from earshot.quantize.training.operators import (
    ARITHMETIC,
    JOINS,
    KINDS,
    PRESCRIBED,
    WEIGHTED,
    is_linear,
    name_of,
    rows,
    writes,
)
from earshot.quantize.training.ranges import Keeper, Place
from earshot.quantize.training.recurrent import unrolled

_TORCH = str(Path(torch.__file__).parent)
_MARK = "_earshot_known"  # attribute of tensors: far quicker than a table of weak references


@dataclass
class _Known:
    """A value that came from the input: its range, and what may still happen before it is held.

    Attributes:
        running: the pass that it belongs to.
        index: its range.
        open: not yet rounded.
        joins: a ReLU behind it belongs to the same operator.
        norms: a BatchNorm behind it does.
        wide: 16 bits hold it where it is used on 16 bits; that rounding is left out.
        held: its rounded form, once it was asked for.
    """

    running: Pass
    index: int
    open: bool = True
    joins: bool = False
    norms: bool = False
    wide: bool = False
    held: Tensor | None = None


@dataclass(frozen=True)
class Loops:
    """Modules that work frame by frame: how often they are called, or call functions, depends on the sound's length.

    Their operators are told apart by where they stand in the code, so that all frames share their ranges, as the states
    of a stream do.

    Attributes:
        modules: called once for each frame, by name.
        inside: call functions once for each frame, by label.
    """

    modules: frozenset[str] = frozenset()
    inside: frozenset[str] = frozenset()

    def joined(self, short: Pass, long: Pass) -> Loops:
        """These, and what differs between passes over sounds of two lengths."""
        modules = frozenset(name for name in long.visits if long.visits[name] != short.visits[name])
        inside = frozenset(
            label
            for label, count in long.operators.items()
            if label.rpartition("#")[0] in modules or count != short.operators[label]
        )
        return Loops(self.modules | modules, self.inside | inside | modules)


class Pass(TorchFunctionMode):
    """One pass: `with following(network, running): running.begin(sequence); network.trace(sequence)`.

    Args:
        keeper: what becomes of values.
        loops: of the network.

    Attributes:
        visits: module -> times called.
        operators: label (module and which of its visits) -> operators called.
    """

    def __init__(self, keeper: Keeper, loops: Loops) -> None:
        super().__init__()
        self._keeper, self._loops = keeper, loops
        self._labels: list[str] = []
        self._wide = 0
        self.visits: Counter[str] = Counter()
        self.operators: Counter[str] = Counter()

    def begin(self, sequence: Tensor) -> None:
        """What goes into the network."""
        self._mark(sequence, self._keeper.range_of("frame"))

    @contextmanager
    def labelled(self, part: str) -> Iterator[None]:
        """Inside a part of the module that runs."""
        self.enter(f"{self._labels[-1]}/{part}")
        yield
        self.leave()

    def enter(self, name: str, *, wide: bool = False) -> None:
        """A module is called; one that is `wide` and those it calls compute on 16 bits."""
        self.visits[name] += 1
        self._wide += wide
        self._labels.append(name if name in self._loops.modules else f"{name}#{self.visits[name]}")

    def leave(self, *, wide: bool = False) -> None:
        """It returns."""
        self._labels.pop()
        self._wide -= wide

    def settle(self, value: Tensor, *, wide: bool = False) -> Tensor:
        """A value as the integer file holds it; what does not depend on the input stays as it is.

        Args:
            value: any tensor.
            wide: it is used on 16 bits.
        """
        known = self._known(value)
        if known is None or not known.open or (wide and known.wide):
            return value
        if known.held is None:
            known.held = self._keeper.settle(value, known.index)
            if known.held is not value:
                self._mark(known.held, known.index, open=False)
        return known.held

    def _known(self, value: Tensor) -> _Known | None:
        found: _Known | None = getattr(value, _MARK, None)
        return found if found is not None and found.running is self else None

    def _mark(self, value: Tensor, index: int, **known: Any) -> None:
        setattr(value, _MARK, _Known(self, index, **known))

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Every torch function that the network calls."""
        name = name_of(func)
        kind = KINDS.get(name, name)
        args, kwargs = _leading(kind, args, kwargs or {})
        known = [found for value in _tensors((*args, *kwargs.values())) if (found := self._known(value)) is not None]
        if not known or kind == "looks":
            made = func(*args, **kwargs)
        elif kind == "moves":
            made = self._move(func, known, args, kwargs)
        elif writes(name):
            raise ModelError(
                f"{self._labels[-1]}: {name} writes into a value, and the graph of a device knows no such thing",
                "write it as an operator with a result of its own",
            )
        elif kind == "recurrent":
            with self, self.labelled(name):
                made = unrolled(name, self.labelled, args)
        elif self._wide or (name in ARITHMETIC and all(one.wide for one in known)):
            made = self._made(func(*self._held(args, wide=True), **self._named(kwargs, wide=True)), wide=True)
        elif kind == "prelu":
            made = self._prelu(self.settle(args[0]), args[1])
        elif kind == "shares":
            made = self._share(func, known, args, kwargs)
        else:
            made = self._compute(func, name, kind, args, kwargs)
        return made

    def _compute(
        self, func: Callable[..., Any], name: str, kind: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """An operator with a value of its own, or one that ends in the operator before it."""
        before = self._known(args[0]) if args else None
        if (
            before is not None
            and before.open
            and ((kind == "norm" and before.norms) or (kind == "relu" and before.joins))
        ):
            return self._made(func(*args, **kwargs), joins=kind == "norm" and before.joins)
        held = self._held(args)
        if kind in WEIGHTED and self._known(held[1]) is None:
            held = (held[0], self._keeper.weights(held[1], rows(name, held)), *held[2:])
        return self._made(
            func(*held, **self._named(kwargs)),
            PRESCRIBED.get(name),
            joins=kind in JOINS or is_linear(name, args),
            norms=kind in ("convolution", "upsampling"),
        )

    def _move(self, func: Callable[..., Any], known: Sequence[_Known], args: tuple[Any, ...], kwargs: Any) -> Any:
        """Values that only move stay in their range, and open as long as they come from one place and go to one."""
        made = func(*args, **kwargs)
        results = _tensors((made,))
        if not results:
            return made
        first, opened = known[0], known[0].open
        if (len(known) > 1 or len(results) > 1) and not all(one.wide for one in known):
            made, opened = func(*self._held(args), **self._named(kwargs)), False
            results = _tensors((made,))
        index = self._keeper.tie([one.index for one in known])
        for result in results:
            self._mark(result, index, open=opened, joins=first.joins, norms=first.norms, wide=first.wide)
        return made

    def _share(self, func: Callable[..., Any], known: Sequence[_Known], args: tuple[Any, ...], kwargs: Any) -> Any:
        made = func(*self._held(args), **self._named(kwargs))
        index = self._keeper.tie([one.index for one in known])
        for result in _tensors((made,)):
            self._mark(result, index)
        return made

    def _prelu(self, held: Tensor, slope: Tensor) -> Tensor:
        """max(x, 0) - a max(-x, 0), the operators that it is converted to."""
        if slope.numel() > 1:
            slope = slope.reshape(-1, *[1] * (held.dim() - 2))
        with self:
            return torch.relu(held) - slope * torch.relu(-held)

    def _made(self, made: Any, prescribed: str | None = None, **known: bool) -> Any:
        """Results of an operator, open until they are used."""
        label = self._labels[-1]
        self.operators[label] += 1
        place = _position() if label in self._loops.inside else self.operators[label]
        for number, result in enumerate(_tensors((made,))):
            self._mark(result, self._keeper.range_of((label, place, number), prescribed), **known)
        return made

    def _held(self, args: tuple[Any, ...], *, wide: bool = False) -> tuple[Any, ...]:
        def held(value: Any) -> Any:
            if isinstance(value, Tensor):
                return self.settle(value, wide=wide)
            return type(value)(held(item) for item in value) if type(value) in (list, tuple) else value

        return tuple(held(value) for value in args)

    def _named(self, kwargs: dict[str, Any], *, wide: bool = False) -> dict[str, Any]:
        return dict(zip(kwargs, self._held(tuple(kwargs.values()), wide=wide), strict=True))


@contextmanager
def following(network: nn.Module, running: Pass) -> Iterator[None]:
    """The pass sees every call of a torch function and which of the network's modules makes it."""
    hooks = []
    for name, module in network.named_modules():
        if module is network:
            continue
        wide = getattr(module, "wide", False) is True
        hooks.append(module.register_forward_pre_hook(lambda *_, name=name, wide=wide: running.enter(name, wide=wide)))
        hooks.append(module.register_forward_hook(lambda *_, wide=wide: running.leave(wide=wide)))
    try:
        with running:
            running.enter("network")
            yield
    finally:
        for hook in hooks:
            hook.remove()


def _leading(kind: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments as calls have them that give nothing by name: what an operator works on first, then its weights."""
    leading: list[tuple[str, ...]] = [("input", "tensors")] if "condition" not in kwargs else []
    leading += [("weight",)] if kind in WEIGHTED or kind == "prelu" else []
    for place, names in enumerate(leading):
        name = next((name for name in names if name in kwargs), None)
        if len(args) == place and name is not None:
            args = (*args, kwargs[name])
            kwargs = {key: value for key, value in kwargs.items() if key != name}
    return args, kwargs


def _tensors(values: Sequence[Any]) -> list[Tensor]:
    found: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            if value.is_floating_point():
                found.append(value)
        elif isinstance(value, list | tuple):
            found += _tensors(value)
    return found


def _position() -> Place:
    """Where in the network's code, or in that of unrolled layers, the running function is called."""
    frame = sys._getframe(2)
    while frame.f_code.co_filename == __file__ or frame.f_code.co_filename.startswith(_TORCH):
        assert frame.f_back is not None
        frame = frame.f_back
    return frame.f_code.co_qualname, frame.f_lasti
