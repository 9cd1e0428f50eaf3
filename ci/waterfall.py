"""Where a metric was lost: its value in every row on the way to the one that is judged, and the step that lost most.

    noisy ─> teacher ─> distill ─> prune ─> quantize:train ─> convert:float32 ─> quantize ─> convert:int8

`quantize` is the int8 arithmetic simulated on the float file: it stands between the float file and the int8 file, so
that what rounding costs and what the device's kernels cost are told apart. Pure: rows in, numbers out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from earshot.ci.metrics import known_metric
from earshot.ci.run_file import Row

NOISY, TEACHER = "noisy", "teacher"
_TRUNK = (NOISY, TEACHER, "distill", "prune", "quantize:train", "convert:float32")
_SIMULATED, _INT8 = "quantize", "convert:int8"


@dataclass(frozen=True)
class Level:
    """A metric in one row.

    Attributes:
        row: the row.
        value: in the metric's unit, None where the row has none.
        change: against the row before that has a value; None for the first one.
        since: that row before.
        base: the same row's value in the baseline, where one is compared with.
        added: whether the baseline has no such row.
        n: samples the value stands on.
        reason: why there is no value.
    """

    row: str
    value: float | None
    change: float | None = None
    since: str | None = None
    base: float | None = None
    n: int = 0
    reason: str = ""
    added: bool | None = None


@dataclass(frozen=True)
class Waterfall:
    """A metric on its way to the row that is judged.

    Attributes:
        metric, unit: what; a metric may name a group in brackets.
        higher_is_better: its sense.
        levels: one a row of the run on the way, in order; rows that the run left out are not among them.
        baseline: name of the run whose values stand beside; empty where none does.
        start: the row that losses are counted from; empty means the first one.
    """

    metric: str
    unit: str
    higher_is_better: bool
    levels: tuple[Level, ...]
    baseline: str = ""
    start: str = ""

    @property
    def known(self) -> tuple[Level, ...]:
        """The levels that have a value."""
        return tuple(level for level in self.levels if level.value is not None)

    @property
    def models(self) -> tuple[Level, ...]:
        """The levels that have a value, the noisy input left out."""
        return tuple(level for level in self.known if level.row != NOISY)

    @property
    def begin(self) -> Level:
        """What a loss is counted from, seen from the end: `start`, else the first model."""
        counted = [level for level in self.known if level.row == self.start]
        return [*counted, *self.models, *self.known][0]

    @property
    def worst(self) -> Level | None:
        """The level whose step lost most of those after `start`; None where no step lost anything.

        Beside a baseline it is the step that lost most against the same step there.
        """
        rows = [level.row for level in self.known]
        begin = rows.index(self.start) + 1 if self.start in rows else 0
        losses = [(self.loss(level), level) for level in self.known[begin:]]
        found = max(losses, key=lambda one: one[0], default=None)
        return found[1] if found is not None and found[0] > 0 else None

    @property
    def worst_word(self) -> str:
        """What is said of that level: `lost most`, of sizes and counts `grew most`."""
        return "lost most" if self.higher_is_better else "grew most"

    def loss(self, level: Level) -> float:
        """What the step to a level lost, in the metric's unit; negative where it gained.

        Beside a baseline: more than the same step lost there, counted where both have the rows; a step that the
        baseline never took lost nothing there. The first row there counts whole: it differs from the beginning.
        """
        if not self.baseline:
            return self._worse(level.change or 0.0)
        before, base = 0.0, None
        for one in self.known:
            if one.base is None and not (one.added and base is not None):
                continue
            base = base if one.base is None else one.base
            apart = self._worse((one.value or 0.0) - (base or 0.0))
            if one is level:
                return apart - before
            before = apart
        return 0.0

    def lost(self, first: Level, last: Level) -> float:
        """How much worse the last of two levels is than the first; negative where it is better."""
        return self._worse((last.value or 0.0) - (first.value or 0.0))

    def keeps(self, level: Level, limit: float) -> bool:
        """Whether a level's value keeps a limit."""
        return level.value is not None and self._worse(level.value - limit) <= 0

    def _worse(self, change: float) -> float:
        return -change if self.higher_is_better else change


def way_to(row: str) -> tuple[str, ...]:
    """Names of the rows on the way to a row, that one included."""
    if row in _TRUNK:
        return _TRUNK[: _TRUNK.index(row) + 1]
    if row == _INT8:
        return (*_TRUNK, _SIMULATED, _INT8)
    return (*_TRUNK, row)


def waterfall(
    rows: Sequence[Row],
    metric: str,
    row: str,
    *,
    higher_is_better: bool = True,
    target: str | None = None,
    start: str = "",
    base: Sequence[Row] = (),
    baseline: str = "",
    base_row: str = "",
) -> Waterfall | None:
    """A metric over the rows on the way to one of them.

    Args:
        rows: of the run.
        metric: its name, with or without a group in brackets.
        row: the row that is judged.
        higher_is_better: the metric's sense.
        target: the device, for a metric of one.
        start: the row that losses are counted from; empty means the first one.
        base: rows of the baseline to show beside.
        baseline: its name; empty where none is compared with.
        base_row: the row there that stands beside the one judged; empty means the same one.

    Returns:
        None where fewer than two rows have a value: then nothing can be told apart.
    """
    by_name, theirs = {one.row: one for one in rows}, {one.row: one for one in base}
    known = known_metric(metric)
    is_quality = known is None or known.per_clip
    levels: list[Level] = []
    before: Level | None = None
    unit = "1"
    for name in way_to(row):
        if name not in by_name:
            continue
        found = next(iter(by_name[name].find(metric, target)), None)
        if found is None and name in (NOISY, _SIMULATED) and not is_quality:
            continue  # what is no file has no size
        if found is None or found.value is None:
            reason = "not measured" if found is None else found.reason or "could not be measured"
            levels.append(Level(name, None, reason=reason))
            continue
        other = theirs.get(base_row if base_row and name == row else name)
        beside = None if other is None else next(iter(other.find(metric, target)), None)
        level = Level(
            name,
            found.value,
            change=None if before is None else found.value - (before.value or 0.0),
            since=None if before is None else before.row,
            base=None if beside is None else beside.value,
            n=found.n,
            added=True if baseline and other is None else None,
        )
        levels.append(level)
        before, unit = level, found.unit
    made = Waterfall(metric, unit, higher_is_better, tuple(levels), baseline, start)
    return made if len(made.known) > 1 else None
