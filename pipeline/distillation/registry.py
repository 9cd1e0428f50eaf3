"""Distillation methods by name; a user's own by `package.module:Name`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from earshot.core.errors import UsageError
from earshot.models.registry import lookup

if TYPE_CHECKING:
    from earshot.pipeline.distillation.base import DistillationMethod

METHODS = {
    "none": "earshot.pipeline.distillation.none:NoDistillation",
    "output": "earshot.pipeline.distillation.output:OutputMatching",
    "latent_cosine": "earshot.pipeline.distillation.latent_cosine:LatentCosine",
}


def method(name: str) -> type[DistillationMethod]:
    """The method class of that name. Raises UsageError."""
    from earshot.pipeline.distillation.base import DistillationMethod

    found = lookup(name, METHODS, "distillation method")
    if not (isinstance(found, type) and issubclass(found, DistillationMethod)):
        raise UsageError(f"'{name}' is not a DistillationMethod", "derive it from earshot.pipeline.distillation.base")
    return found
