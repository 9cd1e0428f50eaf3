"""Material that is already paired: clean and noisy recordings, or mixes that a manifest fixes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from earshot.core.errors import DataError
from earshot.pipeline.data.base import EvalPair
from earshot.pipeline.data.holdout import hold_out

if TYPE_CHECKING:
    from earshot.pipeline.data.base import Audio, TrainSampler


@dataclass(frozen=True)
class FilePair:
    """Two sound files of one recording.

    Attributes:
        clean, noisy: the files; several channels are averaged.
        rate: Hz to load at.
        microphones: with more than one, the noisy file has a channel for each and keeps them, and of the clean file
            the first channel counts, which belongs to the first microphone.
    """

    clean: Path
    noisy: Path
    rate: int
    microphones: int = 1

    @property
    def files(self) -> tuple[Path, ...]:
        """Clean, noisy."""
        return self.clean, self.noisy

    def check(self) -> None:
        """Compares the headers. Raises DataError when rate, channels or length differ."""
        from earshot.pipeline.data.audio import check_microphones, probe

        clean, noisy = probe(self.clean), probe(self.noisy)
        if self.microphones > 1:
            check_microphones(self.noisy, noisy.channels, self.microphones)
        for name, ours, theirs in zip(clean._fields, clean, noisy, strict=True):
            if ours != theirs and not (name == "channels" and self.microphones > 1):
                raise DataError(
                    f"{self.noisy}: {name} {theirs}, but its clean file {self.clean} has {ours}",
                    "a pair must be the same recording, sample by sample: align and cut both, or remove the pair",
                )

    def load(self) -> tuple[Audio, Audio]:
        """(clean, noisy), float32 `[samples]`, or noisy `[microphones, samples]`. Raises DataError with the file."""
        from earshot.pipeline.data.audio import read_audio, read_microphones

        self.check()
        if self.microphones > 1:
            clean = read_audio(self.clean, self.rate, channel="first")
            return clean, read_microphones(self.noisy, self.rate, self.microphones)
        return read_audio(self.clean, self.rate), read_audio(self.noisy, self.rate)

    def describe(self) -> dict[str, Any]:
        """The number of microphones where there are several; the rest is said by its files."""
        return {"microphones": self.microphones} if self.microphones > 1 else {}


@dataclass(frozen=True)
class PairList:
    """Pairs in a fixed order.

    Attributes:
        items: the pairs.
        speaker: the part of a pair's id that stays together in a holdout, where the layout knows it.
    """

    items: tuple[EvalPair, ...]
    speaker: str | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """All files, pair by pair."""
        return tuple(path for pair in self.items for path in pair.source.files)

    def describe(self) -> dict[str, Any]:
        """What its pairs say of themselves."""
        return {"pairs": [pair.source.describe() for pair in self.items]}

    def hold_out(self, fraction: float, by: str | None) -> tuple[PairList, PairList]:
        """Divides the pairs by id, or by the speaker in it."""
        rest, held = hold_out(self.items, lambda pair: pair.id, fraction, by or self.speaker, "the pairs")
        return PairList(rest, self.speaker), PairList(held, self.speaker)

    def pairs(self, rate: int, count: int | None, seconds: float | None, seed: int) -> tuple[EvalPair, ...]:
        """All pairs, or `count` of them chosen by a hash of their ids; always whole."""
        if count is None or count >= len(self.items):
            return self.items
        chosen = sorted(self.items, key=lambda pair: hashlib.sha256(pair.id.encode()).digest())[:count]
        return tuple(sorted(chosen, key=lambda pair: pair.id))

    def sampler(self, rate: int, seed: int, seconds: float) -> TrainSampler:
        """Cuts segments."""
        from earshot.pipeline.data.sampler import PairSampler

        return PairSampler(self.items, rate, seed, seconds)
