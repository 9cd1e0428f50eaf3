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
    "output_waveform": "earshot.pipeline.distillation.output:WaveformMatching",
    "output_mask": "earshot.pipeline.distillation.output:MaskMatching",
    "latent_cosine": "earshot.pipeline.distillation.latent_cosine:LatentCosine",
    "similarity": "earshot.pipeline.distillation.similarity:SimilarityPreserving",
    "similarity_frames": "earshot.pipeline.distillation.similarity:FrameSimilarity",
    "similarity_bands": "earshot.pipeline.distillation.similarity:BandSimilarity",
    "fused": "earshot.pipeline.distillation.fused:FusedLayers",
    "fused_similarity": "earshot.pipeline.distillation.fused:FusedSimilarity",
    "cnnc": "earshot.pipeline.distillation.cnnc:FeatureSimilarity",
    "attention_transfer": "earshot.pipeline.distillation.attention_transfer:AttentionTransfer",
    "dfkd": "earshot.pipeline.distillation.dfkd:FrequencyAdaptive",
}


def method(name: str) -> type[DistillationMethod]:
    """The method class of that name. Raises UsageError."""
    from earshot.pipeline.distillation.base import DistillationMethod

    found = lookup(name, METHODS, "distillation method")
    if not (isinstance(found, type) and issubclass(found, DistillationMethod)):
        raise UsageError(f"'{name}' is not a DistillationMethod", "derive it from earshot.pipeline.distillation.base")
    return found
