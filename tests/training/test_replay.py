"""Clips of earlier epochs: how many come back, which, and what a damaged file does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from earshot.core.errors import ToolError
from earshot.pipeline.training.replay import Replay, ScoredClips

SIZE = 10


def clips(epoch: int) -> ScoredClips:
    """Row r of epoch e holds 100 e + r everywhere."""
    rows = (100 * epoch + torch.arange(SIZE)).float()[:, None]
    return ScoredClips(rows.repeat(1, 4), rows.repeat(1, 4) + 0.5, rows.repeat(1, 2))


def filled(folder: Path, epochs: int, share: float = 0.2, remembered: int | None = None) -> Replay:
    replay = Replay(folder, SIZE, share, remembered)
    for epoch in range(epochs):
        replay.add(epoch, clips(epoch))
    return replay


@pytest.mark.parametrize(("share", "expected"), [(0.2, 8), (0.5, 20), (1.0, 40)])
def test_a_share_of_the_earlier_clips_comes_back(tmp_path: Path, share: float, expected: int) -> None:
    drawn = filled(tmp_path, 5, share).draw(4, seed=0)  # epoch 4's own clips are not its past
    assert drawn is not None and len(drawn) == expected
    ids = drawn.targets[:, 0]
    assert len(ids.unique()) == expected
    assert ids.max() < 400
    assert torch.equal(drawn.clean[:, 0], ids) and torch.equal(drawn.enhanced[:, 0], ids + 0.5)


def test_what_comes_back_is_a_function_of_seed_and_epoch(tmp_path: Path) -> None:
    replay = filled(tmp_path, 6)
    first, again, other = replay.draw(5, 0), Replay(tmp_path, SIZE, 0.2).draw(5, 0), replay.draw(5, 1)
    assert first is not None and again is not None and other is not None
    assert torch.equal(first.targets, again.targets)
    assert not torch.equal(first.targets, other.targets)


def test_nothing_comes_back_in_the_first_epoch_or_without_a_share(tmp_path: Path) -> None:
    assert filled(tmp_path, 0).draw(0, 0) is None
    assert filled(tmp_path, 3, share=0).draw(3, 0) is None


def test_only_remembered_epochs_come_back(tmp_path: Path) -> None:
    replay = filled(tmp_path, 5, share=1.0, remembered=2)
    drawn = replay.draw(5, 0)
    assert drawn is not None and set((drawn.targets[:, 0] // 100).tolist()) == {3.0, 4.0}
    replay.forget(5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["3.clips", "4.clips"]
    assert replay.is_whole(5)


def test_a_damaged_file_is_noticed(tmp_path: Path) -> None:
    replay = filled(tmp_path, 3, share=1.0)
    assert replay.is_whole(3)
    path = tmp_path / "1.clips"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert not replay.is_whole(3)
    assert replay.is_whole(1), "epoch 1 is not its own past"
    with pytest.raises(ToolError, match=r"1\.clips.*damaged"):
        replay.draw(3, 0)
    path.unlink()
    assert not replay.is_whole(3)
