"""What changes a recipe's text before it is judged: `--set key=value` and `${VARIABLE}`."""

from __future__ import annotations

import copy
import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import yaml
from pydantic import BaseModel

from earshot.core.config import has_free_names, models_in
from earshot.core.errors import ConfigError

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")


def apply_overrides(mapping: Mapping[str, Any], overrides: Iterable[str], model: type[BaseModel]) -> dict[str, Any]:
    """A copy of `mapping` with `dotted.path=value` settings applied; values are read as YAML.

    Args:
        mapping: the recipe, as YAML gives it.
        overrides: settings; numbers in a path are positions in a list.
        model: the class the mapping will become: it knows which paths exist.

    Raises:
        ConfigError: not a setting, or an unknown path, with a did-you-mean.
    """
    changed = copy.deepcopy(dict(mapping))
    for override in overrides:
        path, equals, text = override.partition("=")
        if not equals or not path.strip():
            raise ConfigError(f"--set {override}: not a setting", "write --set key.subkey=value")
        parts = path.strip().split(".")
        _check_known(model, parts)
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigError(f"--set {override}: the value is not YAML", "quote it: --set 'key=\"text\"'") from error
        _put(changed, parts, value)
    return changed


def expand_variables(value: Any, environment: Mapping[str, str], path: str = "") -> Any:
    """A copy of YAML data with `${NAME}` and `${NAME:-default}` replaced in every text.

    Raises:
        ConfigError: a variable that is not set and has no default; names it and where it stands.
    """
    if isinstance(value, str):
        return _VARIABLE.sub(lambda match: _look_up(match, environment, path), value)
    if isinstance(value, Mapping):
        return {key: expand_variables(item, environment, f"{path}.{key}".lstrip(".")) for key, item in value.items()}
    if isinstance(value, list):
        return [expand_variables(item, environment, f"{path}.{index}") for index, item in enumerate(value)]
    return value


def variables(value: Any) -> set[str]:
    """Names of all variables that YAML data mentions."""
    if isinstance(value, str):
        return {match[1] for match in _VARIABLE.finditer(value)}
    items = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return {name for item in items for name in variables(item)}


def dotted_keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Every dotted path a model knows; `NAME` stands where a name is the user's own."""
    for name, field in model.model_fields.items():
        yield prefix + name
        own = "NAME." if has_free_names(field.annotation) else ""
        for inner in models_in(field.annotation):
            yield from dotted_keys(inner, f"{prefix}{name}.{own}")


def _look_up(match: re.Match[str], environment: Mapping[str, str], path: str) -> str:
    name, default = match[1], match[2]
    if environment.get(name):
        return environment[name]
    if default is not None:
        return default
    fix = f"--data DIR, or export {name}=DIR" if name == "EARSHOT_DATA" else f"export {name}=..."
    raise ConfigError(f"{path}: variable {name} is not set", f"set it: {fix}")


def _check_known(model: type[BaseModel], parts: list[str]) -> None:
    models: list[type[BaseModel]] = [model]
    named = False
    for part in parts:
        if named:
            named = False
            continue
        if part.isdigit():  # a list may stand for a model that holds one, as `budgets` does
            models += [
                inner for found in models for key in found.model_fields.values() for inner in models_in(key.annotation)
            ]
            continue
        annotations = [found.model_fields[part].annotation for found in models if part in found.model_fields]
        if not annotations:
            raise ConfigError(f"--set {'.'.join(parts)}: unknown key", _suggest(model, parts))
        named = any(has_free_names(annotation) for annotation in annotations)
        models = [inner for annotation in annotations for inner in models_in(annotation)]
        if not models:
            return  # a plain value, or a mapping whose keys are free; the parse that follows judges the value


def _suggest(model: type[BaseModel], parts: list[str]) -> str:
    known = sorted(set(dotted_keys(model)))
    same_section = [path for path in known if path.startswith(f"{parts[0]}.") and path.endswith(f".{parts[-1]}")]
    near = same_section or difflib.get_close_matches(".".join(parts), known, n=3)
    return f"did you mean: {' or '.join(near)}?" if near else f"known sections: {', '.join(model.model_fields)}"


def _put(mapping: dict[str, Any], parts: list[str], value: Any) -> None:
    here: Any = mapping
    for part, following in zip(parts, [*parts[1:], None], strict=True):
        key: Any = int(part) if isinstance(here, list) and part.isdigit() else part
        fits = isinstance(here, dict) or (isinstance(here, list) and isinstance(key, int) and key < len(here))
        if not fits:
            raise ConfigError(f"--set {'.'.join(parts)}: nothing can be set at '{part}'", "check it with: earshot plan")
        if following is None:
            here[key] = value
            return
        if isinstance(here, dict) and here.get(key) is None:
            here[key] = {}
        here = here[key]
