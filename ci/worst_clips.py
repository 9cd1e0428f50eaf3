"""The clips that lost most between two rows of a run, or between a run and its baseline."""

from __future__ import annotations

from earshot.ci.evidence import Scores
from earshot.ci.explanation import ClipLoss, WorstClips

SHOWN = 5


def worst_clips(
    metric: str,
    unit: str,
    ours: tuple[str, Scores],
    theirs: tuple[str, Scores],
    *,
    higher_is_better: bool = True,
) -> WorstClips | str:
    """At most five clips that are worse here than there, worst first.

    Args:
        metric: with or without a group in brackets: then only its clips count.
        unit: of the metric.
        ours: the row judged, and its scores.
        theirs: what it is compared with, and its scores.
        higher_is_better: the metric's sense.

    Returns:
        Or why the two do not compare.
    """
    (row, here), (against, there) = ours, theirs
    name, _, group = metric.partition("[")
    if here.dataset != there.dataset:
        return f"{against} was scored on another evaluation set"
    values, references = (scores.column(name, group.rstrip("]")) for scores in (here, there))
    sign = -1.0 if higher_is_better else 1.0
    losses = {clip: sign * (value - references[clip]) for clip, value in values.items() if clip in references}
    if not losses:
        return f"no clip was scored in {metric} both in {row} and in {against}"
    lost = sorted((clip for clip, loss in losses.items() if loss > 0), key=lambda clip: (-losses[clip], clip))
    groups = dict(zip(here.clips, here.groups, strict=True))
    worst = tuple(ClipLoss(clip, groups[clip], values[clip], references[clip]) for clip in lost[:SHOWN])
    return WorstClips(metric, unit, row, against, worst, len(lost), len(losses))
