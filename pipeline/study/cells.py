"""A study as steps of the pipeline: a cell is known by the identities of its artifacts before any of them exists."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from earshot.models.registry import NETWORKS, lookup
from earshot.pipeline.data.base import Data
from earshot.pipeline.data.open import open_data
from earshot.pipeline.distillation.registry import METHODS
from earshot.pipeline.metrics.registry import resolve
from earshot.pipeline.recipe import NetworkSection
from earshot.pipeline.stages.distill import distill
from earshot.pipeline.stages.enter import enter_checkpoint
from earshot.pipeline.stages.export import FLOAT_FILE, export
from earshot.pipeline.stages.quality import quality
from earshot.pipeline.stages.step import Step
from earshot.pipeline.study.config import ALONE, Study, StudyMethod, StudyTeacher
from earshot.pipeline.training.config import OnlineConfig, TeachingConfig, TrainConfig

_DATA_SEED = 0  # all cells are scored on one evaluation set


@dataclass(frozen=True)
class Arm:
    """What is compared: a student taught by a method from a teacher, or without one (`none` for both).

    Online students have a method and no teacher. The noisy input and the teachers have arms of their own, without a
    student or without a method.
    """

    teacher: str
    student: str
    method: str

    @property
    def title(self) -> str:
        """As tables and progress name it."""
        if not self.student:
            return self.teacher
        if self.teacher == ALONE:
            return f"{self.student} alone" if self.method == ALONE else f"{self.student}, {self.method}"
        return f"{self.student}, {self.method} from {self.teacher}"

    @property
    def alone(self) -> Arm:
        """The same student without a teacher."""
        return Arm(ALONE, self.student, ALONE)


@dataclass(frozen=True)
class Cell:
    """One training run of an arm and the step that scores it; `seed` is None where none was trained."""

    arm: Arm
    seed: int | None
    quality: Step


@dataclass(frozen=True)
class Matrix:
    """All cells of a study: the noisy input, the teachers, the students alone, the students taught."""

    cells: tuple[Cell, ...]

    @property
    def steps(self) -> dict[str, Step]:
        """Identity -> step, each once and after its inputs: teachers first, because the others wait for them."""
        found: dict[str, Step] = {}
        for cell in self.cells:
            for step in _after_inputs(cell.quality):
                found.setdefault(step.id, step)
        return found


def open_study_data(study: Study, cache: Path) -> Data:
    """The data of all cells. Raises DataError."""
    return open_data(study.data, study.frontend.rate, _DATA_SEED, cache, study.frontend.channels)


def matrix(study: Study, data: Data, threads: int = 1) -> Matrix:
    """The cells of a study.

    Args:
        study: what to combine.
        data: of all cells.
        threads: CPU threads of each training, where the steps are made; no part of any identity.

    Raises:
        UsageError: no network, method or metric of a name that the study gives.
    """
    _check_names(study)
    teachers = {name: _teacher(name, study, data, threads) for name in study.teachers}
    cells = [Cell(Arm("noisy", "", ""), None, quality("noisy", study.metrics, data))]
    for name, step in teachers.items():
        cells.append(Cell(Arm(f"teacher {name}", "", ""), None, _scored(f"teacher {name}", step, study, data)))
    arms: list[tuple[Arm, Step | None]] = [(Arm(ALONE, student, ALONE), None) for student in study.students]
    online = [name for name, method in study.methods.items() if method.online is not None]
    arms += [(Arm(ALONE, student, name), None) for student in study.students for name in online]
    arms += [
        (Arm(teacher, student, method), teachers[teacher])
        for teacher in study.teachers
        for student in study.students
        for method in study.methods
        if method not in online
    ]
    for arm, teacher in arms:
        for seed in study.seeds:
            title = f"{arm.title}, seed {seed}"
            method = study.methods.get(arm.method)
            settings = _settings(study.train, method, threads)
            network = study.students[arm.student]
            trained = _trained(title, network, settings, study, data, seed, teacher, method.online if method else None)
            cells.append(Cell(arm, seed, _scored(title, trained, study, data)))
    return Matrix(tuple(cells))


def _check_names(study: Study) -> None:
    """Before hours of training: a name that nothing has is a mistake of the study, not of its cells."""
    networks = [section.network for section in (*study.students.values(), *study.teachers.values())]
    methods = [method.method for method in study.methods.values()]
    for names, known, what in ((networks, NETWORKS, "network"), (methods, METHODS, "distillation method")):
        for name in names:
            if ":" not in name and name not in known:
                lookup(name, known, what)  # raises; what is known is not imported, a cached study needs no torch
    for name in study.metrics:
        resolve(name)


def _teacher(name: str, study: Study, data: Data, threads: int) -> Step:
    section: StudyTeacher = study.teachers[name]
    title = f"teacher {name}"
    if section.checkpoint is not None:
        return enter_checkpoint(title, section.checkpoint, section.network, section.params, study.frontend)
    assert section.train is not None
    return _trained(title, section, _settings(section.train, None, threads), study, data, section.seed)


def _trained(
    title: str,
    network: NetworkSection,
    settings: TeachingConfig,
    study: Study,
    data: Data,
    seed: int,
    teacher: Step | None = None,
    online: OnlineConfig | None = None,
) -> Step:
    return distill(
        title, network.network, network.params, study.frontend, settings, data, seed, teacher=teacher, online=online
    )


def _settings(train: TrainConfig, method: StudyMethod | None, threads: int) -> TeachingConfig:
    launcher = train.launcher.model_copy(update={"threads": threads})
    teaching = method.model_dump(exclude={"online"}) if method else {"method": ALONE}
    return TeachingConfig.model_validate({**train.model_dump(), "launcher": launcher.model_dump(), **teaching})


def _scored(title: str, model: Step, study: Study, data: Data) -> Step:
    return quality(title, study.metrics, data, model=export(f"export {title}", model), file=FLOAT_FILE)


def _after_inputs(step: Step) -> Iterator[Step]:
    for source in step.inputs.values():
        yield from _after_inputs(source)
    yield step
