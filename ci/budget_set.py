"""Several budgets together: a recipe's `budgets:` section, a budget file, and the sets that come with earshot.

    schema: earshot.budgets/1
    use: [hearing-aid]                        sets that come with earshot, see `shipped_sets()`
    without: [stoi-not-worse-than-noisy]      switched off by name
    budgets:
      - {metric: pesq_wb, min: 2.25}

    baseline: v1.2.0                          a tag, a run or a file; without it the tag `baseline`

The set `always` belongs to every gate: not worse than the noisy input. Targets bring the budgets of their device
profile along (`devices`). A budget of the same name replaces a shipped one and a device's.
"""

from __future__ import annotations

from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from earshot.ci.budget import Budget
from earshot.ci.metrics import did_you_mean
from earshot.core.config import Config, load_yaml, parse
from earshot.core.errors import ConfigError

SCHEMA = "earshot.budgets/1"
ALWAYS = "always"
_FOLDER = Path(__file__).parent / "budgets"


class BudgetSet(Config):
    """What a gate holds a run to; a plain list stands for `{budgets: [...]}`.

    Attributes:
        budgets: the recipe's or the file's own.
        use: shipped sets.
        without: names of budgets that are switched off.
        devices: what the targets of a run bring along; filled in when a recipe is read, and kept with its run.
        baseline: what budgets with `relative_to: baseline` compare with; None means the tag `baseline`.
    """

    budgets: tuple[Budget, ...] = ()
    use: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    devices: tuple[Budget, ...] = ()
    baseline: str | None = Field(default=None, min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _from_list(cls, value: Any) -> Any:
        return {"budgets": value} if isinstance(value, list | tuple) else value

    @model_validator(mode="after")
    def _consistent(self) -> BudgetSet:
        doubled = [title for title, count in Counter(budget.title for budget in self.budgets).items() if count > 1]
        if doubled:
            raise ValueError(f"two budgets are called '{doubled[0]}': name them apart")
        for name in self.use:
            if name not in shipped_sets():
                raise ValueError(f"no budget set '{name}'; {did_you_mean(name, list(shipped_sets()))}")
        titles = list(self._by_title())
        for name in self.without:
            if name not in titles:
                raise ValueError(f"without '{name}': no such budget; {did_you_mean(name, titles)}")
        _refuse_contradiction(self.resolved())
        return self

    def resolved(self) -> tuple[Budget, ...]:
        """Every budget to judge: `always`, the sets in use, the devices', its own; less those switched off."""
        return tuple(budget for title, budget in self._by_title().items() if title not in self.without)

    @property
    def against_baseline(self) -> tuple[Budget, ...]:
        """Those that compare with a baseline."""
        return tuple(budget for budget in self.resolved() if budget.against_baseline)

    def without_baseline(self) -> BudgetSet:
        """The set with those that compare with a baseline switched off."""
        off = tuple(budget.title for budget in self.against_baseline)
        return self.model_copy(update={"without": (*self.without, *off)})

    def _by_title(self) -> dict[str, Budget]:
        sets = [shipped(ALWAYS), *(shipped(name) for name in self.use), self.devices, self.budgets]
        return {budget.title: budget for budgets in sets for budget in budgets}


def load_budgets(source: str | Path) -> BudgetSet:
    """Reads a budget file, or a set that comes with earshot by its name.

    Raises:
        ConfigError: no such file or set, another schema, or a wrong budget (named by its dotted path).
    """
    if str(source) in shipped_sets():
        return BudgetSet(use=(str(source),))
    path = Path(source)
    if not path.suffix and not path.exists():
        raise ConfigError(
            f"no budget file or set '{source}'; {did_you_mean(str(source), list(shipped_sets()))}",
            "give the path of a budget file, or one of those names",
        )
    return parse(BudgetSet, _content(path), str(path))


def shipped_sets() -> tuple[str, ...]:
    """Names of the budget sets that come with earshot and can be put into `use`."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.yaml") if path.stem != ALWAYS))


@cache
def shipped(name: str) -> tuple[Budget, ...]:
    """The budgets of a set that comes with earshot."""
    path = _FOLDER / f"{name}.yaml"
    return tuple(parse(Budget, value, f"{path}: {value.get('name')}") for value in _content(path)["budgets"])


def _content(path: Path) -> dict[str, Any]:
    value = load_yaml(path)
    schema = value.pop("schema", None)
    if schema != SCHEMA:
        raise ConfigError(
            f"{path}: schema is {schema!r}, expected '{SCHEMA}'", f"begin the file with: schema: {SCHEMA}"
        )
    return value


def _refuse_contradiction(budgets: tuple[Budget, ...]) -> None:
    """Raises ValueError when two budgets on the same number leave no value that passes both."""
    for low in budgets:
        for high in budgets:
            same = (low.metric, low.row, low.target) == (high.metric, high.row, high.target)
            if same and low.min is not None and high.max is not None and low.min > high.max:
                raise ValueError(f"contradictory: '{low.title}' and '{high.title}' cannot both pass")
