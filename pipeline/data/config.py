"""The `data` section of a recipe: where training, validation and test material comes from."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from earshot.core.config import Config


def _ascending(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] > value[1]:
        raise ValueError(f"the range must ascend, got {value[0]} to {value[1]}")
    return value


def _pattern(value: str) -> str:
    try:
        groups = re.compile(value).groups
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from error
    if groups != 1:
        raise ValueError("the expression must have exactly one (group): the part of the file name that counts")
    return value


Range = Annotated[tuple[float, float], AfterValidator(_ascending)]
Probability = Annotated[float, Field(ge=0, le=1)]
Pattern = Annotated[str, AfterValidator(_pattern)]


class Mixing(Config):
    """How speech and noise are mixed on the fly.

    Attributes:
        snr_db: range of active speech level over noise level, drawn evenly.
        level_dbfs: range of the mixture's RMS level, drawn evenly.
        second_noise: probability of a second noise under the first, training only.
        filters: probability, for speech and noise each, of a random second-order filter, training only.
        reverb: probability that the speech passes through a room response, where there are any.
    """

    snr_db: Range = (-5.0, 18.0)
    level_dbfs: Range = (-40.0, -15.0)
    second_noise: Probability = 0.3
    filters: Probability = 0.5
    reverb: Probability = 0.5


class EmbeddedConfig(Config):
    """The pack that comes with earshot: synthetic voices and noises, 16 kHz (band-limited to 8 kHz at higher rates)."""

    kind: Literal["embedded"] = "embedded"
    mixing: Mixing = Mixing()


class VoiceBankConfig(Config):
    """The folder layout of VoiceBank-DEMAND (Valentini-Botinhao, Edinburgh DataShare 10283/2791).

    Attributes:
        path: the folder with clean_trainset_28spk_wav, noisy_trainset_28spk_wav, clean_testset_wav, noisy_testset_wav.
        speakers: which of the two training sets.
    """

    kind: Literal["voicebank"]
    path: Path
    speakers: Literal[28, 56] = 28


class PairsConfig(Config):
    """Clean and noisy sound files of equal name.

    Attributes:
        path: a folder with `clean/` and `noisy/`, and maybe `manifest.csv` (columns name, snr_db, group).
        clean: the folder of clean files; default `path`/clean.
        noisy: the folder of noisy files; default `path`/noisy.
        group: the part of a file name that names its group in reports.
    """

    kind: Literal["pairs"]
    path: Path
    clean: Path | None = None
    noisy: Path | None = None
    group: Pattern = r"^([^_]+)"


class MixConfig(Config):
    """Folders of speech and noise, searched with their subfolders and mixed on the fly.

    Attributes:
        speech: folder of clean speech.
        noise: folder of noise.
        rir: folder of room impulse responses (the first channel counts).
        mixing: levels and augmentation.
        pairs: how many fixed mixes, when this section is validation or test.
        seconds: longest fixed mix.
    """

    kind: Literal["mix"]
    speech: Path
    noise: Path
    rir: Path | None = None
    mixing: Mixing = Mixing()
    pairs: Annotated[int, Field(ge=1)] = 100
    seconds: Annotated[float, Field(gt=0)] = 6.0


class ManifestConfig(Config):
    """A CSV file, one pair per row: `split`, then `clean` and `noisy`, or `speech`, `noise` and `snr_db`.

    Optional columns: `id`, `group`. Relative paths start at the CSV file's folder.
    """

    kind: Literal["manifest"]
    path: Path


class HoldoutConfig(Config):
    """A part of the training files, kept for validation: by a hash of the name, so that a growing folder keeps it.

    Attributes:
        fraction: the part that is held out; at least one file.
        by: the part of a file name that stays together (a speaker); default: the whole name, or what the layout knows.
        pairs: at most this many validation pairs.
        seconds: longest validation mix, where training material is mixed on the fly.
    """

    kind: Literal["holdout"] = "holdout"
    fraction: Annotated[float, Field(gt=0, lt=1)] = 0.05
    by: Pattern | None = None
    pairs: Annotated[int, Field(ge=1)] = 48
    seconds: Annotated[float, Field(gt=0)] = 5.0


Source = EmbeddedConfig | VoiceBankConfig | PairsConfig | MixConfig | ManifestConfig


class DataConfig(Config):
    """Training, validation and test material; selection is always on validation, never on test."""

    train: Annotated[Source, Field(discriminator="kind")] = EmbeddedConfig()
    validation: Annotated[Source | HoldoutConfig, Field(discriminator="kind")] = HoldoutConfig()
    test: Annotated[Source, Field(discriminator="kind")] = EmbeddedConfig()
