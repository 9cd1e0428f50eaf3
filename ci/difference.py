"""How a run differs from a baseline, metric by metric, and how sure that is.

paired   quality: clip by clip on the same set; the interval is of the mean over clips
counted  instructions, bytes, parameters: exact, there is no interval
race     times of both models taken by turns on the same machine; the interval is a bootstrap over rounds
stored   times of both as each run kept them: weaker, since the machine may have changed in between
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from earshot.ci.comparable import ABSOLUTE_ONLY, CLOCKED, RACED, scores_differ, targets_differ, values_differ
from earshot.ci.evidence import Evidence, Scores
from earshot.ci.metrics import known_metric
from earshot.ci.run_file import Row, shipped_row
from earshot.ci.statistics import RACE_LEVEL, Interval, bootstrap_median, every_pair, mean_interval
from earshot.core.measurement import Measurement, Provenance

NAMED_CLIPS = 3
FEWEST_ROUNDS = 8  # a percentile interval of fewer is too narrow
FEWEST_REPEATS = 3


@dataclass(frozen=True)
class Race:
    """Rounds of two models run by turns on one target (`race` in targets/agent.py).

    Attributes:
        target: where.
        base_row, row: whose models.
        rounds: metric -> (base, candidate), of each round.
        ended: why there are no more rounds, where somebody else than the race ended it.
    """

    target: str
    base_row: str
    row: str
    rounds: tuple[Mapping[str, tuple[float, float]], ...]
    ended: str = ""


@dataclass(frozen=True)
class Difference:
    """One metric of a row, here and in the baseline.

    Attributes:
        metric, unit: what.
        base_row, row: where in each; they differ where another file ships.
        target: the device, None where none matters.
        base, value: there and here.
        loss: how much worse it is here, in the metric's unit and sense; negative is better.
        interval: of the loss; None where it is exact.
        method: `paired`, `counted`, `race` or `stored`.
        n: clips, rounds or repeats the interval stands on.
        worst: the clips that lost most, with their losses.
        dropped: how many clips were scored on one side only, and are left out.
        dropped_clips: some of them.
        provenance: how both numbers came to be.
        base_flags, flags: what spoils the baseline's number, and this one (`Measurement.flags`).
        open: why nothing is decided although both numbers are there: too little to know how sure it is.
        refused: why there is nothing to compare.
    """

    metric: str
    unit: str
    base_row: str
    row: str
    target: str | None = None
    base: float | None = None
    value: float | None = None
    loss: float | None = None
    interval: Interval | None = None
    method: str = ""
    n: int = 0
    worst: tuple[tuple[str, float], ...] = ()
    dropped: int = 0
    dropped_clips: tuple[str, ...] = ()
    provenance: str = ""
    base_flags: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    open: str | None = None
    refused: str | None = None

    @property
    def bounds(self) -> Interval:
        """Between what the loss lies: its interval, or itself where it is exact."""
        loss = self.loss or 0.0
        return self.interval or (loss, loss)

    @property
    def outcome(self) -> str:
        """`same`, `better`, `worse`, `not decidable`, or `not comparable`."""
        if self.refused is not None:
            return "not comparable"
        if self.open is not None:
            return "not decidable"
        low, high = self.bounds
        if low == high == 0:
            return "same"
        return "worse" if low > 0 else "better" if high < 0 else "not decidable"


@dataclass(frozen=True)
class Pair:
    """Two runs side by side.

    Attributes:
        base, candidate: what each left.
        races: times that were taken by turns since.
    """

    base: Evidence
    candidate: Evidence
    races: tuple[Race, ...] = ()

    def rows(self, name: str | None) -> tuple[Row | None, Row | None]:
        """The row of that name in both, or the rows that ship: (baseline's, candidate's)."""
        if name is None:
            return shipped_row(self.base.rows), shipped_row(self.candidate.rows)
        return self.base.row(name), self.candidate.row(name)

    def differences(self, name: str | None = None) -> Iterator[Difference]:
        """Every metric that both rows have, or only one: then it is refused."""
        base, row = self.rows(name)
        if base is None or row is None:
            return
        keys = dict.fromkeys((found.metric, found.target) for found in (*base.measurements, *row.measurements))
        for metric, target in keys:
            if metric.partition("[")[0] not in ABSOLUTE_ONLY:
                yield self.difference(metric, base, row, target)

    def difference(
        self, metric: str, base: Row, row: Row, target: str | None, higher_is_better: bool | None = None
    ) -> Difference:
        """One metric of two rows; `higher_is_better` is needed for a metric that is not known."""
        theirs, ours = (_only(one.find(metric), target) for one in (base, row))
        unit = next((found.unit for found in (ours, theirs) if found), "1")
        empty = Difference(metric, unit, base.row, row.row, target)
        known = known_metric(metric)
        if higher_is_better is None and known is not None:
            higher_is_better = known.better == "higher"
        if higher_is_better is None:
            return replace(empty, refused="which way is better is not known: only a budget says so (better)")
        differing = values_differ(theirs, ours)
        if differing is not None or theirs is None or ours is None:
            return replace(empty, refused=differing)
        plain = replace(
            empty,
            base=theirs.value,
            value=ours.value,
            provenance=str(ours.provenance),
            base_flags=theirs.flags,
            flags=ours.flags,
        )
        sign = -1.0 if higher_is_better else 1.0
        if target is not None:
            return self._on_target(plain, sign)
        name, _, group = metric.partition("[")
        scores = self.base.scores.get(base.row), self.candidate.scores.get(row.row)
        if (known and known.per_clip) or any(one and name in one.values for one in scores):
            return _paired(plain, scores[0], scores[1], name, group.rstrip("]"), sign)
        return _counted(plain, sign)

    def _on_target(self, plain: Difference, sign: float) -> Difference:
        clocked = plain.metric in CLOCKED and plain.provenance == Provenance.MEASURED
        if clocked and (race := self._race(plain)) is not None:
            return race
        base = self.base.timing(str(plain.target), plain.base_row)
        candidate = self.candidate.timing(str(plain.target), plain.row)
        if differing := targets_differ(base, candidate, clocked):
            return replace(plain, refused=differing)
        if not clocked:
            return _counted(plain, sign)
        repeats = [
            [one[plain.metric] for one in timing.repeats if one.get(plain.metric, 0) > 0] if timing else []
            for timing in (base, candidate)
        ]
        return _stored(plain, *repeats)

    def _race(self, plain: Difference) -> Difference | None:
        for race in self.races:
            if (race.target, race.base_row, race.row) == (plain.target, plain.base_row, plain.row):
                return race_difference(plain, race)
        return None


def race_difference(plain: Difference, race: Race) -> Difference | None:
    """What the rounds of a race say of a metric; None where they do not tell it.

    Of too few rounds the difference stays open: it never falls back on times that were not taken side by side.
    """
    if plain.metric not in RACED:
        return None
    pairs = [one[plain.metric] for one in race.rounds if min(one.get(plain.metric, (0.0,))) > 0]
    if not pairs:
        open_ = f"no round by turns: {race.ended or 'none was asked for'}"
        return replace(plain, loss=(plain.value or 0.0) - (plain.base or 0.0), method="race", open=open_)
    base = statistics.median(theirs for theirs, _ in pairs)
    ratios = [math.log(ours / theirs) for theirs, ours in pairs]
    ratio = math.exp(statistics.median(ratios))
    found = replace(plain, base=base, value=base * ratio, loss=base * (ratio - 1), method="race", n=len(pairs))
    if len(pairs) < FEWEST_ROUNDS:
        few = f"{len(pairs)} rounds by turns, an interval needs {FEWEST_ROUNDS}"
        return replace(found, open=f"{few}: {race.ended}" if race.ended else few)
    low, high = (base * (math.exp(bound) - 1) for bound in bootstrap_median(ratios, RACE_LEVEL))
    return replace(found, interval=(low, high))


def _paired(
    plain: Difference, base: Scores | None, candidate: Scores | None, metric: str, group: str, sign: float
) -> Difference:
    differing = scores_differ(base, candidate, metric)
    if differing is not None or base is None or candidate is None:
        return replace(plain, refused=differing)
    theirs, ours = base.column(metric, group), candidate.column(metric, group)
    losses = {clip: sign * (ours[clip] - value) for clip, value in theirs.items() if clip in ours}
    dropped = sorted(set(theirs) ^ set(ours))
    plain = replace(plain, dropped=len(dropped), dropped_clips=tuple(dropped[:NAMED_CLIPS]))
    if len(losses) < 2:
        return replace(plain, refused=f"{len(losses)} clips were scored in both")
    common = list(losses)
    worst = sorted(((clip, loss) for clip, loss in losses.items() if loss > 0), key=lambda one: (-one[1], one[0]))
    return replace(
        plain,
        base=_mean([theirs[clip] for clip in common]),
        value=_mean([ours[clip] for clip in common]),
        loss=_mean(list(losses.values())),
        interval=mean_interval(list(losses.values())),
        method="paired",
        n=len(losses),
        worst=tuple(worst[:NAMED_CLIPS]),
    )


def _counted(plain: Difference, sign: float) -> Difference:
    loss = sign * ((plain.value or 0.0) - (plain.base or 0.0))
    return replace(plain, loss=loss + 0.0, method="counted", n=1)


def _stored(plain: Difference, base: Sequence[float], candidate: Sequence[float]) -> Difference:
    if min(len(base), len(candidate)) < FEWEST_REPEATS:
        return replace(plain, refused="too few repeats were kept to know their spread; take turns: --remeasure")
    middle = statistics.median(base)
    low, high = (middle * (ratio - 1) for ratio in every_pair(base, candidate))
    value = statistics.median(candidate)
    kept = min(len(base), len(candidate))
    return replace(plain, base=middle, value=value, loss=value - middle, interval=(low, high), method="stored", n=kept)


def _only(found: Sequence[Measurement], target: str | None) -> Measurement | None:
    return next((one for one in found if one.target == target), None)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
