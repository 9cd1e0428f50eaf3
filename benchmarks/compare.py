"""Whether comparisons raise false alarms, and whether they see what got worse: the code behind `earshot compare`.

    python benchmarks/compare.py latency MODEL.tflite [--comparisons 50] [--core C] [--idle]
    python benchmarks/compare.py quality MODEL.tflite --data DIR

latency: both cores loaded, the model is compared with a copy of itself, and with one that is about 10 % slower because
some of its operators run twice (benchmarks/spoil.py). How much slower is measured first, before the load. Budget:
`{metric: frame_p50_us, relative_to: baseline, max_loss_percent: 5}`. Wanted: no failure for the copy, the slower one
caught in at least 95 of 100.

quality: the int8 model on the test pairs of DIR, and the same with so much noise on its weights that PESQ falls by
about 0.05. Budget: `{metric: pesq_wb, relative_to: baseline, max_loss: 0.02}`. Wanted: caught, and the model against
itself passes.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from spoil import heavy_operators, write_slower, write_worse  # type: ignore[import-not-found]  # beside this file

from earshot.ci.budget import Budget
from earshot.ci.difference import Difference, Pair, Race, race_difference
from earshot.ci.evidence import Evidence, Scores
from earshot.ci.gate import judge
from earshot.ci.run_file import Row
from earshot.core.config import parse
from earshot.core.measurement import Measurement
from earshot.pipeline.data.config import DataConfig
from earshot.pipeline.data.open import open_data
from earshot.pipeline.enhancers import TfliteEnhancer
from earshot.pipeline.evaluation import evaluate
from earshot.pipeline.progress import Silent
from earshot.pipeline.remeasure import LOOKS, Model, decided_by, remeasure
from earshot.targets.agent import processor
from earshot.targets.base import ProfileConfig

ROW = "convert:int8"
SLOWER_BY = 0.10
TRIES = 6
LOSS = 0.05
NEAR = 0.005
MOST_NOISE = 0.4
TIMES = Budget(metric="frame_p50_us", relative_to="baseline", max_loss_percent=5, target="host")
QUALITY = Budget(metric="pesq_wb", relative_to="baseline", max_loss=0.02)


@contextmanager
def loaded(cores: Sequence[int]) -> Iterator[None]:
    """Keeps each core busy with a process that computes without end."""
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_burn, args=(core,), daemon=True) for core in cores]
    for worker in workers:
        worker.start()
    try:
        time.sleep(2)
        yield
    finally:
        for worker in workers:
            worker.kill()
            worker.join()


def _burn(core: int) -> None:
    os.sched_setaffinity(0, {core})
    block = np.ones((256, 256), np.float32)
    while True:
        block = np.tanh(block @ block / 256)


def timed(name: str) -> Evidence:
    """A run of which only is known that it was timed on this machine."""
    found = Measurement("frame_p50_us", 1.0, "us", 2500, target="host")
    return Evidence(name=name, run=name, rows=(Row(row=ROW, measurements=(found,)),))


PAIR = Pair(timed("base"), timed("candidate"))


def compare_times(base: Path, candidate: Path, config: ProfileConfig) -> tuple[str, Difference | None, int]:
    """(verdict, difference, rounds) of one comparison, as `earshot compare --remeasure` makes it."""
    decided = decided_by(PAIR, [TIMES])
    race = remeasure("host", Model(ROW, base), Model(ROW, candidate), config, decided, Silent())
    pair = Pair(PAIR.base, PAIR.candidate, (race,))
    (verdict,) = judge([TIMES], pair.candidate.rows, None, pair)
    return str(verdict.status), _difference(race), len(race.rounds)


def slowdown(base: Path, candidate: Path, config: ProfileConfig, rounds: int) -> Difference:
    """How much slower a model is, from so many rounds."""
    race = remeasure("host", Model(ROW, base), Model(ROW, candidate), config, lambda race: True, Silent(), (rounds,))
    found = _difference(race)
    assert found is not None
    return found


def _difference(race: Race) -> Difference | None:
    return race_difference(Difference("frame_p50_us", "us", ROW, ROW, "host"), race)


def share(found: Difference) -> float:
    """The loss as a share of the base."""
    return (found.loss or 0.0) / (found.base or 1.0)


def find_slower(model: Path, out: Path, config: ProfileConfig) -> list[int]:
    """Writes a model that is about `SLOWER_BY` slower, and returns which operators it runs twice."""
    alone = {}
    for index in heavy_operators(model):
        write_slower(model, out, [index])
        alone[index] = share(slowdown(model, out, config, LOOKS[0]))
    combinations = [[one] for one in alone] + [[one, other] for one in alone for other in alone if one < other]
    combinations.sort(key=lambda chosen: abs(sum(alone[index] for index in chosen) - SLOWER_BY))
    measured = {}
    for chosen in map(tuple, combinations[:TRIES]):
        write_slower(model, out, chosen)
        measured[chosen] = share(slowdown(model, out, config, LOOKS[1]))
    best = min(measured, key=lambda chosen: abs(measured[chosen] - SLOWER_BY))
    write_slower(model, out, best)
    return list(best)


def latency(options: argparse.Namespace) -> None:
    """False alarms and catches."""
    cores = sorted(os.sched_getaffinity(0))
    config = ProfileConfig(core=options.core)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        copy, slow = Path(folder) / "copy.tflite", Path(folder) / "slow.tflite"
        shutil.copy(options.model, copy)
        doubled = find_slower(options.model, slow, config)
        truth = slowdown(options.model, slow, config, LOOKS[-1])
        low, high = (bound / (truth.base or 1.0) for bound in truth.bounds)
        print(f"{processor()}, load {os.getloadavg()[0]:.1f}, {options.comparisons} comparisons each")
        print(f"slower: operators {doubled} twice, {share(truth):+.1%} (99 % between {low:+.1%} and {high:+.1%})")
        with loaded([] if options.idle else cores):
            for name, candidate in (("identical", copy), ("slower", slow)):
                verdicts: Counter[str] = Counter()
                shares, rounds = [], 0
                for _ in range(options.comparisons):
                    verdict, found, count = compare_times(options.model, candidate, config)
                    verdicts[verdict] += 1
                    shares += [share(found)] if found else []
                    rounds += count
                spread = f"measured {min(shares):+.1%} to {max(shares):+.1%}, {rounds / options.comparisons:.0f} rounds"
                counted = ", ".join(f"{verdicts[status]} {status}" for status in ("pass", "undecided", "fail"))
                print(f"{name}: {counted}; {spread}, load {os.getloadavg()[0]:.1f}", flush=True)
    print(f"{time.monotonic() - begun:.0f} s")


def scored(name: str, model: Path, data: Path) -> Evidence:
    """The PESQ of every clip."""
    opened = open_data(parse(DataConfig, {"test": {"kind": "pairs", "path": str(data)}}, str(data)), 16000)
    found = evaluate(TfliteEnhancer(model), list(opened.test), ["pesq_wb"], 16000, dataset=opened.digest("test"))
    scores = Scores(
        dataset=found.dataset,
        protocol=dict(found.protocol),
        clips=tuple(clip.id for clip in found.clips),
        groups=tuple(clip.group for clip in found.clips),
        values={"pesq_wb": tuple(clip.values.get("pesq_wb") for clip in found.clips)},
    )
    return Evidence(
        name=name, run=name, rows=(Row(row=ROW, measurements=tuple(found.measurements())),), scores={ROW: scores}
    )


def quality(options: argparse.Namespace) -> None:
    """A loss that is there, and one that is not."""
    base, low, high = scored("itself", options.model, options.data), 0.0, MOST_NOISE
    with tempfile.TemporaryDirectory() as folder:
        worse = Path(folder) / "worse.tflite"
        for _ in range(TRIES):
            middle = (low + high) / 2
            write_worse(options.model, worse, middle)
            pair = Pair(base, scored(f"weights off by {middle:.3f} of their spread", worse, options.data))
            (found,) = (one for one in pair.differences(ROW) if one.metric == "pesq_wb")
            if abs((found.loss or 0.0) - LOSS) <= NEAR:
                break
            low, high = (middle, high) if (found.loss or 0.0) < LOSS else (low, middle)
    for other in (Pair(base, base), pair):
        (verdict,) = judge([QUALITY], other.candidate.rows, None, other)
        print(f"{other.candidate.name}: {verdict.status}: {verdict.reason}")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for run in (latency, quality):
        command = commands.add_parser(run.__name__)
        command.add_argument("model", type=Path)
        command.set_defaults(run=run)
        if run is latency:
            command.add_argument("--comparisons", type=int, default=50)
            command.add_argument("--core", type=int, help="default: the last that this process may use")
            command.add_argument("--idle", action="store_true", help="without load")
        else:
            command.add_argument("--data", type=Path, required=True, help="folder of noisy and clean test pairs")
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
