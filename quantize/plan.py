"""The quantize stage: float graph, measured ranges and a precision for every operator; nothing integer is shipped yet.

float32.tflite, float32.json   the float stream model and its sidecar
ranges.json                    range of every activation and the groups that share one
precision.json                 precision and reason of every operator, for each integer form
parity.json                    the float file against the network, where there is one
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from numpy.typing import ArrayLike

from earshot.core.config import Config, ConfigT, parse
from earshot.core.errors import ArtifactError
from earshot.core.files import write_json
from earshot.quantize.calibration import Range, calibrate
from earshot.quantize.graph import Graph, read_graph
from earshot.quantize.integer import INTEGER_PRECISIONS, quantize_graph
from earshot.quantize.parity import FloatParity, float_parity
from earshot.quantize.precision import OperatorPrecision, precision_report
from earshot.quantize.ranges import RangePlan, tie

if TYPE_CHECKING:
    from earshot.models.streaming import StreamingModel

FLOAT_FILE = "float32.tflite"
RANGES_FILE = "ranges.json"
PRECISION_FILE = "precision.json"
PARITY_FILE = "parity.json"


class QuantizeConfig(Config):
    """How a network becomes integer.

    Attributes:
        keep_float: regular expressions over operator names (`LOGISTIC`) and output tensor names; what they find stays
            float32 in every integer form.
        keep_wide: the same for 16 bits: the results of what they find are int16 in the int8 file, wherever they are
            read (`raised`); `earshot explain` says what that gains.
        parity_seconds: sound streamed through the float file and the network to hold them against each other.
    """

    keep_float: tuple[str, ...] = ()
    keep_wide: tuple[str, ...] = ()
    parity_seconds: float = 10.0


class TensorRange(Config):
    """One activation; `group` numbers those that share a range; `prescribed`: a kernel sets the scale."""

    index: int
    name: str
    low: float
    high: float
    group: int | None = None
    prescribed: bool = False


class Ranges(Config):
    """Content of ranges.json."""

    tensors: tuple[TensorRange, ...]


class Precisions(Config):
    """Content of precision.json."""

    keep_float: tuple[str, ...]
    keep_wide: tuple[str, ...] = ()
    int8: tuple[OperatorPrecision, ...]
    int16x8: tuple[OperatorPrecision, ...]


class PlanParity(Config):
    """Content of parity.json; `float32` is None when the user's own float file came in without a network."""

    float32: FloatParity | None


@dataclass(frozen=True)
class QuantizedPlan:
    """A quantize artifact's payload, as read from its folder."""

    directory: Path
    ranges: RangePlan
    precisions: Precisions
    parity: PlanParity

    @property
    def float_path(self) -> Path:
        """The float stream model."""
        return self.directory / FLOAT_FILE


def quantize_model(
    model: StreamingModel,
    features: ArrayLike,
    out: Path,
    config: QuantizeConfig | None = None,
    *,
    network: str | None = None,
    advance: Callable[[], object] | None = None,
) -> QuantizedPlan:
    """Exports a network, holds the export against it, calibrates, and settles the precision of every operator.

    Args:
        model: the trained network.
        features: calibration sound and parity sound, float32 `[clips, 1, frames, bins]`.
        out: folder to write.
        config: defaults to `QuantizeConfig()`.
        network: registered name of the network, for the stream description.
        advance: called after every calibration clip.

    Raises:
        ModelError: the network cannot be exported, or the float file does not compute what the network computes.
        ToolError: a converter failed.
    """
    from earshot.quantize.export import export_float

    settled = config or QuantizeConfig()
    export_float(model, out / FLOAT_FILE, network)
    parity = float_parity(out / FLOAT_FILE, model, features, settled.parity_seconds)
    return settle(out, features, settled, parity, advance)


def settle(
    out: Path,
    features: ArrayLike,
    config: QuantizeConfig,
    parity: FloatParity | None,
    advance: Callable[[], object] | None = None,
) -> QuantizedPlan:
    """Calibrates the float stream model in `out` and writes the rest of the plan beside it."""
    path = out / FLOAT_FILE
    graph = read_graph(path)
    plan = tie(graph, calibrate(path, features, advance))
    _write(out / RANGES_FILE, "ranges", _ranges(graph, plan))
    # The precisions are read off trial conversions: what the quantizer does, not what it is expected to do.
    keep = config.keep_float, config.keep_wide
    reports = {
        precision: precision_report(read_graph(quantize_graph(path, plan, precision, *keep)), precision, *keep)
        for precision in INTEGER_PRECISIONS
    }
    precisions = Precisions(keep_float=keep[0], keep_wide=keep[1], int8=reports["int8"], int16x8=reports["int16x8"])
    _write(out / PRECISION_FILE, "precision", precisions, unsaid=set() if config.keep_wide else {"keep_wide"})
    _write(out / PARITY_FILE, "parity", PlanParity(float32=parity))
    return QuantizedPlan(out, plan, precisions, PlanParity(float32=parity))


def read_plan(directory: Path) -> QuantizedPlan:
    """Reads a plan's folder.

    Raises:
        ArtifactError: a file is missing or damaged.
    """
    stored = _read(directory / RANGES_FILE, "ranges", Ranges)
    groups: dict[int, list[int]] = {}
    for tensor in stored.tensors:
        if tensor.group is not None:
            groups.setdefault(tensor.group, []).append(tensor.index)
    ranges = {tensor.index: Range(tensor.low, tensor.high) for tensor in stored.tensors}
    return QuantizedPlan(
        directory,
        RangePlan(
            ranges,
            tuple(tuple(groups[number]) for number in sorted(groups)),
            frozenset(tensor.index for tensor in stored.tensors if tensor.prescribed),
        ),
        _read(directory / PRECISION_FILE, "precision", Precisions),
        _read(directory / PARITY_FILE, "parity", PlanParity),
    )


def _ranges(graph: Graph, plan: RangePlan) -> Ranges:
    number = {index: position for position, group in enumerate(plan.groups) for index in group}
    return Ranges(
        tensors=tuple(
            TensorRange(
                index=index,
                name=graph.tensors[index].name,
                low=found.low,
                high=found.high,
                group=number.get(index),
                prescribed=index in plan.prescribed,
            )
            for index, found in sorted(plan.ranges.items())
        )
    )


_Kind = Literal["ranges", "precision", "parity"]


def _write(path: Path, kind: _Kind, value: Config, unsaid: set[str] | None = None) -> None:
    write_json(path, {"schema": f"earshot.{kind}/1", **value.model_dump(mode="json", exclude=unsaid)})


def _read(path: Path, kind: _Kind, model: type[ConfigT]) -> ConfigT:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.pop("schema") != f"earshot.{kind}/1":
            raise ArtifactError(f"{path}: of another schema", "run the quantize stage again")
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise ArtifactError(f"{path}: missing or damaged ({error})", "run the quantize stage again") from error
    return parse(model, content, str(path))
