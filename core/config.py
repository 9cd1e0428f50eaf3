"""Typed, frozen configuration: YAML or JSON text becomes objects at the edge, and nowhere else."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar, Union

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from earshot.core.errors import ConfigError


class Config(BaseModel):
    """Base of every configuration object: frozen, unknown keys refused, NaN and infinity refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=False)


ConfigT = TypeVar("ConfigT", bound=Config)


class _StrictLoader(yaml.SafeLoader):
    """Refuses a key that stands twice in one mapping, as merges leave them: YAML forbids it (1.2.2, 3.2.1.3), and
    PyYAML would drop the first without a word. Refuses aliases that stand for themselves."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and (key.tag, key.value) in seen:
                raise yaml.MarkedYAMLError(problem=f"'{key.value}' stands there twice", problem_mark=key.start_mark)
            seen.add((key.tag, str(key.value)))
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Whole, whatever is asked for: PyYAML then refuses an alias inside of what it stands for."""
        return super().construct_object(node, deep=True)


def load_yaml(path: Path) -> dict[str, Any]:
    """Reads a YAML mapping. Raises ConfigError that names the file, and the line where the text is not YAML."""
    try:
        value = yaml.load(path.read_text(encoding="utf-8"), _StrictLoader)
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such file", "check the path, or write one with: earshot init") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as text ({error})") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{path}{where}: not valid YAML ({getattr(error, 'problem', error)})") from error
    except RecursionError as error:
        raise ConfigError(f"{path}: nested too deeply") from error
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: expected a mapping of keys at the top, found {type(value).__name__}")
    return value


def parse(model: type[ConfigT], value: Mapping[str, Any], source: str) -> ConfigT:
    """Turns a mapping into a config object.

    Args:
        model: the config class.
        value: the mapping, as YAML gives it.
        source: where it came from, for the message (a file name).

    Raises:
        ConfigError: one line per mistake, each with the dotted path; unknown keys with a did-you-mean.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        lines = [_explain(model, issue) for issue in error.errors()]
        raise ConfigError(f"{source}: " + "\n  ".join(lines), "correct the keys named above") from error


def _explain(model: type[BaseModel], issue: Any) -> str:
    path = [str(part) for part in issue["loc"]]
    dotted = ".".join(path) or "(top)"
    if issue["type"] != "extra_forbidden":
        message = issue["msg"].removeprefix("Value error, ")
        found = issue.get("input")
        # A whole section would bury the message that names the mistake in it.
        return f"{dotted}: {message}" if isinstance(found, dict | list) else f"{dotted}: {message} (found {found!r})"
    known = _known_keys(model, path[:-1])
    near = difflib.get_close_matches(path[-1], known, n=1)
    if near:
        return f"{dotted}: unknown key; did you mean '{near[0]}'?"
    return f"{dotted}: unknown key; known here: {', '.join(sorted(known)) or 'none'}"


def _known_keys(model: type[BaseModel], path: list[str]) -> list[str]:
    """Field names at a dotted path, followed through nested models, unions, lists and mappings."""
    models = [model]
    for part in path:
        following: list[type[BaseModel]] = []
        for current in models:
            if part in current.model_fields:
                following += models_in(current.model_fields[part].annotation)
        # A union's tag and a list's index stand in the path but name no field.
        models = following or models
    return sorted({name for current in models for name in current.model_fields})


def has_free_names(annotation: Any) -> bool:
    """Whether a field is a mapping from names of the user's own to config classes, as a study's `methods`."""
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is dict:
        return bool(models_in(annotation))
    return origin in (Annotated, Union, types.UnionType) and any(has_free_names(part) for part in parts)


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """The config classes that a field's annotation mentions, through unions, lists and mappings."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if isinstance(annotation, types.GenericAlias | types.UnionType) or typing.get_origin(annotation):
        return [found for part in typing.get_args(annotation) for found in models_in(part)]
    return []
