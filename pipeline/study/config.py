"""The study file: what is combined with what, on which data, scored by which metrics."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from earshot.core.config import Config, load_yaml, parse
from earshot.core.errors import ConfigError
from earshot.models.frontend import Frontend
from earshot.pipeline.data.config import DataConfig
from earshot.pipeline.overrides import apply_overrides
from earshot.pipeline.recipe import NetworkSection, TeacherSection, settled
from earshot.pipeline.training.config import OnlineConfig, TrainConfig, Weight, check_online

ALONE = "none"
_FOLDER = Path(__file__).parent.parent / "studies"

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,60}$")]
Seed = Annotated[int, Field(ge=0)]


class StudyTeacher(TeacherSection):
    """A teacher, trained once for all cells or given.

    Attributes:
        seed: of its training.
    """

    seed: Seed = 0


class StudyMethod(Config):
    """A distillation method with its options, or online students, as in a recipe's `distill` section.

    Attributes:
        method: name of a distillation method, or `package.module:Name`.
        weight, two_step, only_where_better: see `TeachingConfig`.
        online: as many students as metrics, which have no teacher but each other; in place of all the others.
    """

    method: str = ALONE
    weight: Weight = 0.5
    two_step: Annotated[float, Field(gt=0, lt=1)] | None = None
    only_where_better: bool = False
    online: OnlineConfig | None = None

    @model_validator(mode="after")
    def _teaches(self) -> StudyMethod:
        if self.online is None and self.method == ALONE:
            raise ValueError(
                "every student is trained without a teacher anyhow: name a method or online, or leave this one out"
            )
        others = {name: field for name, field in type(self).model_fields.items() if name != "online"}
        if self.online is not None and any(getattr(self, name) != field.default for name, field in others.items()):
            raise ValueError("online students teach each other: leave out method and its options, or online")
        return self


class Study(Config):
    """Every teacher x student x method x seed, every student x seed without a teacher, and online students.

    Attributes:
        name: of the folder of results.
        frontend, data: the same for all.
        teachers, students, methods: name -> what it is; names appear in the result. Online students need no teachers.
        seeds: of the students' weights, batches and augmentation.
        train: how students are trained.
        metrics: names of the quality metrics.
        groups: parts of the test set that are told beside the whole.
    """

    name: Name
    frontend: Frontend = Frontend()
    data: DataConfig = DataConfig()
    teachers: dict[Name, StudyTeacher] = Field(default_factory=dict)
    students: Annotated[dict[Name, NetworkSection], Field(min_length=1)]
    methods: Annotated[dict[Name, StudyMethod], Field(min_length=1)]
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (0, 1, 2)
    train: TrainConfig = TrainConfig()
    metrics: Annotated[tuple[str, ...], Field(min_length=1)] = ("pesq_wb", "stoi", "si_sdr")
    groups: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _can_be_taught(self) -> Study:
        online = {name: method.online for name, method in self.methods.items() if method.online is not None}
        for students in online.values():
            check_online(students, self.train)
        if not self.teachers and (taught := next((name for name in self.methods if name not in online), None)):
            raise ValueError(f"teachers: method '{taught}' needs one")
        return self

    @model_validator(mode="after")
    def _named_once(self) -> Study:
        for key in ("seeds", "metrics", "groups"):
            values = getattr(self, key)
            if len(set(values)) < len(values):
                raise ValueError(f"{key}: each is named once")
        if ALONE in self.methods or ALONE in self.teachers:
            raise ValueError(f"'{ALONE}' names training without a teacher: call methods and teachers otherwise")
        return self


def builtin_studies() -> dict[str, Path]:
    """Name -> file of the studies that come with earshot."""
    return {path.stem: path for path in sorted(_FOLDER.glob("*.yaml"))}


def load_study(source: str, overrides: Sequence[str] = (), data: Path | None = None) -> Study:
    """Reads a study file, or one that comes with earshot by its name; `${NAME}` stands for environment variables.

    Args:
        source: a path, or a name of `builtin_studies()`.
        overrides: `dotted.path=value` settings.
        data: stands for the variable EARSHOT_DATA.

    Raises:
        ConfigError: no such file, or a mistake in it; names file and dotted path.
        UsageError: `data` is given to a study that does not use it.
    """
    builtin = builtin_studies()
    path = builtin.get(source, Path(source))
    raw = apply_overrides(load_yaml(path), overrides, Study)
    study = parse(Study, settled(raw, data, os.environ, str(path)), str(path))
    for name, teacher in study.teachers.items():
        if teacher.checkpoint is not None and not teacher.checkpoint.exists():
            raise ConfigError(
                f"{path}: teachers.{name}.checkpoint: no such file: {teacher.checkpoint}",
                "relative paths start where earshot is run",
            )
    return study
