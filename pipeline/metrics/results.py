"""Scores of a set of clips: every clip by name, means with intervals, breakdowns, JSON."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from earshot.core.errors import ArtifactError
from earshot.core.measurement import Measurement

SCHEMA = "earshot.evaluation/1"
_SNR_BINS = (
    (-math.inf, 0.0, "below 0 dB"),
    (0.0, 5.0, "0 to 5 dB"),
    (5.0, 10.0, "5 to 10 dB"),
    (10.0, math.inf, "10 dB up"),
)
_SNR_UNKNOWN = "SNR unknown"
_NAMED_CLIPS = 3


@dataclass(frozen=True)
class ClipScore:
    """One clip's scores; every metric asked for stands in `values` or, with its reason, in `failures`."""

    id: str
    group: str
    snr_db: float | None
    values: Mapping[str, float] = field(default_factory=dict)
    failures: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluation:
    """Scores of one enhancer on one set of clips.

    Attributes:
        enhancer: what was scored.
        dataset: digest or name of the set; two evaluations compare only where it is equal.
        rate: of the data, Hz.
        protocol: metric name -> how it was computed, with library versions.
        units: metric name -> unit.
        clips: one row per clip, in the set's order.
    """

    enhancer: str
    dataset: str
    rate: int
    protocol: Mapping[str, str]
    units: Mapping[str, str]
    clips: tuple[ClipScore, ...]

    def measurements(self, group: str | None = None) -> list[Measurement]:
        """One measurement per metric, over all clips or one group. Raises ArtifactError for an unknown group."""
        if group is None:
            return self._measure(self.clips)
        if group not in self.by_group():
            raise ArtifactError(f"no clip of group '{group}' was evaluated", f"groups: {', '.join(self.by_group())}")
        return self.by_group()[group]

    def by_group(self) -> dict[str, list[Measurement]]:
        """Measurements of every group, in order of first appearance."""
        return self._split(lambda clip: clip.group)

    def by_snr(self) -> dict[str, list[Measurement]]:
        """Measurements by the noisy input's SNR, lowest first; clips of unknown SNR come last under their own name."""
        split = self._split(lambda clip: _snr_bin(clip.snr_db))
        return {label: split[label] for *_, label in (*_SNR_BINS, (_SNR_UNKNOWN,)) if label in split}

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return {"schema": SCHEMA, **asdict(self), "clips": [asdict(clip) for clip in self.clips]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Evaluation:
        """The inverse of `to_dict`. Raises ArtifactError on anything else."""
        if data.get("schema") != SCHEMA:
            raise ArtifactError(f"not an evaluation: schema is {data.get('schema')!r}, expected '{SCHEMA}'")
        try:
            fields = {key: value for key, value in data.items() if key != "schema"}
            return cls(**{**fields, "clips": tuple(ClipScore(**clip) for clip in data["clips"])})
        except (KeyError, TypeError) as error:
            raise ArtifactError(f"a damaged evaluation: {error}", "run: earshot evaluate") from error

    def _split(self, key: Callable[[ClipScore], str]) -> dict[str, list[Measurement]]:
        parts: dict[str, list[ClipScore]] = {}
        for clip in self.clips:
            parts.setdefault(key(clip), []).append(clip)
        return {name: self._measure(clips) for name, clips in parts.items()}

    def _measure(self, clips: Sequence[ClipScore]) -> list[Measurement]:
        return [_mean(metric, unit, clips) for metric, unit in self.units.items()]


def _mean(metric: str, unit: str, clips: Sequence[ClipScore]) -> Measurement:
    values = [clip.values[metric] for clip in clips if metric in clip.values]
    failures = {clip.id: clip.failures[metric] for clip in clips if metric in clip.failures}
    mean = math.fsum(values) / len(values) if values else None
    return Measurement(
        metric,
        mean,
        unit,
        n=len(values),
        interval=confidence_interval(values),
        failed=len(failures),
        reason=_reason(failures, len(clips)),
    )


def confidence_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float] | None:
    """Student's t interval of the mean; None for fewer than two values, which say nothing about their spread."""
    count = len(values)
    if count < 2:
        return None
    from scipy.special import stdtrit

    mean = math.fsum(values) / count
    variance = math.fsum((value - mean) ** 2 for value in values) / (count - 1)
    half = float(stdtrit(count - 1, 0.5 + level / 2)) * math.sqrt(variance / count)
    return mean - half, mean + half


def _reason(failures: Mapping[str, str], clips: int) -> str | None:
    if not failures:
        return None
    named = [f"{name} ({why})" for name, why in list(failures.items())[:_NAMED_CLIPS]]
    more = f"; and {len(failures) - _NAMED_CLIPS} more" if len(failures) > _NAMED_CLIPS else ""
    return f"{len(failures)} of {clips} clips could not be scored: {'; '.join(named)}{more}"


def _snr_bin(snr_db: float | None) -> str:
    if snr_db is None:
        return _SNR_UNKNOWN
    return next((label for low, high, label in _SNR_BINS if low <= snr_db < high), _SNR_UNKNOWN)
