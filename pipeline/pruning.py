"""Structured channel pruning by dependency graph: channels that depend on each other go together.

torch-pruning follows the dependencies (Fang et al. 2023, DepGraph); recurrent layers, which it cannot follow, stand
in its graph as fully connected ones: a hidden unit's importance there is the norm of all its gates' weights, and the
units that go are then taken out of the gates and of the state. States shrink with their layers, because a network
reads their shapes off its layers; the result is rebuilt from its class with the sizes that are left, so that it saves
and loads like any other.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from earshot.core.errors import ModelError, ToolError
from earshot.models.cost import macs_per_second, parameters
from earshot.models.layers import Recurrent, RecurrentLstm
from earshot.models.streaming import StreamingModel
from earshot.pipeline.progress import Progress
from earshot.pipeline.training.config import PruneBudget, PruneConfig

_RATIO_STEPS = 20  # `until` chooses among multiples of 1/20
_FRAMES = 1  # of the sequence that the dependencies are traced on: what joins frames looks like what joins channels


@dataclass(frozen=True)
class PruneReport:
    """What pruning did: the ratio that was applied, and the cost before and after."""

    ratio: float
    parameters: tuple[int, int]
    macs_per_second: tuple[int, int]
    frame_us: float | None = None


@dataclass(frozen=True)
class Pruned:
    """A pruned network, not yet fine-tuned, and what was done to it."""

    model: StreamingModel
    report: PruneReport


def prune_network(model: StreamingModel, config: PruneConfig, work: Path, progress: Progress) -> Pruned:
    """Prunes by `config.ratio`, or by the smallest ratio with which `config.until` holds.

    Args:
        model: the dense network; it stays as it is.
        config: how much, and how channels are ranked.
        work: scratch for files that are measured.
        progress: told about every ratio that is tried.

    Raises:
        ModelError: the network cannot be pruned, or no ratio up to `config.max_ratio` fits the budget.
    """
    if config.ratio is not None:
        pruned = cut(model, config.ratio, config)
        return Pruned(pruned, _report(model, pruned, config.ratio, None))
    budget = config.until
    assert budget is not None
    ratios = [step / _RATIO_STEPS for step in range(_RATIO_STEPS) if step / _RATIO_STEPS <= config.max_ratio + 1e-9]
    progress.start("prune until the budget holds", None)
    timed: dict[float, float] = {}

    def fits(ratio: float) -> bool:
        candidate = cut(model, ratio, config)
        holds = _fits(candidate, budget, work, timed, ratio)
        progress.advance(1, f"ratio {ratio:.2f}: {parameters(candidate)} parameters")
        return holds

    ratio = _smallest(ratios, fits)
    progress.finish()
    if ratio is None:
        smallest = cut(model, ratios[-1], config)
        raise ModelError(
            f"pruning {ratios[-1]:.0%} of the channels misses the budget {budget.model_dump(exclude_none=True)}: "
            f"{parameters(smallest)} parameters and {macs_per_second(smallest)} MAC/s are left",
            "raise the budget or prune.max_ratio, or start from a smaller student",
        )
    pruned = cut(model, ratio, config)
    return Pruned(pruned, _report(model, pruned, ratio, timed.get(ratio)))


@torch.enable_grad()
def cut(model: StreamingModel, ratio: float, config: PruneConfig) -> StreamingModel:
    """A copy with `ratio` of its channels removed, rebuilt from its class. Raises ModelError when it cannot be."""
    import torch_pruning

    try:
        model.layer_params()
    except ModelError as error:
        message = f"{type(model).__name__} cannot be pruned: {error.message}"
        raise ModelError(message, error.hint or "skip prune") from error
    draft = copy.deepcopy(model).eval().requires_grad_(True)
    stand_ins = _stand_ins(draft)
    importance = (
        torch_pruning.importance.GroupMagnitudeImportance(p=2)
        if config.importance == "magnitude"
        else torch_pruning.importance.RandomImportance()
    )
    example = torch.rand(1, model.frontend.inputs, _FRAMES, model.frontend.bins)
    traced = _with_latent(draft, example)
    try:
        pruner = torch_pruning.pruner.BasePruner(
            draft,
            example,
            forward_fn=traced,
            importance=importance,
            ignored_layers=list(draft.fixed_layers()),
            pruning_ratio=ratio,
            pruning_ratio_dict=_narrow_layers(draft, ratio, config.round_to),
            round_to=config.round_to,
        )
        for group in pruner.step(interactive=True):
            for dependency, indices in group:
                for stand_in in stand_ins:
                    stand_in.note(dependency, indices)
            group.prune()
        for stand_in in stand_ins:
            stand_in.restore(draft)
        if traced is not None:
            del draft.probe
        rebuilt = type(model)(model.frontend, draft.layer_params())
        rebuilt.load_state_dict(draft.state_dict())
    except (RuntimeError, ValueError, KeyError, AssertionError, ModelError) as error:
        raise ModelError(f"{type(model).__name__} cannot be pruned by {ratio}: {error}", "skip prune") from error
    return rebuilt.eval()


Traced = Callable[[Any, torch.Tensor], list[torch.Tensor]]


def _with_latent(draft: StreamingModel, example: torch.Tensor) -> Traced | None:
    """How a network is called whose output does not depend on all its layers: a probe at the latent makes it two.

    Conv-TasNet's last block has a residual output that only distillation looks at; nothing else would prune it.
    """
    trace = draft.trace(example)
    found = torch.autograd.grad(trace.output.sum(), list(draft.parameters()), allow_unused=True, retain_graph=True)
    if all(gradient is not None for gradient in found):
        return None
    # Equal weights: they leave the order of channels by importance as it is.
    probe = nn.Linear(trace.latent.shape[-1], 1)
    nn.init.ones_(probe.weight)
    draft.probe = probe

    def traced(model: Any, sequence: torch.Tensor) -> list[torch.Tensor]:
        both = model.trace(sequence)
        return [both.output, model.probe(both.latent)]

    return traced


def _narrow_layers(draft: nn.Module, ratio: float, round_to: int) -> dict[nn.Module, float]:
    """Smaller ratios for layers of which nothing would be left: they keep `round_to` channels.

    torch-pruning leaves such layers whole, and more pruning would give a larger network.
    """
    layers = [part for part in draft.modules() if isinstance(part, nn.Conv2d | nn.ConvTranspose2d | nn.Linear)]
    widths = [layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels for layer in layers]
    # The half is taken off again where torch-pruning rounds to whole channels.
    furthest = [max(0.0, 1 - (round_to + 0.5) / width) for width in widths]
    return {layer: most for layer, most in zip(layers, furthest, strict=True) if most < ratio}


class _StandIn:
    """A fully connected layer in the place of a recurrent one while dependencies are traced."""

    def __init__(self, name: str, recurrent: Recurrent | RecurrentLstm) -> None:
        self.name = name
        self.recurrent = recurrent
        self.gates = 3 if isinstance(recurrent, Recurrent) else 4
        fused = _fused(recurrent)
        self.layer = nn.Linear(fused.input_size, fused.hidden_size)
        by_gate = fused.weight_ih_l0.detach().reshape(self.gates, fused.hidden_size, fused.input_size)
        loops = fused.weight_hh_l0.detach().reshape(self.gates, fused.hidden_size, fused.hidden_size)
        own = by_gate.square().sum(0)
        # The norm of a unit's row is then the norm of all weights that lead into it.
        extra = loops.square().sum((0, 2)) / fused.input_size
        self.layer.weight.data = (own + extra[:, None]).sqrt()
        self.inputs = torch.arange(fused.input_size)
        self.hidden = torch.arange(fused.hidden_size)

    def note(self, dependency: object, indices: list[int]) -> None:
        """Remembers what torch-pruning takes out of the stand-in."""
        if dependency.target.module is not self.layer:  # type: ignore[attr-defined]
            return
        if "out" in dependency.handler.__name__:  # type: ignore[attr-defined]
            self.hidden = _without(self.hidden, indices)
        else:
            self.inputs = _without(self.inputs, indices)

    def restore(self, draft: nn.Module) -> None:
        """Puts a recurrent layer with the units that are left in the stand-in's place."""
        old = _fused(self.recurrent)
        small = type(self.recurrent)(len(self.inputs), len(self.hidden))
        new = _fused(small)
        rows = torch.cat([self.hidden + gate * old.hidden_size for gate in range(self.gates)])
        with torch.no_grad():
            new.weight_ih_l0.copy_(old.weight_ih_l0[rows][:, self.inputs])
            new.weight_hh_l0.copy_(old.weight_hh_l0[rows][:, self.hidden])
            new.bias_ih_l0.copy_(old.bias_ih_l0[rows])
            new.bias_hh_l0.copy_(old.bias_hh_l0[rows])
        draft.set_submodule(self.name, small)


def _fused(recurrent: Recurrent | RecurrentLstm) -> Any:
    """torch's own layer, whose parameters its class does not name."""
    return recurrent.gru if isinstance(recurrent, Recurrent) else recurrent.lstm


def _stand_ins(draft: nn.Module) -> list[_StandIn]:
    kinds = Recurrent | RecurrentLstm
    found = [_StandIn(name, part) for name, part in draft.named_modules() if isinstance(part, kinds)]
    for stand_in in found:
        draft.set_submodule(stand_in.name, stand_in.layer)
    return found


def _without(kept: torch.Tensor, indices: list[int]) -> torch.Tensor:
    """Indices count among what is still there."""
    mask = torch.ones(len(kept), dtype=torch.bool)
    mask[indices] = False
    return kept[mask]


def _smallest(ratios: list[float], fits: Callable[[float], bool]) -> float | None:
    """The first ratio that fits, by bisection: more pruning never costs more."""
    low, high = 0, len(ratios)
    while low < high:
        middle = (low + high) // 2
        if fits(ratios[middle]):
            high = middle
        else:
            low = middle + 1
    return ratios[low] if low < len(ratios) else None


def _fits(model: StreamingModel, budget: PruneBudget, work: Path, timed: dict[float, float], ratio: float) -> bool:
    if budget.parameters is not None and parameters(model) > budget.parameters:
        return False
    if budget.macs_per_second is not None and macs_per_second(model) > budget.macs_per_second:
        return False
    if budget.frame_us is None:
        return True
    timed[ratio] = measured_frame_us(model, budget.target, work)
    return timed[ratio] <= budget.frame_us


def measured_frame_us(model: StreamingModel, target: str, work: Path) -> float:
    """Median time of one frame of the model's float32 file on a target. Raises DeviceError, ToolError."""
    from earshot.pipeline.progress import Silent
    from earshot.quantize.export import export_float
    from earshot.targets.base import ProfileConfig
    from earshot.targets.registry import open_target

    path = work / "candidate.tflite"
    export_float(model, path)
    result = open_target(target).profile({"candidate": path}, ProfileConfig(repeats=3), Silent())[0]
    found = next((one for one in result.measurements if one.metric == "frame_p50_us"), None)
    if found is None or found.value is None:
        why = found.reason if found else "it reads no clock"
        raise ToolError(f"target {target} could not time the pruned network: {why}", "prune.until.target: host")
    return found.value


def _report(dense: StreamingModel, pruned: StreamingModel, ratio: float, frame_us: float | None) -> PruneReport:
    return PruneReport(
        ratio,
        (parameters(dense), parameters(pruned)),
        (macs_per_second(dense), macs_per_second(pruned)),
        frame_us,
    )
