"""Makes the embedded pack: `python -m earshot.pipeline.data.make_pack OUT`, or with `--check` compares it with OUT.

Needs espeak-ng and flite. Every seed is fixed. Compressed bytes depend on the FLAC encoder and last bits on the
processor, so the check compares decoded samples and allows one step of 16 bits.
"""

from __future__ import annotations

import csv
import io
import itertools
import sys
import tempfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np

from earshot.core.errors import DataError, EarshotError
from earshot.core.files import write_atomic
from earshot.pipeline.data.base import Split
from earshot.pipeline.data.mixing import active_rms, rms
from earshot.pipeline.data.pack_noises import KINDS, RENDERINGS
from earshot.pipeline.data.pack_text import SENTENCES
from earshot.pipeline.data.pack_voices import CROWDS, SPEAKERS, require_engines, speak

if TYPE_CHECKING:
    from earshot.pipeline.data.base import Audio

RATE = 16000
SEED = 20240
SPEECH_DBFS = -40.0  # stored quietly: FLAC needs fewer bits, and mixing sets the level anyway
NOISE_DBFS = -52.0
PEAK = 0.95
UTTERANCE_SECONDS = (1.2, 2.5)
NOISE_SECONDS: dict[Split, float] = {"train": 3.5, "validation": 2.5, "test": 3.0}
SNR_DB: dict[Split, tuple[float, ...]] = {"validation": (1, 11, -4, 14, 6), "test": (5, 15, -5, 12.5, 0, 15, 10)}
STEP = 1 / 32768
REMAKE = "make it again: python -m earshot.pipeline.data.make_pack OUT"


@dataclass(frozen=True)
class Clip:
    """One file of the pack.

    Attributes:
        file: path in the pack.
        split: where it belongs.
        name: the voice, or the noise kind.
        detail: the sentence, or the noise's parameters.
        sound: float32 `[samples]` at 16 kHz.
    """

    file: str
    split: Split
    name: str
    detail: str
    sound: Audio


def utterances(split: Split) -> Iterator[Clip]:
    """The split's sentences, its voices taking turns."""
    for index, (text, voice) in enumerate(zip(SENTENCES[split], itertools.cycle(SPEAKERS[split]), strict=False)):
        sound = speak(voice, text, RATE, variation=index * 5 % 7 - 3)
        seconds = len(sound) / RATE
        if not UTTERANCE_SECONDS[0] <= seconds <= UTTERANCE_SECONDS[1]:
            raise DataError(f"{text!r} by {voice.name} takes {seconds:.2f} s", "write a sentence of another length")
        level = np.float32(10 ** (SPEECH_DBFS / 20) / active_rms(sound, RATE))
        yield Clip(f"speech/{split}/{voice.name}_{index:03d}.flac", split, voice.name, text, sound * level)


def noises(split: Split) -> Iterator[Clip]:
    """The split's renderings of every noise kind."""
    samples = int(NOISE_SECONDS[split] * RATE)
    for kind, make in KINDS.items():
        for index, parameters in enumerate(RENDERINGS[kind][split]):
            file = f"noise/{split}/{kind}_{index}.flac"
            rng = np.random.default_rng([SEED, zlib.crc32(file.encode())])
            extra = {"talkers": _talkers(split, parameters["talkers"], index)} if kind == "babble" else {}
            sound = make(rng, samples, RATE, **{**parameters, **extra}).astype(np.float32)
            detail = " ".join(f"{key}={value}" for key, value in parameters.items())
            yield Clip(file, split, kind, detail, sound * np.float32(10 ** (NOISE_DBFS / 20) / rms(sound)))


def _talkers(split: Split, count: int, turn: int) -> list[Audio]:
    """Voices that speak nowhere else, each with several of the split's sentences in a row."""
    sentences = SENTENCES[split]
    talkers = []
    for place in range(count):
        voice = CROWDS[split][(place + 2 * turn) % len(CROWDS[split])]
        chosen = [sentences[(7 * turn + 3 * place + step) % len(sentences)] for step in range(2)]
        talkers.append(speak(voice, " ".join(chosen), RATE, variation=(place + turn) % 7 - 3))
    return talkers


def mixes(split: Split, speech: Sequence[Clip], noise: Sequence[Clip]) -> Iterator[dict[str, str | float]]:
    """One fixed mix per utterance; voices, kinds and SNRs take turns in cycles without a common factor."""
    for index, (clip, other, snr) in enumerate(
        zip(speech, itertools.cycle(noise), itertools.cycle(SNR_DB[split]), strict=False)
    ):
        yield {
            "split": split,
            "id": f"{Path(clip.file).stem}_{other.name}_{snr:g}dB",
            "group": other.name,
            "speech": clip.file,
            "noise": other.file,
            "snr_db": snr,
            "noise_at": round(index * 0.381966 % 1, 6),
        }


def make(out: Path) -> None:
    """Writes the pack into `out`. Raises ToolError when espeak-ng or flite is missing."""
    import soundfile

    require_engines()
    clips: list[Clip] = []
    rows: list[dict[str, str | float]] = []
    for split in SENTENCES:
        speech, noise = list(utterances(split)), list(noises(split))
        clips += speech + noise
        if split != "train":
            rows += mixes(split, speech, noise)
    for clip in clips:
        if np.abs(clip.sound).max() > PEAK:
            raise DataError(f"{clip.file}: clips", "lower SPEECH_DBFS or NOISE_DBFS")
        coded = io.BytesIO()
        soundfile.write(coded, clip.sound, RATE, format="FLAC", subtype="PCM_16", compression_level=1.0)
        write_atomic(out / clip.file, coded.getvalue())
    table = [
        {"file": c.file, "split": c.split, "name": c.name, "detail": c.detail, "seconds": f"{len(c.sound) / RATE:.3f}"}
        for c in clips
    ]
    write_atomic(out / "manifest.csv", _csv(table))
    write_atomic(out / "mixes.csv", _csv(rows))


def check(pack: Path) -> None:
    """Makes the pack again and compares. Raises DataError that names the first file that differs."""
    with tempfile.TemporaryDirectory() as place:
        make(Path(place))
        compare(Path(place), pack)


def compare(made: Path, pack: Path) -> None:
    """Raises DataError that names the first file of `pack` that is not as in `made`."""
    import soundfile

    names, found = (sorted(str(path.relative_to(root)) for path in root.rglob("*.flac")) for root in (made, pack))
    if names != found:
        raise DataError(f"{pack}: other files than the script makes", REMAKE)
    for name in ("manifest.csv", "mixes.csv"):
        if (made / name).read_text() != (pack / name).read_text():
            raise DataError(f"{pack / name}: other text than the script makes", REMAKE)
    for name in names:
        new, old = (soundfile.read(root / name)[0] for root in (made, pack))
        if len(new) != len(old) or np.abs(new - old).max() > 1.5 * STEP:
            raise DataError(f"{pack / name}: other samples than the script makes", REMAKE)


def _csv(rows: Sequence[Mapping[str, str | float]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


@click.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--check", "only_check", is_flag=True, help="Compare OUT with a pack made anew; write nothing.")
def main(out: Path, only_check: bool) -> None:
    """Makes the embedded pack in the folder OUT."""
    try:
        (check if only_check else make)(out)
    except EarshotError as error:
        click.echo(f"error: {error.message}\nfix: {error.hint or 'see the message'}", err=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
