"""The convert stage: device files from a quantize plan, each described, and held against a reference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field

from earshot.core.config import Config
from earshot.core.files import write_json
from earshot.core.measurement import Measurement
from earshot.quantize.graph import Graph, read_graph
from earshot.quantize.integer import quantize_graph
from earshot.quantize.metadata import Precision, read_description, write_stream_model
from earshot.quantize.parity import FloatParity, IntegerParity, integer_parity
from earshot.quantize.plan import QuantizedPlan, read_plan
from earshot.quantize.precision import OperatorPrecision, float_operators, precision_report

PARITY_FILE = "parity.json"


class ConvertConfig(Config):
    """Which files to make.

    Attributes:
        variants: precisions, each a file `<name>.<variant>.tflite` with a sidecar `<name>.<variant>.json`.
        name: first part of the file names.
        parity_seconds: sound streamed through the integer files to hold them against the reference.
    """

    variants: tuple[Precision, ...] = Field(("float32", "int8", "int16x8"), min_length=1)
    name: str = Field("model", pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")
    parity_seconds: float = 10.0


@dataclass(frozen=True)
class Variant:
    """One device file.

    Attributes:
        path: the .tflite; its sidecar is `path.with_suffix(".json")`.
        precision: which form it is.
        parity: what it was held against; None for the user's own float file.
        operators: precision of every operator of the file.
        state_bytes: memory of one copy of all states.
    """

    path: Path
    precision: Precision
    parity: FloatParity | IntegerParity | None
    operators: tuple[OperatorPrecision, ...]
    state_bytes: int

    @property
    def float_operators(self) -> tuple[OperatorPrecision, ...]:
        """Operators that compute in float."""
        return float_operators(self.operators)

    def measurements(self) -> list[Measurement]:
        """Size, states, parity and float operators as the gate wants them."""
        found = [
            Measurement("model_bytes", self.path.stat().st_size, "bytes"),
            Measurement("state_bytes", self.state_bytes, "bytes"),
            Measurement("float_operators", len(self.float_operators), "1"),
        ]
        if isinstance(self.parity, FloatParity):
            found.append(Measurement("parity_float_max_abs", self.parity.max_abs, "1", n=self.parity.frames))
        elif self.parity is not None:
            snr, why = self.parity.snr_db, self.parity.unavailable
            found.append(Measurement("parity_int8_snr_db", snr, "dB", n=self.parity.frames, reason=why))
        return found


@dataclass(frozen=True)
class ConvertReport:
    """The files of a convert artifact, by variant."""

    variants: dict[Precision, Variant]


def convert_model(
    plan_dir: Path,
    out: Path,
    config: ConvertConfig,
    features: ArrayLike,
    *,
    advance: Callable[[], object] | None = None,
) -> ConvertReport:
    """Writes the device files, their sidecars and `parity.json`.

    Args:
        plan_dir: folder that `quantize_model` wrote.
        out: folder to write.
        config: which files.
        features: sound for parity, float32 `[clips, 1, frames, bins]`.
        advance: called after every file.

    Raises:
        ArtifactError: the plan is incomplete or damaged.
        ModelError: a file cannot be prepared by LiteRT.
        ToolError: the quantizer failed.
    """
    plan = read_plan(plan_dir)
    variants: dict[Precision, Variant] = {}
    for precision in config.variants:
        path = out / f"{config.name}.{precision}.tflite"
        variants[precision] = _make(plan, precision, path, features, config.parity_seconds)
        if advance is not None:
            advance()
    write_json(
        out / PARITY_FILE,
        {
            "schema": "earshot.parity/1",
            "variants": {
                name: {
                    "file": variant.path.name,
                    "parity": variant.parity.model_dump(mode="json") if variant.parity else None,
                    "float_operators": _kept(variant),
                }
                for name, variant in variants.items()
            },
        },
    )
    return ConvertReport(variants)


def _make(plan: QuantizedPlan, precision: Precision, path: Path, features: ArrayLike, seconds: float) -> Variant:
    keep = plan.precisions.keep_float, plan.precisions.keep_wide
    description = read_description(plan.float_path)
    if precision == "float32":
        # The very bytes whose parity the quantize stage measured.
        graph = write_stream_model(path, plan.float_path.read_bytes(), description)
        parity: FloatParity | IntegerParity | None = plan.parity.float32
    else:
        content = quantize_graph(plan.float_path, plan.ranges, precision, *keep)
        graph = write_stream_model(path, content, description.for_graph(read_graph(content), precision))
        parity = integer_parity(path, plan.float_path, features, seconds)
    return Variant(path, precision, parity, precision_report(graph, precision, *keep), _state_bytes(graph))


def _kept(variant: Variant) -> str | list[dict[str, str]]:
    """The float operators of an integer file and why they are; the float file is float on purpose."""
    if variant.precision == "float32":
        return "all"
    return [
        {"operator": line.operator, "output": line.output, "reason": line.reason} for line in variant.float_operators
    ]


def _state_bytes(graph: Graph) -> int:
    tensors = [graph.tensors[graph.inputs[name]] for name in graph.state_pairs]
    return sum(int(np.prod(tensor.shape)) * np.dtype(tensor.dtype).itemsize for tensor in tensors)
