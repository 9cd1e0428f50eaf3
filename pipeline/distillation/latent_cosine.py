"""Latent alignment with cosine distance (Luong, Drossos, Heikkinen, Virtanen 2025, arXiv 2505.03442).

    L = 1 - mean_t cos(z_S[t], P z_T[t])

Known: cosine similarity between the latents of teacher and student, so that the student is bound neither to the
teacher's scale nor to its dimensionality. Reconstructed: P, a linear map without bias that trains with the student and
is dropped afterwards, used when the widths differ; identity when they agree.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from earshot.models.streaming import StreamingModel
from earshot.pipeline.distillation.base import DistillationMethod, View, probe
from earshot.pipeline.distillation.compare import same_frames


class LatentCosine(DistillationMethod):
    """Cosine distance between the latents of student and teacher, frame by frame (arXiv 2505.03442)."""

    def __init__(self, student: StreamingModel, teacher: StreamingModel | None) -> None:
        super().__init__(student, teacher)
        assert teacher is not None
        wide, narrow = (probe(network).latent.shape[-1] for network in (teacher, student))
        self.map: nn.Module = nn.Identity() if wide == narrow else nn.Linear(wide, narrow, bias=False)

    def forward(self, student: View, teacher: View | None, clean: Tensor) -> Tensor:
        """The loss above; the teacher is detached, P is not."""
        assert teacher is not None
        ours, theirs = same_frames(student.latent, teacher.latent.detach(), dim=1)
        return 1 - torch.nn.functional.cosine_similarity(ours, self.map(theirs), dim=-1).mean()
