"""MetricGAN's generator: what is prepared for export is the network that was trained."""

from __future__ import annotations

import torch

from earshot.models.frontend import Frontend
from earshot.models.registry import build

FRONTEND = Frontend(window=64, hop=32, fft=64, features="log1p")


def test_learnt_slopes_go_into_the_weights_for_export() -> None:
    torch.manual_seed(0)
    trained = build("metricgan", FRONTEND, {"hidden": 6, "wide": 5}).eval()
    with torch.no_grad():
        trained.head.slope.uniform_(0.2, 3.0)
    exported = trained.prepare_for_export()
    frame, state = torch.randn(2, 1, 1, FRONTEND.bins), trained.initial_state(2)
    with torch.no_grad():
        wanted, _ = trained.step(frame, state)
        found, _ = exported.step(frame, state)
        assert torch.allclose(found, wanted, atol=1e-6)
        assert exported.head.slope.eq(1).all() and not trained.head.slope.eq(1).any(), "the original was changed"
        exported.head.gains.bias.zero_()  # negative control: the comparison sees the head
        assert not torch.allclose(exported.step(frame, state)[0], wanted, atol=1e-3)
