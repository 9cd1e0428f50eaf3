"""A waterfall in sentences: which step lost most, of how much, and how far the limit was kept."""

from __future__ import annotations

from earshot.ci.quantity import quantity
from earshot.ci.waterfall import NOISY, TEACHER, Level, Waterfall

_THINGS = {
    NOISY: "the noisy input",
    TEACHER: "the teacher",
    "distill": "the student",
    "prune": "the pruned student",
    "quantize:train": "the student trained for int8",
    "convert:float32": "the float file",
    "quantize": "simulated int8",
    "convert:int8": "the int8 file",
    "convert:int16x8": "the 16x8 file",
}
_STEPS = {
    "distill": "distillation",
    "prune": "pruning",
    "quantize:train": "quantisation-aware training",
    "convert:float32": "the export to a file",
    "quantize": "rounding to int8 (simulated)",
    "convert:int8": "rounding to int8",
    "convert:int16x8": "rounding to 16x8",
}
_KERNELS = "the integer kernels of the int8 file"


def thing(row: str) -> str:
    """A row in words: `the float file`."""
    return _THINGS.get(row, f"row {row}")


def step(fall: Waterfall, level: Level) -> str:
    """The step to a level in words: `pruning`; where rows between have no value, all of them together."""
    rows = [one.row for one in fall.levels]
    place = rows.index(level.row)
    if level.since is None or level.since == NOISY:
        return thing(level.row)
    if rows[place - 1] != level.since:
        return f"what lies between {thing(level.since)} and {thing(level.row)}"
    if (level.since, level.row) == ("quantize", "convert:int8"):
        return _KERNELS
    return _STEPS.get(level.row, level.row)


def sentences(fall: Waterfall, limit: float | None = None) -> tuple[str, ...]:
    """What a person should know, the most important first.

    Args:
        fall: the waterfall.
        limit: the value that had to be reached, where the budget has one.
    """
    told = [_against_baseline(fall) if fall.baseline else _lost(fall) if fall.higher_is_better else _sizes(fall)]
    if limit is not None:  # what no row keeps was not lost on the way
        never = fall.higher_is_better and not fall.baseline and not any(fall.keeps(one, limit) for one in fall.models)
        told.insert(0 if never else 1, _kept(fall, limit))
    missing = [f"{level.row} ({level.reason})" for level in fall.levels if level.value is None]
    if missing:
        told.append(f"{fall.metric} is not known of {', '.join(missing)}")
    counts = {level.row: level.n for level in fall.known}
    if len(set(counts.values())) > 1 and fall.unit != "bytes":
        told.append(f"the rows stand on different samples: {', '.join(f'{row} {n}' for row, n in counts.items())}")
    return tuple(one for one in told if one)


def amount(value: float, unit: str) -> str:
    """A difference, in three digits."""
    return quantity(float(f"{value:.3g}"), unit)


def _lost(fall: Waterfall) -> str:
    first, last, worst = fall.begin, fall.known[-1], fall.worst
    between = f"between {thing(first.row)} and {thing(last.row)}"
    total = fall.lost(first, last)
    if worst is None:
        return f"no step to {thing(last.row)} lost anything: {thing(first.row)} has {_value(fall, first)} itself"
    loss, which = fall.loss(worst), step(fall, worst)
    if worst.since == NOISY:
        return f"{which} itself lies {amount(loss, fall.unit)} {_below(fall)} the noisy input, and no step lost more"
    if total <= 0:
        return (
            f"{which} lost {amount(loss, fall.unit)}, which other steps made good: {thing(last.row)} lies "
            f"{amount(-total, fall.unit)} {_above(fall)} {thing(first.row)}"
        )
    if loss > total * 1.02:
        gained = amount(loss - total, fall.unit)
        return f"{which} lost {amount(loss, fall.unit)}; other steps {between} gained {gained} of it back"
    if loss > total * 0.98:
        return f"{which} lost all of the {amount(total, fall.unit)} {between}"
    return f"{which} lost {amount(loss, '1')} of the {amount(total, fall.unit)} {between}"


def _against_baseline(fall: Waterfall) -> str:
    compared = [level for level in fall.known if level.base is not None]
    if not compared:
        return f"no row on the way was measured in {fall.baseline} too"
    last, worst = compared[-1], fall.worst
    total = fall.lost(Level(last.row, last.base), last)
    if worst is None or total <= 0:
        return f"no step lost more than in {fall.baseline}"
    loss = fall.loss(worst)
    if worst is compared[0] or worst.since == NOISY:
        return f"already {thing(worst.row)} lies {amount(loss, fall.unit)} {_below(fall)} that of {fall.baseline}"
    which = f"against {fall.baseline}, {step(fall, worst)} lost"
    if loss > total * 1.02:
        return f"{which} {amount(loss, fall.unit)}; other steps gained {amount(loss - total, fall.unit)} of it back"
    whole = "all" if loss > total * 0.98 else f"{amount(loss, '1')}"
    return f"{which} {whole} of the {amount(total, fall.unit)}"


def _sizes(fall: Waterfall) -> str:
    first = fall.known[0]
    changes = [
        f"{step(fall, level)} {'+' if (level.change or 0.0) > 0 else '−'}{amount(abs(level.change or 0.0), fall.unit)}"
        for level in fall.known[1:]
        if level.change
    ]
    return f"{thing(first.row)} has {_value(fall, first)}" + (f"; {', '.join(changes)}" if changes else "")


def _kept(fall: Waterfall, limit: float) -> str:
    models = fall.models
    keeping = [level for level in models if fall.keeps(level, limit)]
    shown = _number(limit, fall.unit)
    if not keeping:
        best = max(models, key=lambda level: -fall.lost(models[0], level))
        also = f", not even {thing(best.row)} with {_value(fall, best)}" if len(models) > 1 else ""
        return f"no row reaches the {shown} asked for{also}"
    if keeping[-1].row in (models[-1].row, fall.start):  # the row compared with keeps it by itself
        return ""
    return f"{thing(keeping[-1].row)} is the last that keeps the {shown} asked for, with {_value(fall, keeping[-1])}"


def _value(fall: Waterfall, level: Level) -> str:
    return _number(level.value or 0.0, fall.unit)


def _number(value: float, unit: str) -> str:
    return quantity(float(f"{value:.4g}") if abs(value) < 10000 else value, unit)


def _below(fall: Waterfall) -> str:
    return "below" if fall.higher_is_better else "above"


def _above(fall: Waterfall) -> str:
    return "above" if fall.higher_is_better else "below"
