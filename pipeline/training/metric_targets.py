"""What a metric discriminator learns to predict: real metrics of real clips, scaled to 0 … 1.

    PESQ                   1 / (1 + exp(-1.5 (x - 2.5)))
    other metrics in MOS   (x - 1) / 4
    indices                x, limited to 0 … 1

Source: the authors' code of MetricGAN-OKD (ICML 2023) for PESQ and the composite measures. The metrics are computed by
`evaluation.py` in worker processes that stay open; a worker that a clip brings down costs that clip's score only.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from earshot.core.errors import UsageError
from earshot.pipeline.enhancers import Passthrough
from earshot.pipeline.evaluation import evaluate, scoring_pool
from earshot.pipeline.metrics.registry import METRICS, resolve

if TYPE_CHECKING:
    from pebble import ProcessPool

_PESQ_SLOPE, _PESQ_CENTRE = 1.5, 2.5


def scaled(metric: str, value: float) -> float:
    """A metric's value on 0 … 1, where 1 is best. Raises UsageError as `check_targets` does."""
    kind = resolve(metric)
    if metric.startswith("pesq"):
        return 1 / (1 + math.exp(-_PESQ_SLOPE * (value - _PESQ_CENTRE)))
    if not kind.higher_is_better or kind.unit not in ("MOS", "1"):
        known = ", ".join(name for name, one in METRICS.items() if one.unit in ("MOS", "1"))
        raise UsageError(
            f"metric '{metric}' ({kind.unit}) has no scale from 0, worst, to 1, best, that training could follow",
            f"train towards metrics in MOS or indices up to 1 where higher is better: {known}",
        )
    return min(max((value - 1) / 4 if kind.unit == "MOS" else value, 0.0), 1.0)


def check_targets(metrics: Sequence[str], rate: int) -> None:
    """Refuses what cannot be trained towards.

    Raises:
        UsageError: an unknown metric, one without a scale, or one that needs data at more than `rate` Hz.
    """
    for name in metrics:
        scaled(name, 1.0)
        if rate < resolve(name).minimum_rate:
            raise UsageError(
                f"metric '{name}' needs data at {resolve(name).minimum_rate} Hz or more, this is at {rate} Hz",
                "train towards another metric, or at a higher rate",
            )


@dataclass(frozen=True, eq=False)
class Targets:
    """Scaled metrics of some clips.

    Attributes:
        values: float32 `[clips, metrics]`, NaN where a clip could not be scored.
        means: metric -> mean in its own unit over the clips that were scored, where there are any.
        reasons: metric -> why the first clip without a score has none.
    """

    values: np.ndarray
    means: Mapping[str, float]
    reasons: Mapping[str, str]


class MetricScorer:
    """Scores clips in memory.

    Args:
        rate: of the clips, Hz.
        pool: worker processes, see `open_scorer`.
    """

    def __init__(self, rate: int, pool: ProcessPool) -> None:
        self._rate = rate
        self._pool = pool

    def score(self, metrics: Sequence[str], clean: Sequence[np.ndarray], judged: Sequence[np.ndarray]) -> Targets:
        """Metrics of judged signals against clean ones, float32 `[samples]` each.

        Raises:
            ToolError: workers cannot be kept running.
        """
        clips = [_Sound(str(index), *pair) for index, pair in enumerate(zip(clean, judged, strict=True))]
        rows = evaluate(Passthrough("training clips"), clips, metrics, self._rate, pool=self._pool).clips
        values = [
            [scaled(name, row.values[name]) if name in row.values else np.nan for name in metrics] for row in rows
        ]
        scored = {name: [row.values[name] for row in rows if name in row.values] for name in metrics}
        means = {name: math.fsum(found) / len(found) for name, found in scored.items() if found}
        reasons: dict[str, str] = {}
        for row in rows:
            reasons = {**row.failures, **reasons}
        return Targets(np.array(values, np.float32), means, reasons)


@contextmanager
def open_scorer(rate: int) -> Iterator[MetricScorer]:
    """A scorer with worker processes on all cores, gone at the end."""
    with scoring_pool() as pool:
        yield MetricScorer(rate, pool)


@dataclass(frozen=True, eq=False)
class _Sound:
    """A clip in memory, as `evaluate` takes it."""

    id: str
    clean: np.ndarray
    judged: np.ndarray
    group: str = ""
    snr_db: float | None = None

    def load(self) -> tuple[np.ndarray, np.ndarray]:
        """Clean and judged."""
        return self.clean, self.judged
