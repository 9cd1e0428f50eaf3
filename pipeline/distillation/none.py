"""Training without a teacher: the comparison every method is judged against."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from earshot.pipeline.distillation.base import DistillationMethod, View


class NoDistillation(DistillationMethod):
    """No teacher: the task loss alone."""

    needs_teacher: ClassVar[bool] = False

    def forward(self, student: View, teacher: View | None, clean: Tensor) -> Tensor:
        """Zero."""
        return student.output.new_zeros(())
