"""What the rest of earshot sees of data: evaluation pairs, a sampler of training batches, and the three splits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from earshot.core.files import digest_json
from earshot.pipeline.data.digests import Digests

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Audio = NDArray[np.float32]
    Pcm = NDArray[np.int16]

Split = Literal["train", "validation", "test"]


class PairSource(Protocol):
    """Where a pair's sound comes from. Frozen and picklable: pairs are loaded in worker processes."""

    @property
    def files(self) -> tuple[Path, ...]:
        """The files it reads."""

    def load(self) -> tuple[Audio, Audio]:
        """(clean, noisy), float32 `[samples]` each, or noisy `[microphones, samples]` where there are several.

        Raises DataError that names the file.
        """

    def describe(self) -> dict[str, Any]:
        """Everything but the files that decides the sound, as JSON data."""


@dataclass(frozen=True)
class EvalPair:
    """One clean recording and its noisy version.

    Attributes:
        id: unique in its split.
        group: what it is reported with (a corpus, a noise kind).
        snr_db: its signal-to-noise ratio, where known.
        source: where its sound comes from.
    """

    id: str
    group: str
    snr_db: float | None
    source: PairSource

    def load(self) -> tuple[Audio, Audio]:
        """(clean, noisy) at the data's rate, float32 `[samples]` each, or noisy `[microphones, samples]`.

        Raises DataError that names the file.
        """
        return self.source.load()


class TrainSampler(Protocol):
    """Draws training batches: a pure function of (seed, step, index), so that a resumed run sees the same ones."""

    def batch(self, step: int, size: int) -> tuple[Audio, Audio]:
        """(clean, noisy), float32 `[size, samples]` each, or noisy `[size, microphones, samples]`.

        May be called from any thread.
        """


class Material(Protocol):
    """What one split is made of: pairs, or ingredients to mix."""

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file it reads, in a fixed order."""

    def describe(self) -> dict[str, Any]:
        """Everything but the files that decides the sound, as JSON data."""

    def hold_out(self, fraction: float, by: str | None) -> tuple[Material, Material]:
        """(the rest, the held-out part), disjoint in files. Raises DataError when one of them would be empty."""

    def pairs(self, rate: int, count: int | None, seconds: float | None, seed: int) -> tuple[EvalPair, ...]:
        """At most `count` fixed pairs for evaluation (default: all there are), mixes cut to `seconds`."""

    def sampler(self, rate: int, seed: int, seconds: float) -> TrainSampler:
        """A sampler of segments of `seconds`."""


@dataclass(frozen=True)
class Data:
    """The three splits at one sample rate, disjoint in files.

    Attributes:
        rate: sample rate of everything handed out, in Hz.
        train: training material.
        validation: pairs for selection and early stopping.
        test: pairs for the final figures only.
        digests: hashes files.
    """

    rate: int
    train: Material
    validation: Sequence[EvalPair]
    test: Sequence[EvalPair]
    digests: Digests

    def sampler(self, seed: int, segment_seconds: float) -> TrainSampler:
        """Training batches of segments of `segment_seconds`."""
        return self.train.sampler(self.rate, seed, segment_seconds)

    def digest(self, split: Split) -> str:
        """Hex SHA-256 over content, order and mixing of a split; where the files lie does not matter."""
        if split == "train":
            content = [self.train.describe(), self.digests.of(self.train.files)]
            return digest_json({"rate": self.rate, "content": content})
        return digest_pairs(self.validation if split == "validation" else self.test, self.rate, self.digests)


def digest_pairs(pairs: Sequence[EvalPair], rate: int, digests: Digests) -> str:
    """Hex SHA-256 over content, order and mixing of pairs at a rate in Hz; where the files lie does not matter."""
    content = [[pair.id, pair.source.describe(), digests.of(pair.source.files)] for pair in pairs]
    return digest_json({"rate": rate, "content": content})
