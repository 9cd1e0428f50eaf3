"""From a run and the store it lies in to all that its page shows (`ci/run_page.py`)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from earshot.ci.difference import Pair
from earshot.ci.run_file import Run
from earshot.ci.run_page import Listening, RunPage
from earshot.ci.verdict import Verdict
from earshot.pipeline.comparing import compare_stored_run
from earshot.pipeline.evidence import gather
from earshot.pipeline.explaining import explain_run
from earshot.pipeline.metrics.results import Evaluation
from earshot.pipeline.store import Store

if TYPE_CHECKING:
    from earshot.core.measurement import Measurement
    from earshot.pipeline.progress import Progress

NOT_ASKED = "No sound: it was not asked for."


def make_page(
    run: Run,
    verdicts: Sequence[Verdict],
    store: Store,
    *,
    pair: Pair | None = None,
    sound: bool = True,
    clips: Sequence[str] = (),
    progress: Progress | None = None,
) -> RunPage:
    """Everything that is known of a run; what is no longer in the store is left out, and the page says so.

    Args:
        run: complete or not.
        verdicts: on its budgets.
        store: where its artifacts are.
        pair: the run beside a baseline, to show the differences.
        sound: also enhance some clips, to listen to.
        clips: which ones; default: chosen by what they gained.
        progress: told about the sound.

    Raises:
        UsageError: a clip that the test set does not have, or too many of them.
    """
    from earshot.pipeline.listening import listen, models_heard

    evidence = pair.candidate if pair else gather(run, store)
    explanation = explain_run(run, verdicts, store, pair.base if pair else None)
    scored = next(iter(evidence.scores.values()), None)
    heard = listen(run, evidence, store, clips, progress, explanation) if sound else Listening(missing=(NOT_ASKED,))
    return RunPage(
        run=run,
        verdicts=tuple(verdicts),
        comparison=compare_stored_run(run, store),
        by_snr=_by_snr(run, store, ("noisy", *(row.row for row in models_heard(run)))),
        protocol=scored.protocol if scored else {},
        dataset=scored.dataset if scored else "",
        explanation=None if explanation.empty else explanation,
        pair=pair,
        listening=heard,
    )


def _by_snr(run: Run, store: Store, rows: Sequence[str]) -> dict[str, dict[str, tuple[Measurement, ...]]]:
    """Means by SNR of the rows that were scored, as far as their scores are in the store."""
    found = {}
    for row in rows:
        identity = run.artifacts.get(f"quality of {row}")
        artifact = store.find(identity) if identity else None
        if artifact is not None and "scores.json" in artifact.manifest.files:
            scores = json.loads(artifact.file("scores.json").read_bytes())
            if "unavailable" not in scores:
                found[row] = {name: tuple(one) for name, one in Evaluation.from_dict(scores).by_snr().items()}
    return found
