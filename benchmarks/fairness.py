"""How often intervals of comparisons hold the truth, and how long the turns of a race are.

    python benchmarks/fairness.py intervals [--trials 1500]
    python benchmarks/fairness.py turns MODEL.tflite...

intervals: by simulation, seeded. Of clips: differences whose true mean is zero, normal or skewed (exponential), the
interval that `earshot compare` gives and the percentile bootstrap alone. Of rounds: races of two equal models, normal
and with heavy tails (Student's t, 2 degrees of freedom), looked at as `earshot compare --remeasure` does.

turns: median of five turns of each model by itself, and of four rounds against itself.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np

from earshot.ci.statistics import LEVEL, RACE_LEVEL, Interval, bootstrap_mean, bootstrap_median, mean_interval
from earshot.pipeline.remeasure import LOOKS
from earshot.targets import agent

Draw = Callable[[np.random.Generator, int], np.ndarray]

CLIPS = (2, 3, 5, 8, 20, 60)
DIFFERENCES: dict[str, Draw] = {
    "normal": lambda chance, count: chance.standard_normal(count),
    "skewed": lambda chance, count: chance.exponential(1, count) - 1,
}
ROUNDS: dict[str, Draw] = {
    "normal": lambda chance, count: chance.standard_normal(count),
    "heavy tails": lambda chance, count: chance.standard_t(2, count),
}
FRAMES = 256


def holding(interval: Callable[[np.ndarray], Interval], draw: Draw, count: int, trials: int) -> float:
    """The share of trials in which an interval of so many values holds zero."""
    chance = np.random.default_rng(count)
    bounds = [interval(draw(chance, count)) for _ in range(trials)]
    return sum(low <= 0 <= high for low, high in bounds) / trials


def intervals(options: argparse.Namespace) -> None:
    """Shares that hold the truth."""
    print(f"{options.trials} trials each; in per cent")
    for name, draw in DIFFERENCES.items():
        for count in CLIPS:
            given, before = (holding(one, draw, count, options.trials) for one in (mean_interval, bootstrap_mean))
            print(f"{LEVEL:.0%} of {count} clips, {name}: {100 * given:.1f}; bootstrap alone: {100 * before:.1f}")
    for name, draw in ROUNDS.items():
        chance = np.random.default_rng(0)
        held = np.ones((options.trials, len(LOOKS)), bool)
        for trial in range(options.trials):
            ratios = draw(chance, LOOKS[-1])
            for place, look in enumerate(LOOKS):
                low, high = bootstrap_median(list(ratios[:look]), RACE_LEVEL)
                held[trial, place] = low <= 0 <= high
        shares = ", ".join(f"{100 * held[:, place].mean():.1f} of {look}" for place, look in enumerate(LOOKS))
        print(f"{RACE_LEVEL:.0%} of rounds, {name}: {shares}; at all looks: {100 * held.all(1).mean():.1f}")


def turns(options: argparse.Namespace) -> None:
    """Lengths of turns and rounds."""
    print(agent.processor())
    for model in options.models:
        runner = agent.Runner(str(model), 1, True)
        hops = agent.turn_length([runner], FRAMES)
        ends = [time.perf_counter()]
        for _ in range(5):
            runner.turn(0, hops, time.thread_time)
            ends.append(time.perf_counter())
        turn = float(np.median([end - begin for begin, end in pairwise(ends)]))
        whole = _round_seconds(str(model))
        print(f"{model}: {hops} hops and a block; a turn {1e3 * turn:.1f} ms, a round {whole:.2f} s")


def _round_seconds(model: str) -> float:
    ends, asked = [time.perf_counter()], iter((True,) * 4 + (False,))
    agent.race([model, model], emit=lambda event: ends.append(time.perf_counter()), asked=asked.__next__)
    return float(np.median([end - begin for begin, end in pairwise(ends)]))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    simulated, timed = commands.add_parser("intervals"), commands.add_parser("turns")
    simulated.add_argument("--trials", type=int, default=1500)
    simulated.set_defaults(run=intervals)
    timed.add_argument("models", type=Path, nargs="+")
    timed.set_defaults(run=turns)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
