"""All that the HTML page of a run shows, as plain data: whoever has store, models and sound fills it in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from earshot.ci.comparison import Comparison
from earshot.ci.difference import Pair
from earshot.ci.explanation import Explanation
from earshot.ci.run_file import Run
from earshot.ci.verdict import Verdict
from earshot.core.measurement import Measurement


@dataclass(frozen=True)
class Version:
    """A clip as it came in, as a model gave it out, or as it should be.

    Attributes:
        name: `noisy`, `float32`, `int8`, `clean`.
        row: the run's row whose scores it has; None for clean.
        sound: a FLAC file of 16 bit.
        picture: its spectrogram, a PNG from 0 Hz (below) to half the rate (above).
        clipped: samples beyond what 16 bit hold, cut off there.
        score: of the metric by which clips were chosen.
    """

    name: str
    row: str | None
    sound: bytes
    picture: bytes
    clipped: int = 0
    score: float | None = None


@dataclass(frozen=True)
class ClipSounds:
    """One clip in all its versions.

    Attributes:
        id, group, snr_db: as in the test set.
        why: what it was chosen for.
        seconds: what is shown, from its beginning.
        whole_seconds: how long it is.
        rate: Hz.
        decibels: level of the darkest and the brightest colour of all its spectrograms, dB, a full-scale sine is 0.
        versions: in the order in which they are shown.
    """

    id: str
    group: str
    snr_db: float | None
    why: str
    seconds: float
    whole_seconds: float
    rate: int
    decibels: tuple[float, float]
    versions: tuple[Version, ...]


@dataclass(frozen=True)
class Listening:
    """Clips to listen to.

    Attributes:
        clips: the clips; empty where there is no sound.
        source: which data they come from.
        metric, unit: by which they were chosen; empty where nothing was scored.
        scale: the colours of all spectrograms, darkest first: a PNG one row high.
        missing: why there is no sound, or not all of it.
    """

    clips: tuple[ClipSounds, ...] = ()
    source: str = ""
    metric: str = ""
    unit: str = "1"
    scale: bytes = b""
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class RunPage:
    """A run, what the gate said of it, and what is known beside.

    Attributes:
        run, verdicts: the run, and one verdict a budget.
        comparison: its targets, with operators and histograms as far as they are kept.
        by_snr: row -> part of the test set by the noisy input's SNR, lowest first -> one mean a metric.
        protocol: metric -> how it was computed.
        dataset: digest of the test set; empty where nothing was scored.
        explanation: why budgets were missed.
        pair: the baseline beside the run.
        listening: sound.
    """

    run: Run
    verdicts: tuple[Verdict, ...] = ()
    comparison: Comparison = field(default_factory=Comparison)
    by_snr: Mapping[str, Mapping[str, tuple[Measurement, ...]]] = field(default_factory=dict)
    protocol: Mapping[str, str] = field(default_factory=dict)
    dataset: str = ""
    explanation: Explanation | None = None
    pair: Pair | None = None
    listening: Listening = Listening()
