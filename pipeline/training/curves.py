"""Training curves: one record per epoch, optionally also to TensorBoard or MLflow."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from earshot.core.errors import UsageError


@dataclass(frozen=True)
class Curve:
    """One epoch: mean training loss, validation loss, and whether its weights were the best so far.

    Attributes:
        metrics: means over validation, where training is towards metrics, in their own units.
    """

    epoch: int
    train_loss: float
    validation_loss: float
    best: bool
    metrics: Mapping[str, float] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """JSON data; `metrics` only where there are any."""
        content = asdict(self)
        return content if self.metrics else {name: value for name, value in content.items() if name != "metrics"}


def epochs_since_best(curves: Sequence[Curve], first: int = 0) -> int:
    """How many epochs in a row were no better than the best before; those before `first` count for neither."""
    best = max((curve.epoch for curve in curves if curve.best), default=first - 1)
    return len(curves) - 1 - best


def open_log(kind: str, work: Path, writes: bool = True) -> Callable[[Curve], None]:
    """A function that records an epoch with the chosen logger; `writes` is False on all processes but the first.

    TensorBoard files go to `work`/tensorboard; MLflow uses its own environment (MLFLOW_TRACKING_URI).

    Raises:
        UsageError: the logger is not installed.
    """
    if kind == "none" or not writes:
        return lambda curve: None
    if kind == "tensorboard":
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise UsageError("log: tensorboard is not installed", "pip install 'earshot[tensorboard]'") from error
        writer = SummaryWriter(str(work / "tensorboard"))

        def to_tensorboard(curve: Curve) -> None:
            writer.add_scalar("loss/train", curve.train_loss, curve.epoch)
            writer.add_scalar("loss/validation", curve.validation_loss, curve.epoch)
            for name, value in curve.metrics.items():
                writer.add_scalar(f"validation/{name}", value, curve.epoch)
            writer.flush()

        return to_tensorboard
    try:
        import mlflow
    except ImportError as error:
        raise UsageError("log: mlflow is not installed", "pip install 'earshot[mlflow]'") from error

    def to_mlflow(curve: Curve) -> None:
        losses = {"train_loss": curve.train_loss, "validation_loss": curve.validation_loss}
        mlflow.log_metrics({**losses, **curve.metrics}, curve.epoch)

    return to_mlflow
