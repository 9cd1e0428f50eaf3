"""Stream models on Cortex-M cores, with the core's own kernels and in plain C: python benchmarks/mcu.py MODEL.tflite...

Prints for each model, core and kind of kernel, counted on the emulated core (frame: sound in to sound out):

    frame       instructions of the frame that took most
    graph       of these, inside the network
    per MAC     instructions of the network for each multiplication of a weight
    x           how many times fewer instructions the network takes than in plain C
    MHz         clock at which a hop is processed in its own time, estimated by the profile's CPI
    flash, RAM  bytes of the linked program, the emulator's harness excepted; RAM with the stack
    arena       bytes, and by how much they exceed the largest set of tensors that live at once
    stack       bytes

Targets: plain C at most 12 instructions per MAC; fast kernels half of plain C's instructions on M4, a quarter on M55;
arena at most 10 % above its bound. Counts are the same in every run.
"""

from __future__ import annotations

import sys
from pathlib import Path

from earshot.pipeline.progress import Silent
from earshot.targets.base import ProfileConfig, ProfileResult, load_profile
from earshot.targets.mcu.target import CortexMTarget
from earshot.targets.mcu.toolchain import COMPILER, EMULATOR, version

CORES = ("cortex-m4", "cortex-m33", "cortex-m55")
COLUMNS = ("frame", "graph", "per MAC", "x", "MHz", "flash", "RAM", "arena", "", "stack")


def profile(core: str, fast: bool, models: dict[str, Path]) -> list[ProfileResult]:
    """Every model on one core."""
    device = load_profile(core)
    target = CortexMTarget.open(core, device.model_copy(update={"options": {**device.options, "fast": fast}}))
    return target.profile(models, ProfileConfig(frames=100), Silent())


def row(result: ProfileResult, plain: ProfileResult) -> list[str]:
    """The figures of one line."""
    found = {item.metric: item.value or 0.0 for item in result.measurements}
    before = {item.metric: item.value or 0.0 for item in plain.measurements}
    bound = result.raw["arena_lower_bound"]
    graph = found["graph_instructions_per_frame"]
    return [
        f"{found['instructions_per_frame']:,.0f}",
        f"{graph:,.0f}",
        f"{found['instructions_per_mac']:.2f}",
        f"{before['graph_instructions_per_frame'] / graph:.2f}",
        f"{found['realtime_clock_mhz']:.1f}",
        *(f"{found[f'{name}_bytes']:,.0f}" for name in ("flash", "ram", "arena")),
        f"{100 * (found['arena_bytes'] / bound - 1):+.0f} %",
        f"{found['stack_bytes']:,.0f}",
    ]


def main() -> None:
    """Prints one line a model, core and kind of kernel, then the operators of the first model on the first core."""
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    models = {path.name: path for path in map(Path, sys.argv[1:])}
    print(f"{version(COMPILER)}; {version(EMULATOR)}")
    print(f"{'':22}{'core':12}{'kernels':8}" + "".join(f"{name:>11}" for name in COLUMNS))
    first: ProfileResult | None = None
    for core in CORES:
        plain, fast = profile(core, False, models), profile(core, True, models)
        first = first or fast[0]
        for kind, results in (("plain", plain), ("fast", fast)):
            for result, reference in zip(results, plain, strict=True):
                figures = "".join(f"{text:>11}" for text in row(result, reference))
                print(f"{result.variant:22}{core:12}{kind:8}{figures}", flush=True)
    assert first is not None
    print(f"\n{first.variant} on {CORES[0]}, operator by operator")
    for operator in first.operators:
        print(f"{operator.index:4}  {operator.name:20}{operator.value:11,.0f}  {operator.location}")


if __name__ == "__main__":
    main()
