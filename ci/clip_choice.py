"""Which clips of a run are worth listening to: the one that gained least, the middle one, the one that gained most."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from earshot.ci.evidence import Scores
from earshot.ci.explanation import Explanation
from earshot.ci.metrics import QUALITY


@dataclass(frozen=True)
class Choice:
    """A clip and what it was chosen for."""

    clip: str
    why: str


def judging_metric(scores: Scores | None) -> str:
    """The metric that clips are told apart by: the first of `QUALITY` that was scored; empty when none was."""
    columns = {} if scores is None else scores.values
    return next((name for name in QUALITY if any(one is not None for one in columns.get(name, ()))), "")


def choose(
    scores: Mapping[str, Scores], row: str, references: tuple[str, ...], explanation: Explanation | None = None
) -> tuple[Choice, ...]:
    """At most three clips, by what `row` gained over the first of the references that was scored.

    Args:
        scores: row -> its scores.
        row: the row that ships.
        references: rows to compare with, `noisy` before others.
        explanation: why budgets were missed; the clip that lost most there stands for the one that gained least.

    Returns:
        None of them where nothing compares; a clip that is several of the three has its first reason.
    """
    ours = scores.get(row)
    metric = judging_metric(ours)
    theirs = next(((name, scores[name]) for name in references if name != row and name in scores), None)
    if ours is None or theirs is None or not metric:
        return ()
    against, reference = theirs[0], theirs[1].column(metric)
    gains = {clip: value - reference[clip] for clip, value in ours.column(metric).items() if clip in reference}
    ranked = sorted(gains, key=lambda clip: (gains[clip], clip))
    if not ranked:
        return ()

    def gain(clip: str, what: str) -> Choice:
        return Choice(clip, f"{what}: {metric} {gains[clip]:+.3g} against {against}")

    worst = _lost_most(explanation) or gain(ranked[0], "gained least")
    found = (worst, gain(ranked[len(ranked) // 2], "median gain"), gain(ranked[-1], "gained most"))
    return tuple(choice for index, choice in enumerate(found) if choice.clip not in [one.clip for one in found[:index]])


def _lost_most(explanation: Explanation | None) -> Choice | None:
    """The worst clip of the first missed budget that names clips."""
    for finding in explanation.findings if explanation else ():
        if finding.clips and finding.clips.clips:
            lost, worst = finding.clips, finding.clips.clips[0]
            change = f"{lost.metric} {worst.value - worst.reference:+.3g} against {lost.against}"
            return Choice(worst.clip, f"lost most for the budget {finding.budget}: {change}")
    return None
