"""The CSV manifest: one row per pair, of two recordings or of speech and noise to mix."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from pathlib import Path

from earshot.core.errors import DataError
from earshot.pipeline.data.audio import check_microphones, probe
from earshot.pipeline.data.base import EvalPair, PairSource, Split
from earshot.pipeline.data.files import expand
from earshot.pipeline.data.ingredients import FixedMix
from earshot.pipeline.data.pairlist import FilePair

LEVEL_DBFS = -26.0  # RMS of a mixture; the usual level of speech test material (ITU-T P.56)
COLUMNS = "split, then clean and noisy, or speech, noise and snr_db"


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file with a header line, values stripped. Raises DataError."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [
                {key.strip(): (value or "").strip() for key, value in row.items() if isinstance(key, str)}
                for row in csv.DictReader(file)
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as CSV ({error})", f"columns: {COLUMNS}") from error
    if not rows:
        raise DataError(f"{path}: holds no rows", f"columns: {COLUMNS}")
    return rows


def number(path: Path, line: int, column: str, text: str) -> float:
    """A finite number from a cell. Raises DataError that names file, line and column."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{path} line {line}: {column} is not a number: {text!r}", "write a finite number")
    return value


def manifest_pairs(path: Path, split: Split, rate: int, microphones: int = 1) -> tuple[EvalPair, ...]:
    """The pairs of one split. Raises DataError that names file and line."""
    path = expand(path)
    pairs = [
        _pair(path, line, row, rate, microphones)
        for line, row in enumerate(read_rows(path), start=2)  # line 1 is the header
        if row.get("split") == split
    ]
    if not pairs:
        raise DataError(f"{path}: no row has split = {split}", "splits are train, validation and test")
    seen: set[str] = set()
    for pair in pairs:
        if pair.id in seen:
            raise DataError(f"{path}: two {split} rows have the id {pair.id}", "give the rows an id column")
        seen.add(pair.id)
    return tuple(pairs)


def _pair(path: Path, line: int, row: Mapping[str, str], rate: int, microphones: int) -> EvalPair:
    snr = number(path, line, "snr_db", row["snr_db"]) if row.get("snr_db") else None
    source: PairSource
    if row.get("clean") and row.get("noisy"):
        source = FilePair(_file(path, row["clean"]), _file(path, row["noisy"]), rate, microphones)
        source.check()
        name = source.noisy.stem
    elif row.get("speech") and row.get("noise") and snr is not None:
        at = number(path, line, "noise_at", row.get("noise_at") or "0") % 1.0
        speech, noise = _file(path, row["speech"]), _file(path, row["noise"])
        for part in (speech, noise):
            header = probe(part)
            if microphones > 1:
                check_microphones(part, header.channels, microphones)
        source = FixedMix(speech, noise, None, rate, snr, LEVEL_DBFS, at, microphones=microphones)
        name = f"{speech.stem}_{noise.stem}_{snr:g}dB"
    else:
        raise DataError(f"{path} line {line}: names neither a pair nor a mix", f"columns: {COLUMNS}")
    return EvalPair(row.get("id") or name, row.get("group") or "all", snr, source)


def _file(manifest: Path, text: str) -> Path:
    return manifest.parent / expand(Path(text))
