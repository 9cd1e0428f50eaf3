"""The recipe: one YAML file that says what to teach, what to make of it, and what it must reach.

Every section is the typed config of the part that reads it; the recipe only composes them and decides which stages run.
Two keys belong to every stage section:

    skip: true      leave the stage out: what it would have got goes on to the next one
    enter: FILE     begin here with a file of your own as the stage's input; the stages before it do not run
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from earshot.ci.budget_set import BudgetSet
from earshot.core.config import Config, load_yaml, parse
from earshot.core.errors import ConfigError, UsageError
from earshot.models.frontend import Frontend
from earshot.pipeline.data.config import DataConfig
from earshot.pipeline.overrides import apply_overrides, expand_variables, variables
from earshot.pipeline.training.config import DistillConfig, PruneConfig, TeachingConfig, TrainConfig
from earshot.quantize.convert import ConvertConfig
from earshot.quantize.entry import EntryConfig
from earshot.quantize.plan import QuantizeConfig
from earshot.targets.base import ProfileConfig
from earshot.targets.registry import device_budgets

STAGES = ("distill", "prune", "quantize", "convert", "profile")
DATA_VARIABLE = "EARSHOT_DATA"
CHECKPOINTS = (".safetensors", ".pt", ".pth")  # a .pt may hold tensors only: pickled objects are never loaded
USUAL_RATIO = 0.25
_FOLDER = Path(__file__).parent / "recipes"

Stage = Literal["distill", "prune", "quantize", "convert", "profile"]


class StageSection(Config):
    """What every stage's section can say beside its own settings.

    Attributes:
        skip: leave the stage out.
        enter: a file that this stage starts from, in place of what the stages before would make.
        accepts: endings of files that can enter here; an ending of "" is a folder.
    """

    skip: bool = False
    enter: Path | None = None

    accepts: ClassVar[tuple[str, ...]] = ()

    @model_validator(mode="after")
    def _one_of_both(self) -> StageSection:
        if self.enter is None:
            return self
        if self.skip:
            raise ValueError("a stage is either skipped or entered, not both")
        if self.enter.suffix not in self.accepts:
            kinds = ", ".join(ending or "a folder" for ending in self.accepts) or "no file"
            raise ValueError(f"'{self.enter}' cannot enter here; this stage takes {kinds}")
        return self

    def settings(self) -> dict[str, Any]:
        """The stage's own settings as plain JSON data: what its identity is made of."""
        return self.model_dump(mode="json", exclude={"skip", "enter"})


class DistillSection(DistillConfig, StageSection):
    """`distill`; entered with the weights that training starts from."""

    accepts: ClassVar[tuple[str, ...]] = CHECKPOINTS


class PruneSection(PruneConfig, StageSection):
    """`prune`; entered with a trained checkpoint."""

    accepts: ClassVar[tuple[str, ...]] = CHECKPOINTS

    @model_validator(mode="before")
    @classmethod
    def _usual_ratio(cls, value: Any) -> Any:
        """A section that names no goal gets the usual one, so that `prune: {skip: true}` says enough."""
        if isinstance(value, dict) and not {"ratio", "until"} & set(value):
            return {**value, "ratio": USUAL_RATIO}
        return value


class QuantizeSection(QuantizeConfig, StageSection):
    """`quantize`; entered with a checkpoint, a float .tflite, or (extra `tensorflow`) a Keras file or SavedModel.

    Attributes:
        clips: how many training mixes calibrate.
        seconds: length of each.
        entry: what a .tflite, Keras or SavedModel file does not say about itself: how its states pair up.
        train: fine-tune before, with what int8 will round rounded (quantization-aware training); None for
            post-training quantization alone.
    """

    accepts: ClassVar[tuple[str, ...]] = (*CHECKPOINTS, ".tflite", ".keras", ".h5", "")

    clips: Annotated[int, Field(ge=1)] = 24
    seconds: Annotated[float, Field(gt=0)] = 3.0
    entry: EntryConfig | None = None
    train: TeachingConfig | None = None

    @model_validator(mode="after")
    def _trains_networks(self) -> QuantizeSection:
        if self.train is not None and self.enter is not None and self.enter.suffix not in CHECKPOINTS:
            raise ValueError(f"train: '{self.enter}' holds no network to train; enter a checkpoint, or leave out train")
        return self

    def settings(self) -> dict[str, Any]:
        """As for every stage; training is a step of its own, whose weights count. No wide layers, no word of them."""
        unsaid = {"train"} if self.keep_wide else {"train", "keep_wide"}
        return {key: value for key, value in super().settings().items() if key not in unsaid}


class ConvertSection(ConvertConfig, StageSection):
    """`convert`; takes only what `quantize` makes."""


class ProfileSection(ProfileConfig, StageSection):
    """`profile`; entered with a finished .tflite.

    Attributes:
        targets: names of the devices to measure on, see `earshot targets`.
    """

    accepts: ClassVar[tuple[str, ...]] = (".tflite",)

    targets: Annotated[tuple[str, ...], Field(min_length=1)] = ("host",)

    @model_validator(mode="after")
    def _targets_differ(self) -> ProfileSection:
        doubled = [name for name, count in Counter(self.targets).items() if count > 1]
        if doubled:
            raise ValueError(f"target '{doubled[0]}' is named twice")
        return self


class NetworkSection(Config):
    """A network to build.

    Attributes:
        network: a registered name (`earshot models`) or a class of yours, `package.module:Name`.
        params: its sizes, judged by the network's own `Params`.
    """

    network: str = "dae_unet"
    params: dict[str, Any] = Field(default_factory=dict)


class TeacherSection(NetworkSection):
    """A network that teaches: trained by the recipe, or given.

    Attributes:
        checkpoint: a trained checkpoint; its header names network and sizes, so `params` and `train` stay away.
        train: how to train it.
    """

    checkpoint: Path | None = None
    train: TrainConfig | None = None

    @model_validator(mode="after")
    def _trained_or_given(self) -> TeacherSection:
        if self.checkpoint is not None and (self.train is not None or self.params):
            raise ValueError("a checkpoint comes trained and sized: leave out params and train, or the checkpoint")
        if self.checkpoint is None and self.train is None:
            raise ValueError(
                "say how to get it: checkpoint: FILE, or train: {...}; without a teacher write teacher: null"
            )
        return self


class Recipe(Config):
    """A whole pipeline run.

    Attributes:
        name: what runs are called.
        seed: decides weights, batches and augmentation.
        frontend: rate, window, hop; saved with every model.
        data: training, validation and test material.
        teacher: None trains the student alone.
        student: the network that ships.
        metrics: names of the quality metrics, computed on every row.
        budgets: what the gate holds the run to.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,60}$")]
    seed: Annotated[int, Field(ge=0)] = 0
    frontend: Frontend = Frontend()
    data: DataConfig = DataConfig()
    teacher: TeacherSection | None = None
    student: NetworkSection = NetworkSection()
    distill: DistillSection = DistillSection()
    prune: PruneSection = PruneSection()
    quantize: QuantizeSection = QuantizeSection()
    convert: ConvertSection = ConvertSection.model_validate({})
    profile: ProfileSection = ProfileSection()
    metrics: Annotated[tuple[str, ...], Field(min_length=1)] = ("pesq_wb", "pesq_nb", "stoi", "estoi", "si_sdr")
    budgets: BudgetSet = BudgetSet()

    @model_validator(mode="after")
    def _one_frontend(self) -> Recipe:
        entry = self.quantize.entry
        if entry is not None and entry.frontend not in (Frontend(), self.frontend):
            raise ValueError("quantize.entry.frontend: the recipe's own frontend section says it")
        return self

    @model_validator(mode="after")
    def _stages_connect(self) -> Recipe:
        entered = [stage for stage in STAGES if self.section(stage).enter]
        if len(entered) > 1:
            raise ValueError(f"only one stage can be entered, not {' and '.join(entered)}")
        running = self.stages
        if not running:
            raise ValueError("every stage is skipped: nothing to do")
        first = running[0]
        if first != "distill" and not entered:
            raise ValueError(f"distill is skipped, so give the model to begin with: {first}: {{enter: FILE}}")
        if "convert" in running and "quantize" not in running:
            raise ValueError("convert needs what quantize makes: skip both or none (float only: convert.variants)")
        if "profile" in running and "convert" not in running and not self.profile.enter:
            raise ValueError("profile needs what convert makes: skip it too, or enter it with a .tflite")
        return self

    def section(self, stage: str) -> StageSection:
        """A stage's section."""
        found: StageSection = getattr(self, stage)
        return found

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages that run, in order."""
        begin = next((index for index, stage in enumerate(STAGES) if self.section(stage).enter), 0)
        return tuple(stage for stage in STAGES[begin:] if not self.section(stage).skip)

    @property
    def entry(self) -> EntryConfig | None:
        """What is known of a file that enters at `quantize`; None lets a file that earshot wrote describe itself."""
        entry = self.quantize.entry
        return entry.model_copy(update={"frontend": self.frontend}) if entry else None

    def own_files(self) -> dict[str, Path]:
        """Dotted path -> file, of everything of the user's own that the recipe begins with."""
        named = {f"{stage}.enter": self.section(stage).enter for stage in STAGES}
        if self.teacher:
            named["teacher.checkpoint"] = self.teacher.checkpoint
        return {key: file for key, file in named.items() if file is not None}


def builtin_recipes() -> dict[str, Path]:
    """Name -> file of the recipes that come with earshot."""
    return {path.stem: path for path in sorted(_FOLDER.glob("*.yaml"))}


def load_recipe(
    source: str,
    overrides: Sequence[str] = (),
    data: Path | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Recipe:
    """Reads a recipe file, or one that comes with earshot by its name.

    Args:
        source: a path, or a name of `builtin_recipes()`.
        overrides: `dotted.path=value` settings.
        data: stands for the variable EARSHOT_DATA.
        environment: variables for `${NAME}` in the recipe's texts.

    Raises:
        ConfigError: no such recipe, or a mistake in it; names file and dotted path.
        UsageError: `data` is given to a recipe that does not use it.
    """
    path = _locate(source)
    raw = settled(apply_overrides(load_yaml(path), overrides, Recipe), data, environment, str(path))
    recipe = parse(Recipe, _with_device_budgets(raw, str(path)), str(path))
    for key, file in recipe.own_files().items():
        if not file.exists():
            raise ConfigError(f"{path}: {key}: no such file: {file}", "relative paths start where earshot is run")
    return recipe


def settled(raw: Mapping[str, Any], data: Path | None, environment: Mapping[str, str], source: str) -> dict[str, Any]:
    """YAML data of a recipe or study with its variables replaced; `data` stands for EARSHOT_DATA.

    Raises:
        ConfigError: a variable that is not set; names where it stands.
        UsageError: `data` is given, but nothing mentions it.
    """
    if data is not None:
        if DATA_VARIABLE not in variables(raw):
            raise UsageError(
                f"{source}: --data has no effect, the file does not mention ${{{DATA_VARIABLE}}}",
                "set the paths in its data section, or run: earshot run real16k --data DIR",
            )
        environment = {**environment, DATA_VARIABLE: str(data)}
    return dict(expand_variables(raw, environment))


def _with_device_budgets(raw: dict[str, Any], source: str) -> dict[str, Any]:
    """The recipe with the budgets that its targets bring along; what has another form is left to `parse`."""
    profile, budgets = raw.get("profile") or {}, raw.get("budgets") or {}
    budgets = {"budgets": budgets} if isinstance(budgets, list) else budgets
    if not isinstance(profile, dict) or not isinstance(budgets, dict) or profile.get("skip"):
        return raw
    targets = profile.get("targets", ())
    names = [name for name in targets if isinstance(name, str)] if isinstance(targets, list) else []
    try:
        brought = [budget for name in dict.fromkeys(names) for budget in device_budgets(name)]
    except UsageError as error:
        raise ConfigError(f"{source}: profile.targets: {error.message}", error.hint) from error
    return {**raw, "budgets": {**budgets, "devices": brought}} if brought or "devices" in budgets else raw


def _locate(source: str) -> Path:
    builtin = builtin_recipes()
    if source in builtin:
        return builtin[source]
    path = Path(source)
    if path.suffix or path.exists():
        return path
    raise ConfigError(
        f"no recipe '{source}'",
        f"give the path of a YAML file, or one of: {', '.join(builtin)}; or write one: earshot init",
    )
