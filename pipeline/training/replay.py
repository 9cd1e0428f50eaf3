"""Clips that generators of earlier epochs made, with their scores: a discriminator forgets what it is not shown again.

One file an epoch in the training's scratch folder, led by its digest, so that a training that is taken up after a kill
replays what the one before would have.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from earshot.core.errors import ToolError
from earshot.core.files import write_atomic

_DIGEST = hashlib.sha256().digest_size


@dataclass(frozen=True, eq=False)
class ScoredClips:
    """Clips and what they are worth.

    Attributes:
        clean: float32 `[clips, samples]`.
        enhanced: float32 `[clips, samples]`.
        targets: scaled metrics of the enhanced signals, float32 `[clips, metrics]`, NaN where unknown.
    """

    clean: Tensor
    enhanced: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.clean)

    def of(self, rows: Tensor) -> ScoredClips:
        """The clips at `rows`, int64 `[rows]`."""
        return ScoredClips(self.clean[rows], self.enhanced[rows], self.targets[rows])

    def joined(self, other: ScoredClips) -> ScoredClips:
        """These, then the others."""
        pairs = ((self.clean, other.clean), (self.enhanced, other.enhanced), (self.targets, other.targets))
        return ScoredClips(*(torch.cat(pair) for pair in pairs))


class Replay:
    """The clips of earlier epochs.

    Args:
        folder: where they are kept.
        size: clips an epoch.
        share: part of the earlier clips that an epoch sees again.
        remembered: how many epochs back they reach; None for all.
        first: the first epoch that has clips.
    """

    def __init__(self, folder: Path, size: int, share: float, remembered: int | None = None, first: int = 0) -> None:
        self._folder = folder
        self._size = size
        self._share = share
        self._remembered = remembered
        self._first = first

    def add(self, epoch: int, clips: ScoredClips) -> None:
        """Keeps an epoch's clips. Raises ToolError on a full disk."""
        tensors = {"clean": clips.clean, "enhanced": clips.enhanced, "targets": clips.targets}
        content = safetensors.torch.save(tensors)
        write_atomic(self._file(epoch), hashlib.sha256(content).digest() + content)

    def draw(self, epoch: int, seed: int) -> ScoredClips | None:
        """The share of earlier clips that this epoch sees again, a function of seed and epoch; None where it is empty.

        Raises:
            ToolError: a file was changed or removed while the training ran.
        """
        epochs = self._epochs(epoch)
        total = self._size * len(epochs)
        chosen = np.random.default_rng([seed, epoch, 2]).permutation(total)[: int(self._share * total)]
        drawn: ScoredClips | None = None
        for index, earlier in enumerate(epochs):
            rows = np.sort(chosen[chosen // self._size == index]) - index * self._size
            if rows.size:
                part = self._load(earlier).of(torch.from_numpy(rows))
                drawn = part if drawn is None else drawn.joined(part)
        return drawn

    def is_whole(self, epoch: int) -> bool:
        """Whether everything that `epoch` and those after it replay is there and undamaged."""
        try:
            for earlier in self._epochs(epoch):
                self._load(earlier)
        except ToolError:
            return False
        return True

    def forget(self, epoch: int) -> None:
        """Removes what neither `epoch` nor a later one replays."""
        if self._remembered is not None:
            for earlier in range(epoch - self._remembered):
                self._file(earlier).unlink(missing_ok=True)

    def _epochs(self, epoch: int) -> range:
        return range(self._first if self._remembered is None else max(self._first, epoch - self._remembered), epoch)

    def _load(self, epoch: int) -> ScoredClips:
        path = self._file(epoch)
        try:
            stored = path.read_bytes()
            if hashlib.sha256(stored[_DIGEST:]).digest() != stored[:_DIGEST]:
                raise ValueError("it is damaged")
            return ScoredClips(**safetensors.torch.load(stored[_DIGEST:]))
        except (OSError, ValueError, TypeError) as error:
            raise ToolError(
                f"{path}: clips to replay cannot be read ({error})", "run again: training starts over"
            ) from error

    def _file(self, epoch: int) -> Path:
        return self._folder / f"{epoch}.clips"
