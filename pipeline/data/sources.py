"""One function per kind of data: from a section of the recipe to the material of a split."""

from __future__ import annotations

from pathlib import Path

from earshot.core.errors import DataError
from earshot.pipeline.data.arrays.material import ArrayIngredients
from earshot.pipeline.data.base import EvalPair, Material, Split
from earshot.pipeline.data.config import (
    ArrayConfig,
    EmbeddedConfig,
    ManifestConfig,
    MixConfig,
    Mixing,
    PairsConfig,
    Source,
    VoiceBankConfig,
)
from earshot.pipeline.data.files import expand, folder, sound_files
from earshot.pipeline.data.holdout import part_of, unit
from earshot.pipeline.data.ingredients import Ingredients
from earshot.pipeline.data.manifest import manifest_pairs, number, read_rows
from earshot.pipeline.data.pairlist import FilePair, PairList

PACK = Path(__file__).parent / "pack"
PACK_VOICE = r"^([^_]+)_"
VOICEBANK_SPEAKER = r"^(p\d+)_"


def material(section: Source, split: Split, rate: int, microphones: int = 1) -> Material:
    """What a section offers for a split, for so many microphones. Raises DataError that names file, folder and fix."""
    if microphones > 1 and isinstance(section, EmbeddedConfig | VoiceBankConfig | MixConfig):
        raise DataError(
            f"data.{split}: sound of kind '{section.kind}' is of 1 microphone, but the frontend has {microphones}",
            "use kind: array, or kind: pairs or manifest with files of as many channels",
        )
    match section:
        case EmbeddedConfig():
            return _embedded(section, split, rate)
        case VoiceBankConfig():
            return _voicebank(section, split, rate)
        case PairsConfig():
            return _pairs(section, rate, microphones)
        case MixConfig():
            rir = sound_files(section.rir) if section.rir else ()
            noise = sound_files(section.noise) if section.noise else pack_noises(split, section.noises)
            return Ingredients(sound_files(section.speech), noise, rir, section.mixing)
        case ArrayConfig():
            return _array(section, split, microphones)
        case ManifestConfig():
            return PairList(manifest_pairs(section.path, split, rate, microphones))


def pack_noises(split: Split, kinds: tuple[str, ...] = ()) -> tuple[Path, ...]:
    """The embedded pack's noise of a split, of these kinds or of all. Raises DataError when it has no such kind."""
    files = sound_files(PACK / "noise" / split)
    known = {path: path.stem.rpartition("_")[0] for path in files}
    for kind in kinds:
        if kind not in known.values():
            raise DataError(
                f"data.{split}.noises: the embedded pack has no noise of the kind '{kind}'",
                f"it has {', '.join(sorted(set(known.values())))}",
            )
    return tuple(path for path, kind in known.items() if not kinds or kind in kinds)


def _embedded(section: EmbeddedConfig, split: Split, rate: int) -> Material:
    if split != "train":
        return PairList(manifest_pairs(PACK / "mixes.csv", split, rate), PACK_VOICE)
    speech, noise = (sound_files(PACK / kind / "train") for kind in ("speech", "noise"))
    return Ingredients(speech, noise, (), section.mixing, PACK_VOICE)


def _array(section: ArrayConfig, split: Split, microphones: int) -> Material:
    if section.scenes.channels != microphones:
        raise DataError(
            f"data.{split}: its array has {section.scenes.channels} microphones, but the frontend has {microphones}",
            f"set frontend.channels to {section.scenes.channels}, or name another array in scenes.microphones",
        )
    embedded = section.speech is None or section.noise is None
    speech = sound_files(section.speech or PACK / "speech" / split)
    noise = sound_files(section.noise or PACK / "noise" / split)
    noise = part_of(noise, lambda path: path.stem, section.noise_part, section.noise_by, f"data.{split}.noise")
    # Rooms colour the sound and scenes have several noises already; levels are the scenes'.
    mixing, voice = Mixing(second_noise=0, filters=0, reverb=0), PACK_VOICE if embedded else None
    return ArrayIngredients(
        Ingredients(speech, noise, (), mixing, voice, section.noise_by), section.scenes, section.input_snr_db
    )


def _voicebank(section: VoiceBankConfig, split: Split, rate: int) -> Material:
    root = folder(section.path)
    part = "testset_wav" if split == "test" else f"trainset_{section.speakers}spk_wav"
    pairs = match_folders(root / f"clean_{part}", root / f"noisy_{part}", rate)
    items = tuple(EvalPair(name, unit(name, VOICEBANK_SPEAKER), None, pair) for name, pair in pairs.items())
    return PairList(items, VOICEBANK_SPEAKER)


def _pairs(section: PairsConfig, rate: int, microphones: int) -> Material:
    root = folder(section.path)
    clean = section.clean or root / "clean"
    noisy = section.noisy or root / "noisy"
    table = root / "manifest.csv"
    rows = {row.get("name", ""): (line, row) for line, row in enumerate(read_rows(table), 2)} if table.is_file() else {}
    # A group column with one value in it (the corpus' own name) tells nothing apart: the file names do.
    grouped = len({row.get("group") for _, row in rows.values()}) > 1
    items = []
    for name, pair in match_folders(clean, noisy, rate, microphones).items():
        line, row = rows.get(name, (0, {}))
        snr = number(table, line, "snr_db", row["snr_db"]) if row.get("snr_db") else None
        group = (row.get("group") if grouped else None) or unit(pair.noisy.stem, section.group)
        items.append(EvalPair(name, group, snr, pair))
    return PairList(tuple(items[:: section.every]))


def match_folders(clean: Path, noisy: Path, rate: int, microphones: int = 1) -> dict[str, FilePair]:
    """Pairs by name: the path in the folder without its suffix. Raises DataError when one has no counterpart."""
    sides = []
    for place in (clean, noisy):
        named: dict[str, Path] = {}
        for path in sound_files(place):
            key = path.relative_to(expand(place)).with_suffix("").as_posix()
            if key in named:
                raise DataError(f"{path}: {named[key].name} has the same name", "keep one of the two")
            named[key] = path
        sides.append(named)
    lone = sorted(sides[0].keys() ^ sides[1].keys())
    if lone:
        there, absent = (clean, noisy) if lone[0] in sides[0] else (noisy, clean)
        raise DataError(
            f"{expand(there)}: {lone[0]} has no counterpart in {expand(absent)} ({len(lone)} files without)",
            "add the missing file, or remove this one",
        )
    pairs = {key: FilePair(path, sides[1][key], rate, microphones) for key, path in sides[0].items()}
    for pair in pairs.values():
        pair.check()
    return pairs
