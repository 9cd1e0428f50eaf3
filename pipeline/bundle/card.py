"""The model card: what the model is, what it was trained and judged on, what it keeps, and what it was not tried on.

Sections follow "Model Cards for Model Reporting" (Mitchell et al. 2019, arXiv 1810.03993), as far as a run knows them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from earshot.ci.metrics import known_metric
from earshot.ci.quantity import quantity
from earshot.ci.report.markdown import escape
from earshot.ci.run_file import Row, Run
from earshot.ci.verdict import Status, Verdict, passed
from earshot.core.measurement import Measurement, Provenance
from earshot.models.frontend import Frontend
from earshot.pipeline.bundle.part import Part
from earshot.pipeline.shipped import Shipped
from earshot.pipeline.store import Store

NOT_STATED = "not stated"
_EMBEDDED_LICENCE = "synthetic, part of earshot and under its licence (Apache-2.0)"
_COMPARED = ("noisy", "teacher", "convert:float32")


@dataclass(frozen=True)
class Evaluation:
    """What the scores stand on: digest of the test set, number of clips, metric -> how it is computed."""

    dataset: str
    clips: int
    protocol: Mapping[str, str]


def read_evaluation(store: Store, shipped: Shipped) -> Evaluation | None:
    """The evaluation of the model that ships; None where the run has none any more."""
    identity = shipped.run.artifacts.get(f"quality of {shipped.row.row}")
    artifact = store.find(identity) if identity else None
    if artifact is None or "scores.json" not in artifact.manifest.files:
        return None
    scores = json.loads(artifact.file("scores.json").read_bytes())
    if "unavailable" in scores:  # no clip could be scored; the measurements of the row say why
        return None
    return Evaluation(scores["dataset"], len(scores["clips"]), scores["protocol"])


def model_card(
    shipped: Shipped,
    verdicts: Sequence[Verdict],
    part: Part,
    frontend: Frontend,
    evaluation: Evaluation | None,
    licence: str | None,
) -> str:
    """The card as Markdown. A failed gate is its first line."""
    run, row = shipped.run, shipped.row
    sections = [
        f"# {escape(run.name)}",
        _about(shipped, frontend),
        "## Gate",
        *_gate(verdicts),
        "## Quality",
        *_quality(run, row, evaluation),
        "## Cost and speed",
        _table(("metric", "value", "n", "on", "how"), _costs(row)),
        "## Data",
        _table(("part", "kind", "what", "licence"), _data(run.recipe)),
        "## Licences",
        _table(("what", "licence"), _licences(licence)),
        "## Limits of use",
        "\n".join(f"- {line}" for line in _limits(shipped, part, frontend, evaluation)),
        "## Where it comes from",
        _table(("", ""), _origin(shipped, evaluation)),
    ]
    if not passed(verdicts) or run.status != "complete":
        sections.insert(0, _failed(run, verdicts))
    return "\n\n".join(sections) + "\n"


def _failed(run: Run, verdicts: Sequence[Verdict]) -> str:
    missed = [verdict for verdict in verdicts if not passed([verdict])]
    why = escape("; ".join(f"{verdict.budget}: {verdict.reason}" for verdict in missed) or str(run.error))
    return f"**THE GATE FAILED: this model must not ship as it is.** Bundled all the same (`--anyway`). {why}"


def _about(shipped: Shipped, frontend: Frontend) -> str:
    student = shipped.run.recipe.get("student") or {}
    network = student.get("network", "a network")
    precision = shipped.row.row.rpartition(":")[2]
    sound = "one microphone" if frontend.channels == 1 else f"{frontend.channels} microphones"
    latency = 1000 * frontend.algorithmic_latency_samples / frontend.rate
    return (
        f"A streaming speech enhancer: network `{escape(str(network))}`, {escape(precision)}, "
        f"{frontend.rate:,} Hz, {sound}, a frame of {1000 * frontend.hop_seconds:g} ms, "
        f"algorithmic latency {latency:g} ms. `{escape(shipped.model.name)}`."
    )


def _gate(verdicts: Sequence[Verdict]) -> list[str]:
    if not verdicts:
        return ["The run has no budgets: nothing was held against this model."]
    rows = (
        (
            str(verdict.status),
            verdict.budget,
            _number(verdict.value, verdict.unit),
            verdict.limit,
            _number(verdict.margin, verdict.unit),
            "" if verdict.n is None else str(verdict.n),
            verdict.provenance or "",
            verdict.reason if verdict.status is not Status.PASS else "",
        )
        for verdict in verdicts
    )
    return [_table(("outcome", "budget", "measured", "limit", "margin", "n", "how", "why"), rows)]


def _quality(run: Run, row: Row, evaluation: Evaluation | None) -> list[str]:
    others = [other for other in run.rows if other.row in _COMPARED and other.row != row.row]
    scores = [one for one in row.measurements if _is_score(one)]
    if not scores:
        return ["No quality was measured."]
    lines = (
        (
            one.metric,
            _number(one.value, one.unit) if one.value is not None else one.reason or "could not be measured",
            "" if one.interval is None else f"{one.interval[0]:.6g} to {one.interval[1]:.6g}",
            *(_value_of(other, one.metric) for other in others),
            f"{one.n}" + (f", {one.failed} not scored" if one.failed else ""),
            str(one.provenance),
        )
        for one in scores
    )
    header = ("metric", "this model", "95 % of the mean", *(other.row for other in others), "n", "how")
    protocol = [
        f"- {escape(name)}: {escape(text)}" for name, text in (evaluation.protocol if evaluation else {}).items()
    ]
    return [_table(header, lines), *(["\n".join(protocol)] if protocol else [])]


def _is_score(found: Measurement) -> bool:
    known = known_metric(found.metric)
    return known is not None and known.per_clip


def _value_of(row: Row, metric: str) -> str:
    found = row.find(metric)
    return _number(found[0].value, found[0].unit) if found else ""


def _costs(row: Row) -> Iterable[tuple[str, ...]]:
    for one in row.measurements:
        if not _is_score(one):
            value = _number(one.value, one.unit) if one.value is not None else one.reason or "could not be measured"
            yield one.metric, value, str(one.n), one.target or "", ", ".join((str(one.provenance), *one.flags))


def _data(recipe: Mapping[str, Any]) -> Iterable[tuple[str, ...]]:
    """Folders by their last name: where they lie on somebody's machine is nobody's business."""
    for part, source in (recipe.get("data") or {}).items():
        if not isinstance(source, Mapping):
            continue
        kind = str(source.get("kind", ""))
        folders = (f"{key} {PurePath(text).name}" for key, text in source.items() if _is_path(key, text))
        licence = _EMBEDDED_LICENCE if kind == "embedded" else NOT_STATED
        yield (
            part,
            kind,
            ", ".join(folders) or ("the pack that comes with earshot" if kind == "embedded" else ""),
            licence,
        )


def _is_path(key: str, value: object) -> bool:
    return key in ("path", "speech", "noise", "rir") and isinstance(value, str)


def _licences(licence: str | None) -> Iterable[tuple[str, str]]:
    return (
        ("weights", licence or f"{NOT_STATED}: ask who trained it"),
        ("code in this bundle", "Apache-2.0 (LICENSE)"),
        ("data it was trained on", "see Data; a licence of data may bind what is trained on it"),
    )


def _limits(shipped: Shipped, part: Part, frontend: Frontend, evaluation: Evaluation | None) -> Iterable[str]:
    clips = f"{evaluation.clips} clips" if evaluation else "the clips"
    yield f"The scores hold for {clips} of the test set named above, and say little of other voices, rooms and noises."
    yield f"Sound above {frontend.rate / 2:,.0f} Hz is not in its output."
    yield "It changes speech as well as noise. It was not judged by listeners, nor for hearing loss."
    clocks = {one.target for one in shipped.row.measurements if one.target and one.provenance is Provenance.MEASURED}
    if clocks:
        yield f"Times were measured on {escape(', '.join(sorted(clocks)))} and nowhere else."
    yield from part.untried


def _origin(shipped: Shipped, evaluation: Evaluation | None) -> Iterable[tuple[str, str]]:
    manifest = shipped.artifact.manifest
    yield "run", shipped.run.name
    yield "artifact", f"{manifest.id} (made {manifest.created})"
    yield "made from", ", ".join(f"{role} {identity}" for role, identity in sorted(manifest.inputs.items()))
    yield "test set", evaluation.dataset if evaluation else NOT_STATED
    yield "versions", ", ".join(f"{name} {version}" for name, version in sorted(manifest.versions.items()))


def _number(value: float | None, unit: str) -> str:
    return "" if value is None else quantity(value, unit)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(escape(cell) for cell in row) + " |" for row in (header, *rows)]
    lines.insert(1, "|" + " --- |" * len(header))
    return "\n".join(lines)
