"""distill: trains a network, alone (a teacher, or a student without one) or with a teacher."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from earshot.core.files import write_json
from earshot.core.measurement import Measurement
from earshot.models.frontend import Frontend
from earshot.models.registry import own_code
from earshot.pipeline.data.base import Data
from earshot.pipeline.progress import Progress
from earshot.pipeline.stages.causal import require_causal
from earshot.pipeline.stages.enter import CHECKPOINT
from earshot.pipeline.stages.step import Inputs, Step
from earshot.pipeline.training.config import DistillConfig, OnlineConfig, TeachingConfig
from earshot.pipeline.training.metric_targets import check_targets

if TYPE_CHECKING:
    from earshot.models.streaming import StreamingModel

VERSION = 1
ONLINE_VERSION = 2  # 1 could keep a student of an epoch before metrics teach
CURVES = "curves.json"


def distill(
    title: str,
    network: str,
    params: Mapping[str, Any],
    frontend: Frontend,
    settings: TeachingConfig,
    data: Data,
    seed: int,
    *,
    teacher: Step | None = None,
    start: Step | None = None,
    ships: bool = False,
    online: OnlineConfig | None = None,
) -> Step:
    """A training step.

    Args:
        title: `teacher` or `distill`.
        network: registered name or `package.module:Name`.
        params: its sizes.
        frontend: rate, window, hop.
        settings: how to train, and with which method.
        data: training and validation material.
        seed: of weights, batches and augmentation.
        teacher: makes the teacher's checkpoint.
        start: makes the checkpoint that training starts from; default: fresh weights.
        ships: stages follow that need a causal network; one that is not is refused before it is trained.
        online: several students that teach each other are trained; one of them stays.

    Raises:
        UsageError: `online` names a metric that cannot be trained towards.
    """
    if online is not None:
        check_targets(online.metrics, frontend.rate)

    def produce(inputs: Inputs, out: Path, work: Path, progress: Progress) -> list[Measurement]:
        import torch

        from earshot.models import checkpoint
        from earshot.models.cost import cost
        from earshot.models.registry import build
        from earshot.pipeline.training.loop import train
        from earshot.pipeline.training.online import train_online

        torch.manual_seed(seed)

        def begun() -> StreamingModel:
            if "start" in inputs:
                return checkpoint.load(inputs["start"].file(CHECKPOINT))
            return build(network, frontend, params, f"{title}.params")

        model = begun()
        if ships:
            require_causal(model, title)
        sampler = data.sampler(seed, settings.segment_seconds)
        if online is not None:
            students = [model, *(begun() for _ in online.metrics[1:])]
            several = DistillConfig.model_validate({**settings.model_dump(), "online": online.model_dump()})
            trained = train_online(students, several, sampler, data.validation, seed, work, progress)
        else:
            taught = checkpoint.load(inputs["teacher"].file(CHECKPOINT)) if "teacher" in inputs else None
            trained = train(model, settings, sampler, data.validation, seed, work, progress, taught)
        checkpoint.save(trained.model, network, out / CHECKPOINT)
        write_json(out / CURVES, [curve.as_dict() for curve in trained.curves])
        return cost(trained.model)

    # The logger changes nothing in the weights, and the launcher's thread count should not either.
    decisive = settings.model_dump(mode="json", exclude={"log": True, "launcher": {"threads"}})
    config = {
        "network": network,
        "params": dict(params),
        "frontend": frontend.model_dump(mode="json"),
        "settings": decisive,
        "seed": seed,
    }
    if online is not None:
        config["online"] = online.model_dump(mode="json")
    steps = {role: step for role, step in (("teacher", teacher), ("start", start)) if step is not None}
    outside = {
        "train": data.digest("train"),
        "validation": data.digest("validation"),
        **own_code(network, settings.method, *(online.metrics if online else ())),
    }
    version = VERSION if online is None else ONLINE_VERSION
    return Step(title, "distill", version, config, steps, outside, seed, produce)
