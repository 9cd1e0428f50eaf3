"""Recurrent layers frame by frame, in the operators that their exported steps consist of.

The fused kernels that train a float network hide their gates; here every sum, gate and state is a value of its own, so
that each is rounded as in the integer file. Weights are those of `torch.nn.GRU` and `torch.nn.LSTM`; the equations are
those of `models/layers.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

Labelled = Callable[[str], AbstractContextManager[None]]
States = tuple[Tensor, ...]


def unrolled(name: str, labelled: Labelled, args: Sequence[Any]) -> tuple[Tensor, ...]:
    """What `torch.gru` and `torch.lstm` return for the arguments that the layers call them with.

    Args:
        name: `gru` or `lstm`.
        labelled: a context that names a layer, direction or gate: operators of equal place are told apart by it.
        args: input, first states, flat weights, has biases, layers, dropout, training, bidirectional, batch first.
    """
    sequence, first, flat, biased, layers, _, _, both_ways, batch_first = args
    frame_of = _gru if name == "gru" else _lstm
    starts: States = (first,) if name == "gru" else tuple(first)
    sequence = sequence if batch_first else sequence.transpose(0, 1)
    size, ways = (4 if biased else 2), (2 if both_ways else 1)
    last: list[States] = []
    for layer in range(layers):
        directions = []
        for way in range(ways):
            number = layer * ways + way
            weights = flat[number * size : (number + 1) * size]
            states = tuple(start[number] for start in starts)
            with labelled(f"l{layer}{'_reverse' * way}"):
                outputs, states = _walk(frame_of, labelled, sequence, states, weights, backwards=way == 1)
            directions.append(outputs)
            last.append(states)
        sequence = torch.cat(directions, 2) if both_ways else directions[0]
    ends = tuple(torch.stack([states[kind] for states in last]) for kind in range(len(starts)))
    return (sequence if batch_first else sequence.transpose(0, 1), *ends)


Frame = Callable[[Sequence[Tensor], Sequence[Tensor], States], States]


def _walk(
    frame_of: Frame, labelled: Labelled, sequence: Tensor, states: States, weights: Sequence[Tensor], *, backwards: bool
) -> tuple[Tensor, States]:
    """One layer in one direction, `[batch, frames, inputs]` -> `[batch, frames, hidden]` and the last states."""
    gates = weights[0].shape[0] // weights[1].shape[1]
    biases: list[tuple[Tensor | None, ...]] = [bias.chunk(gates) for bias in weights[2:]]
    if not biases:
        biases = [(None,) * gates] * 2
    into_rows, again_rows = (
        list(zip(matrix.chunk(gates), bias, strict=True)) for matrix, bias in zip(weights[:2], biases, strict=True)
    )
    frames = list(zip(*(gate.unbind(1) for gate in _gates(labelled, "into", sequence, into_rows)), strict=True))
    outputs = []
    for into in reversed(frames) if backwards else frames:
        states = frame_of(into, _gates(labelled, "again", states[0], again_rows), states)
        outputs.append(states[0])
    return torch.stack(outputs[::-1] if backwards else outputs, 1), states


def _gates(labelled: Labelled, side: str, values: Tensor, rows: Sequence[tuple[Tensor, Tensor | None]]) -> list[Tensor]:
    found = []
    for number, (weight, bias) in enumerate(rows):
        with labelled(f"{side}{number}"):
            found.append(linear(values, weight, bias))
    return found


def _gru(into: Sequence[Tensor], again: Sequence[Tensor], states: States) -> States:
    (state,) = states
    reset = torch.sigmoid(into[0] + again[0])
    update = torch.sigmoid(into[1] + again[1])
    new = torch.tanh(into[2] + reset * again[2])
    return (new + update * (state - new),)


def _lstm(into: Sequence[Tensor], again: Sequence[Tensor], states: States) -> States:
    cell = states[1]
    kept = torch.sigmoid(into[1] + again[1]) * cell
    cell = kept + torch.sigmoid(into[0] + again[0]) * torch.tanh(into[2] + again[2])
    return torch.sigmoid(into[3] + again[3]) * torch.tanh(cell), cell
