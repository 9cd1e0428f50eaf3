"""Weights on disk: safetensors with the network's name, sizes and frontend in the header. Pickles never execute."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from earshot.core.config import parse
from earshot.core.errors import ModelError
from earshot.core.files import disk_error
from earshot.models.frontend import Frontend

if TYPE_CHECKING:
    from torch import Tensor

    from earshot.models.streaming import StreamingModel

SCHEMA = "earshot.checkpoint/1"
_HEADER_LIMIT = 16 << 20


@dataclass(frozen=True)
class Description:
    """What a checkpoint's header says about its network."""

    network: str
    params: dict[str, Any]
    frontend: Frontend


def save(model: StreamingModel, name: str, path: Path) -> None:
    """Writes a checkpoint; `name` is the registry name (or `package.module:Name`) of the network's class."""
    from safetensors.torch import save as serialise

    from earshot.core.files import write_atomic

    description = {
        "schema": SCHEMA,
        "network": name,
        "params": model.params.model_dump(mode="json"),
        "frontend": model.frontend.model_dump(mode="json"),
    }
    tensors = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    try:
        write_atomic(path, serialise(tensors, {"earshot": json.dumps(description, sort_keys=True)}))
    except OSError as error:
        raise disk_error(path, error) from error


def describe(path: Path) -> Description | None:
    """What the header says, without torch; None for safetensors that earshot did not write.

    Raises:
        ModelError: missing, truncated, or not safetensors (a pickle is refused unread).
    """
    metadata = _header(path).get("__metadata__", {}).get("earshot")
    if metadata is None:
        return None
    try:
        data = json.loads(metadata)
        if data["schema"] != SCHEMA:
            raise ModelError(f"{path}: checkpoint of schema {data['schema']!r}, expected {SCHEMA!r}")
        if not isinstance(data["network"], str):
            raise TypeError("network is not a name")
        return Description(data["network"], dict(data["params"]), parse(Frontend, data["frontend"], str(path)))
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{path}: the checkpoint's description is damaged ({error})") from error


def load(
    path: Path,
    *,
    network: str | None = None,
    params: Mapping[str, Any] | None = None,
    frontend: Frontend | None = None,
) -> StreamingModel:
    """Rebuilds the network of a checkpoint, in eval mode.

    Args:
        path: a checkpoint of earshot's, or a plain file of weights (`.safetensors`, or `.pt` holding tensors only) when
            network, params and frontend are given.
        network: for weights without a description: the network they belong to.
        params: its sizes.
        frontend: its frontend.

    Raises:
        ModelError: names the file, and what does not fit.
    """
    from earshot.models.registry import build

    plain = path.suffix in (".pt", ".pth")
    description = None if plain else describe(path)
    if description is None:
        if network is None or frontend is None:
            raise ModelError(
                f"{path}: these weights do not say which network they belong to",
                "give network, params and frontend in the recipe",
            )
        description = Description(network, dict(params or {}), frontend)
    model = build(description.network, description.frontend, description.params, str(path))
    weights = _pickled_tensors(path) if plain else _tensors(path)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        detail = str(error).splitlines()
        first = detail[1].strip() if len(detail) > 1 else detail[0]
        raise ModelError(
            f"{path}: the weights do not fit network '{description.network}': {first}",
            "check network and params against the training that made the file",
        ) from error
    broken = [key for key, value in weights.items() if value.is_floating_point() and not value.isfinite().all()]
    if broken:
        raise ModelError(f"{path}: weights hold NaN or infinity ({broken[0]})", "the training diverged; train again")
    return model.eval()


def _header(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            text = file.read(min(size, _HEADER_LIMIT))
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})", "check the path") from error
    if zipfile.is_zipfile(path) or text[:1] != b"{":
        raise ModelError(
            f"{path}: not a safetensors file (a pickled checkpoint is never executed)",
            "convert it with safetensors.torch.save_file(model.state_dict(), ...)",
        )
    try:
        header = json.loads(text)
    except ValueError as error:
        raise ModelError(f"{path}: truncated or damaged safetensors file", "copy it again") from error
    if not isinstance(header, dict) or not isinstance(header.get("__metadata__", {}), dict):
        raise ModelError(f"{path}: damaged safetensors header", "copy it again")
    return header


def _tensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path}: truncated or damaged safetensors file ({error})", "copy it again") from error


def _pickled_tensors(path: Path) -> dict[str, Tensor]:
    import pickle

    import torch

    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})", "check the path") from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise ModelError(
            f"{path}: holds more than tensors, or is damaged; it was not executed",
            "save it with safetensors.torch.save_file(model.state_dict(), ...)",
        ) from error
    if not isinstance(weights, dict) or not all(
        isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in weights.items()
    ):
        raise ModelError(f"{path}: expected a state_dict of tensors", "save model.state_dict() alone")
    return weights
