"""TensorFlow Lite's `benchmark_model`: the command line it takes, and what it prints, read without guessing.

Sources: tensorflow/lite/tools/benchmark (benchmark_model.cc, benchmark_tflite_model.cc), tensorflow/lite/profiling
(profile_summary_formatter.cc) and the statistics line of stats_calculator.h, whose percentiles came with 2.14.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from earshot.targets.base import OperatorCost

Accelerator = Literal["xnnpack", "gpu", "nnapi", "none"]
NAMES: dict[str, str] = {"xnnpack": "XNNPACK", "gpu": "GPU", "nnapi": "NNAPI"}
MAX_SECONDS = 3600  # the tool's own 150 s would cut a run short without a word; our time limit ends it instead

TIMINGS = re.compile(
    r"Inference timings in us: Init: (?P<init>[\d.e+]+), First inference: (?P<first>[\d.e+]+), "
    r"Warmup \(avg\): (?P<warmup>[\d.e+]+), Inference \(avg\): (?P<average>[\d.e+]+)"
)
STATISTICS = re.compile(r"\bcount=(\d+)((?: \w+=[\d.e+-]+)*)")
MEMORY = re.compile(r"Memory footprint delta from the start of the tool \(MB\): init=([\d.e+-]+) overall=([\d.e+-]+)")
REPLACED = re.compile(r"Replacing (\d+) out of (\d+) node\(s\) with delegate \((\w+)\)")
OPERATOR_MISSING = ("Didn't find op for builtin opcode", "Encountered unresolved custom op")
REFUSED = (
    "failed to prepare",
    "Failed to allocate tensors",
    "Failed to load model",
    "Failed to initialize the interpreter",
)
RUN_TABLE = "Operator-wise Profiling Info for Regular Benchmark Runs"
DELEGATE_TABLE = "Delegate internal"


class UnreadableError(Exception):
    """The text is not what benchmark_model prints at the end of a run."""


@dataclass(frozen=True)
class Timing:
    """One run: microseconds of one invoke.

    Attributes:
        count: timed invokes.
        average, deviation, lowest, highest: over them.
        median, p95: None where the tool is too old to print percentiles.
        init: from start to a prepared interpreter.
        memory_bytes: growth of the process from its start, None where the system does not tell.
    """

    count: int
    average: float
    deviation: float
    lowest: float
    highest: float
    median: float | None
    p95: float | None
    init: float
    memory_bytes: int | None


@dataclass(frozen=True)
class Delegation:
    """How much of the graph an accelerator took.

    Attributes:
        operators: operators of the graph, 0 where the tool did not say.
        coverage: share the accelerator runs; None where the tool did not say how much.
    """

    operators: int
    coverage: float | None


def arguments(
    accelerator: Accelerator, threads: int, runs: int, warmup: int, nnapi_accelerator: str | None = None
) -> list[str]:
    """Flags of one timed run; the graph is added by whoever knows where it lies."""
    flags = [
        f"--num_threads={threads}",
        f"--num_runs={runs}",
        f"--warmup_runs={warmup}",
        "--min_secs=0",
        "--warmup_min_secs=0",
        f"--max_secs={MAX_SECONDS}",
        f"--use_xnnpack={_flag(accelerator == 'xnnpack')}",
    ]
    if accelerator == "gpu":
        flags.append("--use_gpu=true")
    if accelerator == "nnapi":
        # Without the second flag NNAPI runs what its drivers refuse on its own slow reference kernels.
        flags += ["--use_nnapi=true", "--disable_nnapi_cpu=true"]
        if nnapi_accelerator:
            flags.append(f"--nnapi_accelerator_name={nnapi_accelerator}")
    return flags


def profiling_arguments(file: str) -> list[str]:
    """Flags that make the tool write the cost of every operator to a CSV file.

    Newer tools name the file by the second pair of flags, older ones by the first; a flag that a tool does not know
    is ignored with a warning.
    """
    return [
        "--enable_op_profiling=true",
        f"--profiling_output_csv_file={file}",
        "--op_profiling_output_mode=csv",
        f"--op_profiling_output_file={file}",
    ]


def read_timing(log: str) -> Timing:
    """The figures of a run. Raises UnreadableError."""
    timings, statistics = TIMINGS.search(log), STATISTICS.findall(log)
    if not timings or not statistics:
        raise UnreadableError("no line 'Inference timings in us'")
    count, rest = statistics[-1]  # the first such line is the warm-up's
    values = {key: float(value) for key, value in (pair.split("=") for pair in rest.split())}
    memory = MEMORY.search(log)
    average = float(timings["average"])
    # One invoke, or invokes that all took equally long, are printed as `curr` alone.
    same = values.get("curr", average)
    return Timing(
        count=int(count),
        average=average,
        deviation=values.get("std", 0.0),
        lowest=values.get("min", same),
        highest=values.get("max", same),
        median=values.get("median", same if "avg" not in values else None),
        p95=values.get("p95", same if "avg" not in values else None),
        init=float(timings["init"]),
        memory_bytes=round(float(memory[2]) * 2**20) if memory else None,
    )


def read_delegation(log: str, accelerator: Accelerator) -> Delegation:
    """What the tool says about the accelerator it was asked for; what it says it did not do counts most.

    NNAPI can report that all nodes were replaced and then that none is executed by it.
    """
    rows = [(int(took), int(of), name.lower()) for took, of, name in REPLACED.findall(log)]
    operators = max((of for _, of, _ in rows), default=0)
    if accelerator == "none":
        return Delegation(operators, 0.0)
    name = NAMES[accelerator]
    if f"Though {name} delegate is explicitly applied, the model graph will not be executed" in log:
        return Delegation(operators, 0.0)
    taken = sum(took for took, _, delegate in rows if accelerator in delegate)
    if taken:
        return Delegation(operators, taken / operators)
    if f"Explicitly applied {name} delegate, and the model graph will be completely executed" in log:
        return Delegation(operators, 1.0)
    return Delegation(operators, None)


def read_operators(csv: str, accelerator: Accelerator) -> list[OperatorCost]:
    """The CSV of a profiling run: one cost an operator, microseconds, in the order they run.

    Where the accelerator says what it does inside, its operators stand in the place of the one node that stands for
    it. Raises UnreadableError.
    """
    outer, inner = list(_rows(csv, RUN_TABLE)), list(_rows(csv, DELEGATE_TABLE))
    if not outer:
        raise UnreadableError("no table 'Run Order' of the benchmark runs")
    rows = [row for row in outer if not (inner and _is_delegate(row[0]))]
    placed = [(*row, accelerator if _is_delegate(row[0]) else "cpu") for row in rows]
    placed += [(*row, accelerator) for row in inner]
    return [
        OperatorCost(index, kind, location, round(milliseconds * 1e3, 3), "us", placement)
        for index, (kind, location, milliseconds, placement) in enumerate(placed)
    ]


def missing_operator(log: str) -> str | None:
    """The line with which the runtime said that it lacks an operator of the model, None where it did not.

    A newer runtime may have it, so that is the tool's fault, although it refuses the model in the lines that follow.
    """
    return _line_with(OPERATOR_MISSING, log)


def refusal(log: str) -> str | None:
    """The line with which the runtime refused the model, None where it did not."""
    return _line_with(REFUSED, log)


def complaint(log: str) -> str:
    """The first error the tool printed, or else its last words."""
    lines = [line for line in log.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("ERROR", "FATAL"))]
    return _bare((errors or lines[-1:] or ["it said nothing"])[0])


def _line_with(words: Sequence[str], log: str) -> str | None:
    """The first line that holds any of the words."""
    return next((_bare(line) for line in log.splitlines() if any(word in line for word in words)), None)


def _rows(csv: str, section: str) -> Iterator[tuple[str, str, float]]:
    """Type, name and average milliseconds of every row of a section's `Run Order` table.

    The type of a delegate's operator may hold commas, so rows are read from the right.
    """
    inside, in_order, columns = False, False, list[str]()
    for line in csv.splitlines():
        if line.rstrip(" :").endswith((RUN_TABLE, DELEGATE_TABLE, "Profiling Info for Benchmark Initialization")):
            inside, columns = line.rstrip(" :").endswith(section), []
        elif line.startswith("====="):
            in_order, columns = " Run Order " in line, []
        elif inside and in_order and line.startswith("node type,"):
            columns = line.split(", ")
        elif columns and line.count(", ") >= len(columns) - 1:
            fields = line.split(", ")
            numbers = dict(zip(columns[1:-1], fields[-len(columns) + 1 : -1], strict=True))
            kind = ", ".join(fields[: -len(columns) + 1])
            yield kind.replace("\t", ","), fields[-1].replace("\t", ","), float(numbers["avg_ms"])
        else:
            columns = []


def _is_delegate(kind: str) -> bool:
    return "Delegate" in kind


def _bare(line: str) -> str:
    return re.sub(r"^(ERROR|FATAL|WARN|INFO): ", "", line.strip())[:200]


def _flag(value: bool) -> str:
    return "true" if value else "false"
