"""Sound and spectrograms of some clips of a run, for the people who read its report.

The run's own .tflite files enhance the clips again, frame by frame as they were scored. What cannot be had any more,
because data or models are on another machine or were removed, costs its part and is named; the rest is made.
"""

from __future__ import annotations

import difflib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from earshot.ci.clip_choice import Choice, choose, judging_metric
from earshot.ci.evidence import Evidence, Scores
from earshot.ci.explanation import Explanation
from earshot.ci.metrics import known_metric
from earshot.ci.run_file import Row, Run, shipped_row
from earshot.ci.run_page import ClipSounds, Listening, Version
from earshot.core.config import parse
from earshot.core.errors import DataError, EarshotError, ModelError, UsageError
from earshot.pipeline.progress import Progress, Silent
from earshot.pipeline.store import Store

if TYPE_CHECKING:
    from earshot.pipeline.data.base import Audio, EvalPair
    from earshot.pipeline.enhancers import Enhance

MOST_CLIPS = 12
LONGEST_SECONDS = 6.0
MARGIN_SECONDS = 1.0  # enhanced beyond the cut: no model looks further ahead
LARGEST_BYTES = (
    2_600_000  # of all sound together: as text in the page a third more, and 1 MB is for pictures and tables
)
LEVELS_DB = 80.0  # from the brightest colour to the darkest
FLOAT_ROW = "convert:float32"
_TRAINED = ("quantize:train", "prune", "distill")


def listen(
    run: Run,
    evidence: Evidence,
    store: Store,
    clips: Sequence[str] = (),
    progress: Progress | None = None,
    explanation: Explanation | None = None,
) -> Listening:
    """Clips of a run's test set: noisy, through the float file, through the file that ships, and clean.

    Args:
        run: the run, complete or not.
        evidence: its scores.
        store: where its models are.
        clips: ids; default: the clip that gained least, the median one and the one that gained most.
        progress: told about every clip.
        explanation: why budgets were missed; the clip that lost most there comes before the one that gained least.

    Raises:
        UsageError: a clip that the test set does not have, or too many of them.
    """
    if len(clips) > MOST_CLIPS:
        raise UsageError(f"{len(clips)} clips to listen to, a page holds at most {MOST_CLIPS}", "name fewer")
    try:
        recipe = _recipe(run)
        pairs = _test_pairs(recipe, store, _dataset(evidence))
    except Exception as error:  # noqa: BLE001 - what a user's data raises costs the sound, not the report
        return _silent(run, error)
    chosen = _chosen(run, evidence, clips, pairs, explanation)
    try:
        return _listen(run, evidence, store, chosen, pairs, recipe.frontend.rate, progress or Silent())
    except Exception as error:  # noqa: BLE001 - nor does what a damaged model raises
        return _silent(run, error)


def _silent(run: Run, error: Exception) -> Listening:
    reason = error.message if isinstance(error, EarshotError) else f"{type(error).__name__}: {error}"
    return Listening(source=source_of(run), missing=(f"no sound: {reason}",))


@dataclass(frozen=True)
class _Model:
    """A row's .tflite as it is called on the page, and what it makes of noisy sound."""

    name: str
    row: str
    enhance: Enhance


@dataclass(frozen=True)
class _Heard:
    """A clip's versions as float sound `[samples]`, with the row of each."""

    pair: EvalPair
    why: str
    whole: int
    versions: tuple[tuple[str, str | None, Audio], ...]


def _listen(
    run: Run,
    evidence: Evidence,
    store: Store,
    chosen: Sequence[Choice],
    pairs: dict[str, EvalPair],
    rate: int,
    progress: Progress,
) -> Listening:
    import numpy as np

    from earshot.pipeline.spectrogram import SHADES, picture

    models, missing = _models(run, store, rate)
    progress.start("sound for the report", len(chosen))
    heard = []
    for choice in chosen:
        heard.append(_hear(choice, pairs[choice.clip], models, rate))
        progress.advance()
    progress.finish()
    ships = shipped_row(run.rows)
    metric = judging_metric(evidence.scores.get(ships.row) if ships else None)
    known = known_metric(metric)
    ramp = np.linspace(0, 1, SHADES)[None]
    return Listening(
        clips=_encoded(heard, evidence, metric, rate),
        source=source_of(run),
        metric=metric,
        unit=known.unit if known else "1",
        scale=picture(ramp, 0, 1),
        missing=tuple(missing),
    )


def source_of(run: Run) -> str:
    """Which data a run's test sound is from, folders by their last name: where they lie is nobody's business."""
    section = (run.recipe.get("data") or {}).get("test")
    if not isinstance(section, dict):
        return ""
    kind = str(section.get("kind", ""))
    if kind == "embedded":
        return "the pack that comes with earshot: synthetic voices and noises, Apache-2.0"
    named = [PurePath(value).name for key in ("path", "speech", "noise") if isinstance(value := section.get(key), str)]
    folders = f" ({', '.join(named)})" if named else ""
    return f"the run's test data, kind {kind}{folders}: its licence decides with whom this page may be shared"


def _recipe(run: Run) -> Any:
    from earshot.pipeline.recipe import Recipe

    return parse(Recipe, run.recipe, f"run {run.name}: recipe")


def _dataset(evidence: Evidence) -> str:
    return next((scores.dataset for scores in evidence.scores.values()), "")


def _test_pairs(recipe: Any, store: Store, dataset: str) -> dict[str, EvalPair]:
    """Id -> pair. Raises DataError when the files are not those that were scored."""
    from earshot.pipeline.data.open import open_test

    frontend, cache = recipe.frontend, store.root / "cache"
    pairs, digest = open_test(recipe.data, frontend.rate, 0, cache if cache.is_dir() else None, frontend.channels)
    if dataset and digest != dataset:
        raise DataError(
            "the test data is not what this run was scored on: its content has changed since",
            "run again on the data as it is now: earshot run",
        )
    return {pair.id: pair for pair in pairs}


def _chosen(
    run: Run, evidence: Evidence, clips: Sequence[str], pairs: dict[str, EvalPair], explanation: Explanation | None
) -> tuple[Choice, ...]:
    for clip in clips:
        if clip not in pairs:
            near = difflib.get_close_matches(clip, pairs, n=3, cutoff=0.4) or list(pairs)[:3]
            raise UsageError(f"the test set has no clip '{clip}'", f"some of its {len(pairs)} clips: {', '.join(near)}")
    if clips:
        return tuple(Choice(clip, "asked for") for clip in dict.fromkeys(clips))
    ships = shipped_row(run.rows)
    found = choose(evidence.scores, ships.row, ("noisy", FLOAT_ROW), explanation) if ships else ()
    return found or tuple(Choice(clip, "first in the test set") for clip in list(pairs)[:3])


def _models(run: Run, store: Store, rate: int) -> tuple[list[_Model], list[str]]:
    """The float file and the one that ships, opened; and why one is not there."""
    from earshot.pipeline.enhancers import TfliteEnhancer

    found, missing = [], []
    for row in models_heard(run):
        try:
            path = _file(run, row, store)
            found.append(_Model(row.row.rpartition(":")[2], row.row, TfliteEnhancer(path).open(rate)))
        except EarshotError as error:
            missing.append(f"without {row.row}: {error.message}")
    if not found and not missing:
        missing.append("no row of the run has a model to hear")
    return found, missing


def models_heard(run: Run) -> list[Row]:
    """The float row and the row that ships, where there are both."""
    ships = shipped_row(run.rows)
    by_name = {row.row: row for row in run.rows}
    parent = next((by_name[name] for name in (FLOAT_ROW, *_TRAINED) if name in by_name), None)
    return list({row.row: row for row in (parent, ships) if row is not None}.values())


def _file(run: Run, row: Row, store: Store) -> Path:
    """The .tflite of a row, or the streaming form of its checkpoint. Raises ModelError when there is none."""
    for identity in (row.artifact, run.artifacts.get(f"export {row.row}")):
        artifact = store.find(identity) if identity else None
        for name in artifact.manifest.files if artifact else ():
            if artifact and name.endswith(".tflite"):
                return artifact.file(name)
    raise ModelError(f"its .tflite is not in {store.root}, or it has no streaming form", "earshot pull, or earshot run")


def _hear(choice: Choice, pair: EvalPair, models: Sequence[_Model], rate: int) -> _Heard:
    clean, noisy = pair.load()
    whole, kept = len(clean), round((LONGEST_SECONDS + MARGIN_SECONDS) * rate)
    clean, noisy = clean[:kept], noisy[..., :kept]
    first = noisy if noisy.ndim == 1 else noisy[0]
    enhanced = [(model.name, model.row, model.enhance(noisy)) for model in models]
    versions: list[tuple[str, str | None, Audio]] = [("noisy", "noisy", first), *enhanced, ("clean", None, clean)]
    longest = round(LONGEST_SECONDS * rate)
    return _Heard(pair, choice.why, whole, tuple((name, row, sound[:longest]) for name, row, sound in versions))


def _encoded(heard: Sequence[_Heard], evidence: Evidence, metric: str, rate: int) -> tuple[ClipSounds, ...]:
    """The clips, cut so that all of them together fit into a page."""
    seconds = LONGEST_SECONDS
    while True:
        clips = tuple(_sounds(one, evidence.scores, metric, rate, round(seconds * rate)) for one in heard)
        size = sum(len(version.sound) + len(version.picture) for clip in clips for version in clip.versions)
        if size <= LARGEST_BYTES:
            return clips
        seconds *= 0.95 * LARGEST_BYTES / size


def _sounds(heard: _Heard, scores: dict[str, Scores], metric: str, rate: int, samples: int) -> ClipSounds:
    """The beginning of a clip; its spectrograms share their colours."""
    import numpy as np

    from earshot.pipeline.spectrogram import picture, spectrogram

    levels = [spectrogram(sound[:samples], rate) for *_, sound in heard.versions]
    high = float(5 * np.ceil(max(np.percentile(one, 99.9) for one in levels) / 5))
    versions = []
    for (name, row, sound), drawn in zip(heard.versions, levels, strict=True):
        file, clipped = encode(sound[:samples], rate)
        score = scores[row].column(metric).get(heard.pair.id) if row in scores else None
        versions.append(Version(name, row, file, picture(drawn, high - LEVELS_DB, high), clipped, score))
    return ClipSounds(
        id=heard.pair.id,
        group=heard.pair.group,
        snr_db=heard.pair.snr_db,
        why=heard.why,
        seconds=min(samples, heard.whole) / rate,
        whole_seconds=heard.whole / rate,
        rate=rate,
        decibels=(high - LEVELS_DB, high),
        versions=tuple(versions),
    )


def encode(sound: Audio, rate: int) -> tuple[bytes, int]:
    """Float `[samples]` as a FLAC file of 16 bit at its own level, and how many samples were cut off at full scale."""
    import numpy as np
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, sound, rate, format="FLAC", subtype="PCM_16")
    steps = np.round(sound.astype(np.float64) * 2**15)
    return file.getvalue(), int(np.count_nonzero((steps > 2**15 - 1) | (steps < -(2**15))))
