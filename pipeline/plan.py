"""What a recipe asks for, as steps with identities: nothing is executed here, and torch is not needed.

teacher ─┬────────────┬────────────────┐             noisy   the test pairs as they are
distill ─┴─> prune ───┴> [quantize:train] ─> quantize ─> convert (one step a variant)
   every row: export of the float streaming file where there is none yet, quality on the test set
   every target: one profile step over the files that ship; on the host, over the files of all rows
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from earshot.pipeline.data.base import Data
from earshot.pipeline.recipe import CHECKPOINTS, Recipe
from earshot.pipeline.stages.convert import convert, variant_file
from earshot.pipeline.stages.distill import distill
from earshot.pipeline.stages.enter import CHECKPOINT, enter_checkpoint, enter_file
from earshot.pipeline.stages.export import FLOAT_FILE, export
from earshot.pipeline.stages.profile import ProfileStep, profile
from earshot.pipeline.stages.prune import prune
from earshot.pipeline.stages.quality import quality
from earshot.pipeline.stages.quantize import quantize
from earshot.pipeline.stages.quantize_train import quantize_train
from earshot.pipeline.stages.step import Step
from earshot.pipeline.training.config import TeachingConfig

ENTERED_MODEL = "model.tflite"
HOST = "host"
SHIPS = ("convert", "profile")  # the stages whose rows are files that ship


@dataclass(frozen=True)
class PlannedRow:
    """One line of the run's table.

    Attributes:
        name: as in docs/architecture.md, e.g. `convert:int8`.
        stage: stage it belongs to.
        model: makes what is measured; None for `noisy`.
        device: the step and file that run on targets; None where nothing does.
        quality: scores it.
    """

    name: str
    stage: str
    model: Step | None
    device: tuple[Step, str] | None
    quality: Step

    @property
    def steps(self) -> Iterator[Step]:
        """Its steps in the order in which they run."""
        if self.model is not None:
            yield self.model
        if self.device is not None and self.device[0] is not self.model:
            yield self.device[0]
        yield self.quality


@dataclass(frozen=True)
class Plan:
    """Rows in order, and what is measured over all of them at the end."""

    rows: tuple[PlannedRow, ...]
    profiles: tuple[ProfileStep, ...]

    @property
    def making(self) -> Iterator[Step]:
        """Every step but the profiles once, each after its inputs."""
        seen: set[str] = set()
        for row in self.rows:
            for step in row.steps:
                yield from _after_inputs(step, seen)

    @property
    def steps(self) -> Iterator[Step]:
        """Every step once, each after its inputs."""
        yield from self.making
        for profiled in self.profiles:
            yield profiled.step


def _after_inputs(step: Step, seen: set[str]) -> Iterator[Step]:
    """Inputs that stand in no row, like a file that enters, come right before the step that needs them."""
    if step.title in seen:
        return
    seen.add(step.title)
    for source in step.inputs.values():
        yield from _after_inputs(source, seen)
    yield step


def build_plan(recipe: Recipe, data: Data) -> Plan:
    """The plan of a recipe on its data. Raises DataError, ModelError or ConfigError before anything long starts."""
    rows = [PlannedRow("noisy", "noisy", None, None, quality("noisy", recipe.metrics, data))]
    teacher = _teacher(recipe, data)
    if teacher is not None:
        rows.append(_checkpoint_row("teacher", "teacher", teacher, recipe, data))
    current: Step | None = None
    for stage in recipe.stages:
        if stage in ("distill", "prune"):
            current = _trained(stage, recipe, data, current, teacher)
            rows.append(_checkpoint_row(stage, stage, current, recipe, data))
        elif stage == "quantize":
            current, source = _to_quantize(recipe, current)
            if recipe.quantize.train is not None:
                current = _quantize_trained(recipe, data, current, teacher)
                rows.append(_checkpoint_row(current.title, stage, current, recipe, data))
            current = quantize(stage, recipe, data, model=current, source=source)
            scored = quality(stage, recipe.metrics, data, model=current, frontend=recipe.frontend)
            rows.append(PlannedRow(stage, stage, current, None, scored))
        elif stage == "convert":
            assert current is not None
            for variant, step in zip(
                recipe.convert.variants,
                convert(stage, recipe.convert, recipe.frontend, data, recipe.seed, plan=current),
                strict=True,
            ):
                rows.append(_device_row(step.title, stage, step, variant_file(recipe.convert, variant), recipe, data))
        elif recipe.profile.enter is not None:
            step = enter_file(stage, recipe.profile.enter, ENTERED_MODEL)
            rows.append(_device_row("entered", stage, step, ENTERED_MODEL, recipe, data))
    targets = recipe.profile.targets if "profile" in recipe.stages else ()
    return Plan(tuple(rows), tuple(_profile(target, recipe, rows) for target in targets))


def _profile(target: str, recipe: Recipe, rows: Sequence[PlannedRow]) -> ProfileStep:
    """The host takes seconds for the files of all rows; a device or an emulator gets those that can ship."""
    every = target == HOST
    models = {row.name: row.device for row in rows if row.device is not None and (every or row.stage in SHIPS)}
    return profile(target, recipe.profile, models=models)


def _teacher(recipe: Recipe, data: Data) -> Step | None:
    section = recipe.teacher
    training = ("distill", "prune", *(["quantize"] if recipe.quantize.train is not None else []))
    if section is None or not set(training) & set(recipe.stages):
        return None
    if section.checkpoint is not None:
        return enter_checkpoint("teacher", section.checkpoint, section.network, section.params, recipe.frontend)
    assert section.train is not None
    settings = TeachingConfig.model_validate({**section.train.model_dump(), "method": "none"})
    return distill("teacher", section.network, section.params, recipe.frontend, settings, data, recipe.seed)


def _entered_checkpoint(stage: str, recipe: Recipe) -> Step | None:
    path = recipe.section(stage).enter
    if path is None:
        return None
    student = recipe.student
    return enter_checkpoint(f"enter {stage}", path, student.network, student.params, recipe.frontend)


def _trained(stage: str, recipe: Recipe, data: Data, current: Step | None, teacher: Step | None) -> Step:
    settings = recipe.distill if stage == "distill" else recipe.prune
    taught = teacher if settings.method != "none" else None
    entered = _entered_checkpoint(stage, recipe)
    if stage == "distill":
        student = recipe.student
        return distill(
            stage,
            student.network,
            student.params,
            recipe.frontend,
            TeachingConfig.model_validate(_own(recipe.distill, TeachingConfig)),
            data,
            recipe.seed,
            teacher=taught,
            start=entered,
            ships="quantize" in recipe.stages,
            online=recipe.distill.online,
        )
    model = entered or current
    assert model is not None
    return prune(stage, recipe.prune, data, recipe.seed, model=model, teacher=taught)


def _to_quantize(recipe: Recipe, current: Step | None) -> tuple[Step, str]:
    """What makes the file to quantize, and the file's name in its artifact."""
    path = recipe.quantize.enter
    source = CHECKPOINT
    if path is not None and path.suffix in CHECKPOINTS:
        current = _entered_checkpoint("quantize", recipe)
    elif path is not None:
        source = f"entered{path.suffix}"
        current = enter_file("enter quantize", path, source)
    assert current is not None
    return current, source


def _quantize_trained(recipe: Recipe, data: Data, current: Step, teacher: Step | None) -> Step:
    section = recipe.quantize
    assert section.train is not None
    taught = teacher if section.train.method != "none" else None
    return quantize_train(
        "quantize:train",
        section.train,
        section.clips,
        section.seconds,
        data,
        recipe.seed,
        model=current,
        teacher=taught,
    )


def _checkpoint_row(name: str, stage: str, model: Step, recipe: Recipe, data: Data) -> PlannedRow:
    exported = export(f"export {name}", model)
    scored = quality(name, recipe.metrics, data, model=exported, file=FLOAT_FILE)
    return PlannedRow(name, stage, model, (exported, FLOAT_FILE), scored)


def _device_row(name: str, stage: str, step: Step, file: str, recipe: Recipe, data: Data) -> PlannedRow:
    return PlannedRow(name, stage, step, (step, file), quality(name, recipe.metrics, data, model=step, file=file))


def _own(section: TeachingConfig, kind: type[TeachingConfig]) -> dict[str, object]:
    """The fields of a section that its plain config knows."""
    return {name: value for name, value in section.model_dump().items() if name in kind.model_fields}
