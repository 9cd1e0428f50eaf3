"""A store of hand-made runs: run files, and real artifacts with the scores and the environments they stand on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from earshot.core.files import write_json
from earshot.core.measurement import Measurement, Provenance
from earshot.pipeline.runs import write_run
from earshot.pipeline.store import Store

HOST = {"runtime": "ai-edge-litert", "runtime_version": "2.3.0", "threads": 1, "machine": "x86_64", "cpu": "some CPU"}
INT8 = "convert:int8"
Value = float | None


def add_run(
    store: Store,
    name: str,
    pesq: Sequence[Value] | None = (2.0, 3.0),
    *,
    rtf: Value = 0.01,
    size: float = 100_000,
    row: str = INT8,
    dataset: str = "set one",
    protocol: str = "pesq 0.0.4",
    environment: Mapping[str, Any] = HOST,
    machine: str = "m",
    provenance: Provenance = Provenance.MEASURED,
    flags: tuple[str, ...] = (),
    budgets: Sequence[Mapping[str, Any]] = (),
    keep: bool = True,
    **content: Any,
) -> None:
    """Writes a run that ships one row, measured on the host.

    Args:
        store: where.
        name: of the run.
        pesq: of each clip, None where it could not be scored; None: never measured.
        rtf: on the host; None: never measured.
        size: of the model, bytes.
        row: that ships.
        dataset, protocol: of the scores.
        environment, machine: what the time holds for.
        provenance, flags: of the time.
        budgets: of its recipe.
        keep: leave the artifacts in the store.
        content: more of the run file.
    """
    found = [Measurement("model_bytes", size, "bytes")]
    artifacts = {}
    if pesq is not None:
        known = [value for value in pesq if value is not None]
        mean = sum(known) / len(known) if known else None
        found.append(Measurement("pesq_wb", mean, "MOS", len(known), failed=len(pesq) - len(known)))
        scores = _scores(pesq, dataset, protocol)
        artifacts[f"quality of {row}"] = _artifact(store, "quality", {"run": name}, {}, "scores.json", scores, keep)
    if rtf is not None:
        found.append(Measurement("rtf", rtf, "1", 5, provenance, "host", flags=flags))
        profile = {"results": {row: {"environment": dict(environment)}}, "left_out": {}}
        inputs = {"machine": machine}
        artifacts["profile on host"] = _artifact(store, "profile", {"run": name}, inputs, "profile.json", profile, keep)
    rows = [{"row": row, "stage": "convert", "measurements": [one.to_dict() for one in found]}]
    plain = {"schema": "earshot.run/1", "name": name, "status": "complete", "rows": rows, "artifacts": artifacts}
    write_run(store, name, {**plain, "recipe": {"budgets": list(budgets)}, **content})


def _scores(pesq: Sequence[Value], dataset: str, protocol: str) -> dict[str, Any]:
    clips = [
        {"id": f"clip{number}", "group": "even" if number % 2 == 0 else "odd", "snr_db": 5.0,
         "values": {} if value is None else {"pesq_wb": value}, "failures": {}}
        for number, value in enumerate(pesq)
    ]  # fmt: skip
    plain = {"schema": "earshot.evaluation/1", "enhancer": "model.int8.tflite", "dataset": dataset, "rate": 16000}
    return {**plain, "protocol": {"pesq_wb": protocol}, "units": {"pesq_wb": "MOS"}, "clips": clips}


def _artifact(
    store: Store, stage: str, config: Mapping[str, Any], inputs: Mapping[str, str], file: str, content: Any, keep: bool
) -> str:
    def produce(out: Path, work: Path) -> list[Measurement]:
        write_json(out / file, content)
        return []

    if not keep:
        return "0" * 64
    return store.build(stage, 1, config=config, inputs=inputs, producer=produce).id
