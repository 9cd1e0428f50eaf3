"""What the layers of a run's int8 file lose to rounding, and what 16 bits for single ones would buy.

Measured once and kept in the store (stage `layers`): whatever shows the run from then on shows it too.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from earshot.ci.explanation import Layer, Layers, Together, read_layers
from earshot.ci.run_file import Run
from earshot.core.config import parse
from earshot.core.errors import ArtifactError, EarshotError, ModelError, UsageError
from earshot.core.files import write_json
from earshot.core.measurement import Measurement
from earshot.pipeline.manifest import read_manifest
from earshot.pipeline.store import Artifact, Store

if TYPE_CHECKING:
    import numpy as np

    from earshot.pipeline.data.base import EvalPair
    from earshot.pipeline.progress import Progress
    from earshot.pipeline.recipe import Recipe
    from earshot.quantize.integer import IntegerPrecision
    from earshot.quantize.plan import QuantizedPlan
    from earshot.quantize.raising import Built
    from earshot.quantize.sensitivity import LayerNoise, Model

STAGE, VERSION = "layers", 1
RESULT = "layers.json"
ROW, PLAN = "convert:int8", "quantize"
FRAMES, CLIPS = 200, 4
# What the simulation may take: it runs the network once a layer. Half a minute of one core.
SIMULATED_MACS, FEWEST_FRAMES = 2e10, 40
_DATA_SEED = 0  # as in runner.py: the validation set is the same for every run


def stored_layers(run: Run, store: Store) -> Layers | None:
    """What was measured of a run's layers before, the most of it; None where nothing was."""
    plan = run.artifacts.get(PLAN)
    found = []
    for folder in store.artifacts_folder.glob(f"{STAGE}-*") if plan else ():
        try:
            manifest = read_manifest(folder)
            if manifest.inputs.get("plan") == plan and manifest.stage_version == VERSION:
                found.append((manifest.config.get("built", 0), manifest.created, folder))
        except ArtifactError:
            continue
    for *_, folder in sorted(found, reverse=True):
        try:
            return _read(store.open(folder))
        except ArtifactError as error:
            store.on_damage(error.message)
    return None


def has_layers(run: Run) -> bool:
    """Whether a run made an int8 file of its own."""
    return PLAN in run.artifacts and any(row.row == ROW for row in run.rows)


def measure_layers(run: Run, store: Store, built: int, progress: Progress) -> Layers:
    """Measures the layers of a run's int8 file, or reads what was measured before, where that is as much.

    Args:
        run: the run.
        store: holds what its quantize stage made; keeps the result.
        built: how many layers to make a file for, each on 16 bits.
        progress: told about the work, seconds to a minute of it.

    Raises:
        UsageError: the run made no int8 file.
        ArtifactError: what its quantize stage made is gone.
        DataError: the recipe's validation sound is not on this machine.
    """
    if not has_layers(run):
        raise UsageError(f"run {run.name}: it made no int8 file of its own, so there are no layers to measure")
    known = stored_layers(run, store)
    if known is not None and sum(layer.gain_db is not None or bool(layer.why_not) for layer in known.layers) >= built:
        return known
    plan = store.find(run.artifacts[PLAN])
    if plan is None:
        raise ArtifactError(
            f"{store.root}: what the quantize stage of run {run.name} made is gone or damaged",
            "make it again with: earshot run, or get it with: earshot pull",
        )
    recipe, pairs, digest = _sound(run, store)

    def produce(out: Path, work: Path) -> list[Measurement]:
        layers = _measure(plan.path, recipe, pairs, built, progress)
        write_json(out / RESULT, asdict(layers))
        return []

    config = {"frames": FRAMES, "clips": CLIPS, "built": built}
    inputs = {"plan": plan.id, "sound": digest}
    return _read(store.build(STAGE, VERSION, config=config, inputs=inputs, producer=produce))


def _read(artifact: Artifact) -> Layers:
    try:
        return read_layers(json.loads(artifact.file(RESULT).read_text(encoding="utf-8")))
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise ArtifactError(f"{artifact.path}: no layers in it ({error})", "remove it: earshot artifacts gc") from error


def _sound(run: Run, store: Store) -> tuple[Recipe, tuple[EvalPair, ...], str]:
    """A few validation clips, and their digest; never the test set, by which the result would be judged."""
    from earshot.pipeline.data.base import digest_pairs
    from earshot.pipeline.data.open import open_data
    from earshot.pipeline.recipe import Recipe

    recipe = parse(Recipe, run.recipe, f"run {run.name}: recipe")
    frontend = recipe.frontend
    data = open_data(recipe.data, frontend.rate, _DATA_SEED, store.root / "cache", frontend.channels)
    step = max(1, len(data.validation) // CLIPS)
    pairs = tuple(data.validation[::step][:CLIPS])
    return recipe, pairs, digest_pairs(pairs, data.rate, data.digests)


def _stream(recipe: Recipe, pairs: Sequence[EvalPair]) -> np.ndarray:
    """Frames from the middle of each clip, end to end: `[frames, 1, 1, bins, channels]`."""
    import numpy as np
    import torch

    from earshot.quantize.calibration import channels_last

    parts, each = [], FRAMES // len(pairs)
    for pair in pairs:
        noisy = torch.from_numpy(pair.load()[1])[None]
        frames = channels_last(recipe.frontend.analyse(noisy).sequence.numpy())[0]
        begin = max(0, (len(frames) - each) // 2)
        parts.append(frames[begin : begin + each])
    return np.concatenate(parts).astype(np.float32)


def _measure(plan_dir: Path, recipe: Recipe, pairs: Sequence[EvalPair], built: int, progress: Progress) -> Layers:
    from earshot.quantize.graph import read_graph
    from earshot.quantize.integer import quantize_graph
    from earshot.quantize.plan import read_plan
    from earshot.quantize.raising import measure
    from earshot.quantize.sensitivity import Model, layer_noise, masks

    plan, frames = read_plan(plan_dir), _stream(recipe, pairs)
    keep = plan.precisions.keep_float, plan.precisions.keep_wide

    def made(precision: IntegerPrecision) -> Model:
        content = quantize_graph(plan.float_path, plan.ranges, precision, *keep)
        return Model(read_graph(content), content)

    floating, rounded = Model(read_graph(plan.float_path), plan.float_path.read_bytes()), made("int8")
    progress.start("layers: what rounding costs", len(frames))
    noise = layer_noise(floating, rounded, frames, progress.advance)
    progress.finish()
    wanted = masks(floating, frames)
    plain = measure(rounded, wanted, frames)
    shown, gains, simulated, missing = _chosen(noise.layers, floating, rounded, wanted, frames, built, progress)
    layers: list[Layer] = []
    progress.start("layers: files with one of them on 16 bits", built)
    for layer in shown:
        entry = _layer(layer, floating, gains)
        if len(layers) < built:
            entry = _built(entry, plan, wanted, frames, plain)
            progress.advance()
        layers.append(entry)
    progress.finish()
    gaining = tuple(one.pattern for one in layers if (one.gain_db or 0.0) > 0)
    together = _together(gaining, plan, wanted, frames, plain) if len(gaining) > 1 else None
    return Layers(
        row=ROW,
        layers=tuple(sorted(layers, key=lambda one: -(one.gain_db or one.simulated_gain_db or 0.0))),
        count=len(noise.layers),
        mask_snr_db=plain.snr_db,
        wide_snr_db=measure(made("int16x8"), wanted, frames).snr_db,
        together=together,
        frames=len(frames),
        seconds=len(frames) * recipe.frontend.hop_seconds,
        sound=f"{len(pairs)} validation clips",
        simulated_frames=simulated,
        missing=missing,
    )


def _chosen(
    layers: Sequence[LayerNoise],
    floating: Model,
    rounded: Model,
    wanted: np.ndarray,
    frames: np.ndarray,
    built: int,
    progress: Progress,
) -> tuple[list[LayerNoise], dict[str, float], int, str]:
    """The layers to show, those to build first; simulated gains; frames these stand on; why there are none."""
    from earshot.quantize.raising import macs_of, simulated_snrs

    def own(layer: LayerNoise) -> float:
        return layer.sqnr_db if layer.own_sqnr_db is None else layer.own_sqnr_db

    lowest = sorted(layers, key=own)[:built]
    macs = macs_of(floating.graph, range(len(floating.graph.operators))) * (len(layers) + 1)
    count = min(len(frames), max(FEWEST_FRAMES, int(SIMULATED_MACS / max(macs, 1))))
    progress.start("layers: what 16 bits would gain, simulated", count)
    try:
        plain, snrs = simulated_snrs(
            floating.graph,
            rounded.graph,
            [layer.location for layer in layers],
            wanted[:count],
            frames[:count],
            progress.advance,
        )
    except ModelError as error:
        return lowest, {}, 0, f"gains were not simulated: {error.message}"
    finally:
        progress.finish()
    gains = {location: snr - plain for location, snr in snrs.items()}
    promising = sorted(layers, key=lambda layer: -gains[layer.location])[:built]
    return [*promising, *(layer for layer in lowest if layer not in promising)], gains, count, ""


def _layer(layer: LayerNoise, floating: Model, gains: dict[str, float]) -> Layer:
    from earshot.quantize.raised import raised
    from earshot.quantize.raising import macs_of, pattern_of

    pattern = pattern_of(layer.location)
    together = raised(floating.graph, [pattern]).operators
    return Layer(
        index=layer.operator.index,
        name=layer.operator.name,
        location=layer.location,
        pattern=pattern,
        sqnr_db=layer.sqnr_db,
        own_sqnr_db=layer.own_sqnr_db,
        simulated_gain_db=gains.get(layer.location),
        operators=len(together),
        macs=macs_of(floating.graph, together),
    )


def _built(layer: Layer, plan: QuantizedPlan, wanted: np.ndarray, frames: np.ndarray, plain: Built) -> Layer:
    from earshot.quantize.raising import build_raised

    try:
        found = build_raised(plan, [layer.pattern], wanted, frames)
    except EarshotError as error:
        return replace(layer, why_not=error.message)
    return replace(
        layer,
        gain_db=found.snr_db - plain.snr_db,
        bytes_more=found.bytes - plain.bytes,
        state_bytes_more=found.state_bytes - plain.state_bytes,
    )


def _together(
    patterns: tuple[str, ...], plan: QuantizedPlan, wanted: np.ndarray, frames: np.ndarray, plain: Built
) -> Together | None:
    from earshot.quantize.raising import build_raised

    try:
        found = build_raised(plan, patterns, wanted, frames)
    except EarshotError:
        return None
    return Together(
        patterns, found.snr_db - plain.snr_db, found.bytes - plain.bytes, found.state_bytes - plain.state_bytes
    )
