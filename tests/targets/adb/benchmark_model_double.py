"""A test double of TensorFlow Lite's benchmark_model: same flags, same words; the model really runs, under LiteRT.

It has no GPU and no NNAPI driver, and says so as the tool does. DOUBLE_OLD=1 prints what the tool did before 2.14:
no percentiles, no replaced nodes, no level before a line.
"""

import os
import resource
import statistics
import sys
import time
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

OLD = os.environ.get("DOUBLE_OLD") == "1"
KNOWN = {
    "graph", "num_threads", "num_runs", "warmup_runs", "min_secs", "warmup_min_secs", "max_secs", "use_xnnpack",
    "use_gpu", "use_nnapi", "disable_nnapi_cpu", "nnapi_accelerator_name", "enable_op_profiling",
    "profiling_output_csv_file",
} | (set() if OLD else {"op_profiling_output_mode", "op_profiling_output_file"})  # fmt: skip


def resident_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def say(text, level="INFO"):
    sys.stdout.write(f"{text}\n" if OLD else f"{level}: {text}\n")
    sys.stdout.flush()


def number(value):
    """As a C++ stream prints a double."""
    return f"{value:.6g}"


def figures(times):
    micro = [int(t) for t in times]
    if len(set(micro)) == 1:
        return f"count={len(micro)} curr={micro[-1]}" + ("(all same)" if len(micro) > 1 else "")
    text = f"count={len(micro)} first={micro[0]} curr={micro[-1]} min={min(micro)} max={max(micro)} "
    text += f"avg={number(statistics.fmean(micro))} std={int(statistics.pstdev(micro))}"
    if OLD:
        return text
    ranked = sorted(micro)
    return text + "".join(
        f" {name}={ranked[int(len(ranked) * share)]}" for name, share in (("p5", 0.05), ("median", 0.5), ("p95", 0.95))
    )


def invoke(interpreter, runs):
    times = []
    for _ in range(runs):
        start = time.perf_counter_ns()
        interpreter.invoke()
        times.append((time.perf_counter_ns() - start) / 1e3)
    return times


def tables(operators):
    """The CSV: preparation first, then the runs."""
    header = "node type, start, first, avg_ms, %, cdf%, mem KB, times called, name"
    rule = "=============================="
    rows = "\n".join(
        f"{kind}, {index * 0.01:g}, 0.004, 0.0{index + 1}, 10%, 10%, 0, 1, [{name}]:{index}"
        for index, (kind, name) in enumerate(operators)
    )
    return (
        f"Profiling Info for Benchmark Initialization:\n{rule} Run Order {rule}\n{header}\n"
        f"AllocateTensors, 0, 0.1, 0.1, 100%, 100%, 0, 1, AllocateTensors/0\n\n"
        f"{rule} Top by Computation Time {rule}\n{header}\nAllocateTensors, 0, 0.1, 0.1, 100%, 100%, 0, 1, x\n\n"
        f"Number of nodes executed: 1\n{rule} Summary by node type {rule}\n"
        f"node type, count, avg_ms, avg %, cdf %, mem KB, times called\nAllocateTensors, 1, 0.1, 100%, 100%, 0, 1\n\n"
        f"Operator-wise Profiling Info for Regular Benchmark Runs:\n{rule} Run Order {rule}\n{header}\n{rows}\n\n"
        f"{rule} Top by Computation Time {rule}\n{header}\n{rows}\n\n"
    )


def main():
    flags = dict(argument.removeprefix("--").split("=", 1) for argument in sys.argv[1:])
    start_mb = resident_mb()
    say("STARTING!")
    unknown = [f"--{name}={value}" for name, value in flags.items() if name not in KNOWN]
    if unknown:
        say(f"Unconsumed cmdline flags: {' '.join(unknown)}", "WARN")
    say(f"Graph: [{flags['graph']}]")
    xnnpack = flags.get("use_xnnpack") == "true"
    kind = OpResolverType.AUTO if xnnpack else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    began = time.perf_counter()
    try:
        interpreter = Interpreter(model_path=flags["graph"], experimental_op_resolver_type=kind)
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        say(f"Failed to load model {flags['graph']} ({error})", "ERROR")
        say("Benchmarking failed.", "ERROR")
        return 1
    say(f"Loaded model {flags['graph']}")
    for name, asked in (("GPU", "use_gpu"), ("NNAPI", "use_nnapi")):
        if flags.get(asked) == "true":
            say(f"Though {name} delegate is explicitly applied, the model graph will not be executed by the delegate.")
    operators = interpreter._get_ops_details()
    # A delegate's node is listed after the operators it stands for.
    names = [op["op_name"] for op in operators]
    plain = [name for name in names if name != "DELEGATE"]
    taken = {index for op in operators if op["op_name"] == "DELEGATE" for index in range(len(plain))}
    if xnnpack and taken:
        if not OLD:
            sys.stderr.write(
                f"VERBOSE: Replacing {len(plain)} out of {len(plain)} node(s) with delegate (TfLiteXNNPackDelegate) "
                "node, yielding 1 partitions for subgraph 0.\n"
            )
        say("Explicitly applied XNNPACK delegate, and the model graph will be completely executed by the delegate.")
    init_mb = resident_mb() - start_mb
    say(f"Initialized session in {(time.perf_counter() - began) * 1e3:.6g}ms.")
    for detail in interpreter.get_input_details():
        interpreter.set_tensor(detail["index"], np.zeros(detail["shape"], detail["dtype"]))
    runs, warmup = int(flags["num_runs"]), max(int(flags["warmup_runs"]), 1)
    say(f"Running benchmark for at least {warmup} iterations and at least 0 seconds")
    warm = invoke(interpreter, warmup)
    say(figures(warm) + "\n")
    say(f"Running benchmark for at least {runs} iterations and at least 0 seconds")
    times = invoke(interpreter, runs)
    say(figures(times) + "\n")
    if flags.get("enable_op_profiling") == "true":
        rows = [("TfLiteXNNPackDelegate", "all")] if taken else [(name, f"t{i}") for i, name in enumerate(plain)]
        Path(flags["profiling_output_csv_file"]).write_text(tables(rows))
    say(
        f"Inference timings in us: Init: {int((time.perf_counter() - began) * 1e6)}, First inference: {int(warm[0])}, "
        f"Warmup (avg): {number(statistics.fmean(warm))}, Inference (avg): {number(statistics.fmean(times))}"
    )
    overall_mb = resident_mb() - start_mb
    delta = f"init={number(init_mb)} overall={number(overall_mb)}"
    say(f"Memory footprint delta from the start of the tool (MB): {delta}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
