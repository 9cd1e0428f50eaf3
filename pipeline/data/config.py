"""The `data` section of a recipe: where training, validation and test material comes from."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, Field, model_validator

from earshot.core.config import Config
from earshot.pipeline.data.arrays.geometry import Positions, checked, positions

Bounds = TypeVar("Bounds", tuple[float, float], tuple[int, int])


def _ascending(value: Bounds) -> Bounds:
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
Count = Annotated[int, Field(ge=0)]
Counts = Annotated[tuple[Count, Count], AfterValidator(_ascending)]
SMALLEST_ROOM_M = 2.2  # an array keeps a metre from every wall
Part = Annotated[
    tuple[Annotated[float, Field(ge=0, le=1)], Annotated[float, Field(ge=0, le=1)]], AfterValidator(_ascending)
]
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
        every: of the pairs, sorted by name, only every so many-th: a quicker look.
    """

    kind: Literal["pairs"]
    path: Path
    clean: Path | None = None
    noisy: Path | None = None
    group: Pattern = r"^([^_]+)"
    every: Annotated[int, Field(ge=1)] = 1


class MixConfig(Config):
    """Folders of speech and noise, searched with their subfolders and mixed on the fly.

    Attributes:
        speech: folder of clean speech.
        noise: folder of noise; default: the embedded pack's part for the split.
        noises: of the embedded pack, only these kinds, `car` say (see its README).
        rir: folder of room impulse responses (the first channel counts).
        mixing: levels and augmentation.
        pairs: how many fixed mixes, when this section is validation or test.
        seconds: longest fixed mix.
    """

    kind: Literal["mix"]
    speech: Path
    noise: Path | None = None
    noises: tuple[str, ...] = ()
    rir: Path | None = None
    mixing: Mixing = Mixing()
    pairs: Annotated[int, Field(ge=1)] = 100
    seconds: Annotated[float, Field(gt=0)] = 6.0

    @model_validator(mode="after")
    def _one_source(self) -> MixConfig:
        if self.noise is not None and self.noises:
            raise ValueError("noises choose from the embedded pack: leave out noise, or noises")
        return self


class ScenesConfig(Config):
    """How an array and what it hears are placed in simulated rooms; every range is drawn from evenly.

    Attributes:
        microphones: a named array (`compact5`, `ears`, `hearing_aid`, `square4`), or positions [x, y, z] in metres, the
            reference first.
        size_m: ranges of width, depth and height of the rooms, metres.
        rt60_s: range of reverberation times in seconds; [0, 0] is a free field.
        count: rooms that one training draws from; simulated once each.
        talker_m: range of the talker's distance, metres.
        talker_deg: range of the talker's direction, counter-clockwise from the array's x axis; from a narrow range a
            network learns where to listen. Noises come from everywhere.
        directional: fewest and most directional noises.
        snr_db: active speech level over the level of all noise, at the reference microphone.
        level_dbfs: the mixture's RMS level there.
        diffuse_db: diffuse noise over directional.
        microphones_db: the microphones' own noise over all other.
    """

    microphones: Annotated[str | Positions, AfterValidator(checked)]
    size_m: tuple[Range, Range, Range] = ((3.0, 8.0), (3.0, 6.0), (2.4, 3.2))
    rt60_s: Range = (0.15, 0.4)
    count: Annotated[int, Field(ge=1)] = 64
    talker_m: Range = (0.5, 2.0)
    talker_deg: Range = (0.0, 360.0)
    directional: Counts = (1, 2)
    snr_db: Range = (-5.0, 15.0)
    level_dbfs: Range = (-40.0, -15.0)
    diffuse_db: Range = (-10.0, 5.0)
    microphones_db: Range = (-40.0, -20.0)

    @property
    def channels(self) -> int:
        """How many microphones there are."""
        return len(positions(self.microphones))

    @model_validator(mode="after")
    def _possible(self) -> ScenesConfig:
        from earshot.pipeline.data.arrays.rooms import absorption

        if min(low for low, _ in self.size_m) < SMALLEST_ROOM_M:
            raise ValueError(f"size_m: a room is at least {SMALLEST_ROOM_M} m wide, deep and high")
        if self.talker_m[0] <= 0:
            raise ValueError("talker_m: distances are above 0")
        low, high = self.rt60_s
        if low < 0 or (low == 0) != (high == 0):
            raise ValueError("rt60_s: seconds above 0, or [0, 0] for a free field")
        width, depth, height = (largest for _, largest in self.size_m)
        if low and absorption((width, depth, height), low) > 1:
            least = low * absorption((width, depth, height), low)
            raise ValueError(f"rt60_s: the largest of these rooms has no RT60 below {least:.2f} s; raise the limit")
        return self


class ArrayConfig(Config):
    """Folders of speech and noise as the microphones of an array hear them in simulated rooms (extra `arrays`).

    Attributes:
        scenes: the array, the rooms, and what is heard there.
        speech: folder of clean speech; default: the embedded pack's part for the split.
        noise: folder of noise; likewise.
        noise_part: from and to, 0 to 1, by a hash of the name: two sections whose parts do not overlap share one folder
            and no noise.
        noise_by: the part of a noise file's name that stays together (a recording cut in several); default: all of it.
        pairs: how many fixed scenes, when this section is validation or test.
        seconds: longest fixed scene.
        input_snr_db: fixed scenes take these input SNRs in turn, in place of the range of `scenes`, and reports tell
            them apart: groups `snr-5`, `snr0`.
    """

    kind: Literal["array"]
    scenes: ScenesConfig
    speech: Path | None = None
    noise: Path | None = None
    noise_part: Part = (0.0, 1.0)
    noise_by: Pattern | None = None
    pairs: Annotated[int, Field(ge=1)] = 48
    seconds: Annotated[float, Field(gt=0)] = 6.0
    input_snr_db: tuple[float, ...] = ()

    @model_validator(mode="after")
    def _both_or_none(self) -> ArrayConfig:
        if (self.speech is None) != (self.noise is None):
            raise ValueError("name speech and noise, or neither for the embedded pack")
        return self


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


Source = EmbeddedConfig | VoiceBankConfig | PairsConfig | MixConfig | ArrayConfig | ManifestConfig


class DataConfig(Config):
    """Training, validation and test material; selection is always on validation, never on test."""

    train: Annotated[Source, Field(discriminator="kind")] = EmbeddedConfig()
    validation: Annotated[Source | HoldoutConfig, Field(discriminator="kind")] = HoldoutConfig()
    test: Annotated[Source, Field(discriminator="kind")] = EmbeddedConfig()
