"""What the kernels for a core save on a whole network: a student of the quickstart's shape, mostly convolutions."""

from __future__ import annotations

import pytest

from earshot.pipeline.progress import Silent
from earshot.targets.base import ProfileConfig, load_profile
from earshot.targets.mcu.target import CortexMTarget

from .conftest import needs_emulator

pytestmark = [needs_emulator, pytest.mark.slow]
CONVOLUTIONS = {"CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV"}


def profiled(core, path, *, fast):
    profile = load_profile(core)
    target = CortexMTarget.open(core, profile.model_copy(update={"options": {**profile.options, "fast": fast}}))
    (result,) = target.profile({"int8": path}, ProfileConfig(frames=3), Silent())
    return result


def value(result, metric):
    (found,) = (item.value for item in result.measurements if item.metric == metric)
    return found


@pytest.mark.parametrize(("core", "gain"), [("cortex-m4", 2), ("cortex-m55", 4)])
def test_kernels_for_the_core_take_a_fraction_of_plain_c(core, gain, students):
    plain, again = (profiled(core, students["int8"], fast=False) for _ in range(2))
    fast = profiled(core, students["int8"], fast=True)
    slow_count, again_count, fast_count = (value(one, "graph_instructions_per_frame") for one in (plain, again, fast))
    assert slow_count / fast_count >= gain
    # The same network, and one that convolves for most of its time.
    assert plain.raw["macs"] == fast.raw["macs"] > 200_000
    convolved = sum(operator.value for operator in plain.operators if operator.name in CONVOLUTIONS)
    assert convolved > 0.6 * slow_count
    # Against itself nothing is gained: counts do not waver.
    assert plain == again
    assert slow_count / again_count == 1
    if core == "cortex-m4":
        assert value(plain, "instructions_per_mac") <= 12
