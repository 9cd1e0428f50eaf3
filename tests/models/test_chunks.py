"""Half-overlapping chunks against values written out by hand, and the way back."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from earshot.models.chunks import merge, split


def test_chunks_by_hand() -> None:
    signal = torch.tensor([[[1.0, 2, 3, 4, 5]]])
    chunks = split(signal, 4, 2, 3)  # 0 0 1 2 3 4 5 0 0 0
    assert chunks.tolist() == [[[[0, 0, 1, 2], [1, 2, 3, 4], [3, 4, 5, 0], [5, 0, 0, 0]]]]
    assert merge(chunks, 2, 5).tolist() == [[[2, 4, 6, 8, 10]]]


@settings(deadline=None, max_examples=50, derandomize=True)
@given(time=st.integers(1, 70), half=st.integers(1, 9), generous=st.booleans())
def test_every_sample_lies_in_two_chunks(time: int, half: int, generous: bool) -> None:
    size, before = 2 * half, (2 if generous else 1) * half
    signal = torch.randn(2, 3, time, generator=torch.Generator().manual_seed(time))
    chunks = split(signal, size, before, before + -time % half)
    assert torch.allclose(merge(chunks, before, time), 2 * signal)
    # The negative control: without zeros before it the first half chunk lies in one only.
    bare = merge(split(signal, size, 0, size + -time % half), 0, time)
    assert torch.equal(bare[..., :half], signal[..., :half])
