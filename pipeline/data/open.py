"""Opens the data a recipe names: three splits, checked to be disjoint."""

from __future__ import annotations

from pathlib import Path

from earshot.pipeline.data.base import Data, EvalPair, Split, digest_pairs
from earshot.pipeline.data.config import ArrayConfig, DataConfig, HoldoutConfig, MixConfig, Source
from earshot.pipeline.data.digests import Digests
from earshot.pipeline.data.files import check_disjoint
from earshot.pipeline.data.sources import material


def open_data(config: DataConfig, rate: int, seed: int = 0, cache: Path | None = None, microphones: int = 1) -> Data:
    """Finds, matches and checks the files of all splits; sound is decoded later.

    Args:
        config: the recipe's data section.
        rate: sample rate of everything handed out, in Hz.
        seed: draws the fixed mixes of `mix` and `array` sections and of a holdout from them; another seed, another set.
        cache: folder that remembers the files' digests.
        microphones: how many the sound is heard with; noisy sound of several is `[microphones, samples]`.

    Raises:
        DataError: a folder or file is missing, empty, damaged, unmatched or of another number of microphones, or two
            splits share a file.
    """
    digests = Digests(cache)
    train = material(config.train, "train", rate, microphones)
    if isinstance(config.validation, HoldoutConfig):
        held = config.validation
        train, rest = train.hold_out(held.fraction, held.by)
        validation = rest.pairs(rate, held.pairs, held.seconds, seed)
        validation_files = rest.files
    else:
        validation = _fixed(config.validation, "validation", rate, seed, microphones)
        validation_files = _files(validation)
    test = _fixed(config.test, "test", rate, seed, microphones)
    check_disjoint({"train": train.files, "validation": validation_files, "test": _files(test)}, digests)
    return Data(rate, train, validation, test, digests)


def open_test(
    config: DataConfig, rate: int, seed: int = 0, cache: Path | None = None, microphones: int = 1
) -> tuple[tuple[EvalPair, ...], str]:
    """The test pairs alone, and their digest: the other splits need not be on this machine.

    Raises:
        DataError: as `open_data`, of the test split.
    """
    pairs = _fixed(config.test, "test", rate, seed, microphones)
    return pairs, digest_pairs(pairs, rate, Digests(cache))


def _fixed(section: Source, split: Split, rate: int, seed: int, microphones: int) -> tuple[EvalPair, ...]:
    found = material(section, split, rate, microphones)
    if isinstance(section, MixConfig | ArrayConfig):
        return found.pairs(rate, section.pairs, section.seconds, seed)
    return found.pairs(rate, None, None, seed)


def _files(pairs: tuple[EvalPair, ...]) -> tuple[Path, ...]:
    return tuple(path for pair in pairs for path in pair.source.files)
