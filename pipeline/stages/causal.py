"""Networks that look at the future can teach; what ships must not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from earshot.core.errors import ModelError

if TYPE_CHECKING:
    from earshot.models.streaming import StreamingModel


def require_causal(model: StreamingModel, source: str) -> None:
    """Raises ModelError when a network cannot run on a real-time target; `source` says where it comes from."""
    if not model.causal:
        raise ModelError(
            f"{source}: network '{type(model).__name__}' is not causal: it cannot run on a real-time target",
            "let it teach, and name a causal student",
        )
