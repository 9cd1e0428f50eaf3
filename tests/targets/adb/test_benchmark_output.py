"""What benchmark_model prints, old and new, is read exactly; what is not said is not made up."""

import pytest

from earshot.targets.adb.benchmark import (
    Delegation,
    UnreadableError,
    arguments,
    complaint,
    missing_operator,
    profiling_arguments,
    read_delegation,
    read_operators,
    read_timing,
    refusal,
)

NEW = """\
INFO: STARTING!
INFO: Log parameter values verbosely: [0]
INFO: Min num runs: [200]
INFO: Graph: [0.tflite]
INFO: Loaded model 0.tflite
INFO: Initialized TensorFlow Lite runtime.
INFO: Created TensorFlow Lite XNNPACK delegate for CPU.
VERBOSE: Replacing 30 out of 40 node(s) with delegate (TfLiteXNNPackDelegate) node, yielding 2 partitions for \
subgraph 0.
INFO: Explicitly applied XNNPACK delegate, and the model graph will be partially executed by the delegate w/ 2 \
delegate kernels.
INFO: The input model file size (MB): 0.198
INFO: Initialized session in 12.5ms.
INFO: Running benchmark for at least 20 iterations and at least 0 seconds but terminate if exceeding 3600 seconds.
INFO: count=20 first=310 curr=120 min=118 max=310 avg=131.5 std=41 p5=118 median=121 p95=150

INFO: Running benchmark for at least 200 iterations and at least 0 seconds but terminate if exceeding 3600 seconds.
INFO: count=200 first=121 curr=119 min=117 max=404 avg=122.25 std=20 p5=118 median=120 p95=133

INFO: Inference timings in us: Init: 12500, First inference: 310, Warmup (avg): 131.5, Inference (avg): 122.25
INFO: Note: as the benchmark tool itself affects memory footprint, the following is only APPROXIMATE to the actual \
memory footprint of the model at runtime. Take the information at your discretion.
INFO: Memory footprint delta from the start of the tool (MB): init=1.5 overall=2.25
"""

OLD = """\
STARTING!
Loaded model 0.tflite
INFO: Created TensorFlow Lite XNNPACK delegate for CPU.
Explicitly applied XNNPACK delegate, and the model graph will be completely executed by the delegate.
Initialized session in 0.896ms.
Running benchmark for at least 1 iterations and at least 0.5 seconds but terminate if exceeding 150 seconds.
count=215 first=12231 curr=2106 min=2065 max=12231 avg=2331.42 std=746

Running benchmark for at least 100 iterations and at least 1 seconds but terminate if exceeding 150 seconds.
count=459 first=2143 curr=2101 min=2056 max=2656 avg=2177.1 std=124

Inference timings in us: Init: 896, First inference: 12231, Warmup (avg): 2331.42, Inference (avg): 2177.1
"""

RULE = "=============================="
CSV = f"""\
Profiling Info for Benchmark Initialization:
{RULE} Run Order {RULE}
node type, start, first, avg_ms, %, cdf%, mem KB, times called, name
ModifyGraphWithDelegate, 0, 2.2, 2.2, 95%, 95%, 0, 1, ModifyGraphWithDelegate/0
AllocateTensors, 2.2, 0.1, 0.05, 5%, 100%, 0, 2, AllocateTensors/0

{RULE} Top by Computation Time {RULE}
node type, start, first, avg_ms, %, cdf%, mem KB, times called, name
ModifyGraphWithDelegate, 0, 2.2, 2.2, 95%, 95%, 0, 1, ModifyGraphWithDelegate/0

Number of nodes executed: 2
{RULE} Summary by node type {RULE}
node type, count, avg_ms, avg %, cdf %, mem KB, times called
ModifyGraphWithDelegate, 1, 2.2, 95%, 95%, 0, 1

Timings (microseconds): count=1 curr=2300
Memory (bytes): count=0
2 nodes observed


Operator-wise Profiling Info for Regular Benchmark Runs:
{RULE} Run Order {RULE}
node type, start, first, avg_ms, %, cdf%, mem KB, times called, name
TfLiteXNNPackDelegate, 0, 0.09, 0.081, 81%, 81%, 0, 1, [enc0/conv\tenc0/relu]:41
TRANSPOSE_CONV, 0.082, 0.02, 0.019, 19%, 100%, 0, 1, [dec0/up]:12

{RULE} Top by Computation Time {RULE}
node type, start, first, avg_ms, %, cdf%, mem KB, times called, name
TfLiteXNNPackDelegate, 0, 0.09, 0.081, 81%, 81%, 0, 1, [enc0/conv\tenc0/relu]:41
TRANSPOSE_CONV, 0.082, 0.02, 0.019, 19%, 100%, 0, 1, [dec0/up]:12

Number of nodes executed: 2
{RULE} Summary by node type {RULE}
node type, count, avg_ms, avg %, cdf %, mem KB, times called
TfLiteXNNPackDelegate, 1, 0.08, 81%, 81%, 0, 1
TRANSPOSE_CONV, 1, 0.01, 19%, 100%, 0, 1

Timings (microseconds): count=50 first=110 curr=98 min=97 max=120 avg=100 std=3
Memory (bytes): count=0
2 nodes observed

"""

INNER = f"""\
Delegate internal:
{RULE} Run Order {RULE}
node type, start, first, avg_ms, %, cdf%, mem KB, times called, name
Convolution (NHWC, QC8) IGEMM, 0, 0.05, 0.048, 60%, 60%, 0, 1, Delegate/Convolution (NHWC\t QC8) IGEMM:0
Sigmoid (NC, QS8), 0.05, 0.03, 0.032, 40%, 100%, 0, 1, Delegate/Sigmoid (NC\t QS8):1

"""


def test_a_new_tool_is_read():
    timing = read_timing(NEW)
    assert (timing.count, timing.average, timing.deviation) == (200, 122.25, 20)
    assert (timing.lowest, timing.median, timing.p95, timing.highest) == (117, 120, 133, 404)
    assert timing.init == 12500
    assert timing.memory_bytes == 2.25 * 2**20


def test_an_old_tool_leaves_percentiles_unknown():
    timing = read_timing(OLD)
    assert (timing.count, timing.average, timing.highest) == (459, 2177.1, 2656)
    assert (timing.median, timing.p95, timing.memory_bytes) == (None, None, None)


def test_equal_times_are_their_own_percentiles():
    log = "INFO: count=3 curr=7(all same)\nINFO: Inference timings in us: Init: 1, First inference: 7, "
    log += "Warmup (avg): 7, Inference (avg): 7\n"
    timing = read_timing(log)
    assert (timing.count, timing.lowest, timing.median, timing.p95, timing.highest) == (3, 7, 7, 7, 7)


@pytest.mark.parametrize("log", ["", "INFO: STARTING!\n", NEW.split("INFO: Inference timings")[0], "count=3 curr=7\n"])
def test_a_run_that_did_not_end_is_unreadable(log):
    with pytest.raises(UnreadableError):
        read_timing(log)


def test_coverage_is_what_the_tool_says_was_replaced():
    assert read_delegation(NEW, "xnnpack") == Delegation(40, 0.75)
    assert read_delegation(OLD, "xnnpack") == Delegation(0, 1.0)
    assert read_delegation(NEW, "none") == Delegation(40, 0.0)


def test_an_accelerator_that_did_not_apply_covers_nothing():
    gpu = "INFO: Created TensorFlow Lite delegate for GPU.\nINFO: Though GPU delegate is explicitly applied, the model "
    gpu += "graph will not be executed by the delegate.\n"
    assert read_delegation(gpu + NEW, "gpu").coverage == 0
    # XNNPACK took the graph instead, which is not what was asked for.
    assert read_delegation(NEW, "gpu").coverage is None
    # NNAPI may report replaced nodes and take none of them.
    nnapi = NEW.replace("XNNPack", "Nnapi").replace("will be partially executed", "will not be executed")
    nnapi = nnapi.replace("Explicitly applied XNNPACK delegate, and", "Though NNAPI delegate is explicitly applied,")
    assert "Replacing 30 out of 40 node(s) with delegate (TfLiteNnapiDelegate)" in nnapi
    assert read_delegation(nnapi, "nnapi").coverage == 0


def test_operators_come_from_the_runs_in_order():
    found = read_operators(CSV, "xnnpack")
    assert [(op.index, op.name, op.value, op.unit, op.placement) for op in found] == [
        (0, "TfLiteXNNPackDelegate", 81, "us", "xnnpack"),
        (1, "TRANSPOSE_CONV", 19, "us", "cpu"),
    ]
    assert found[0].location == "[enc0/conv,enc0/relu]:41"


def test_a_delegates_own_operators_stand_for_its_node():
    found = read_operators(CSV + INNER, "xnnpack")
    assert [(op.name, op.value, op.placement) for op in found] == [
        ("TRANSPOSE_CONV", 19, "cpu"),
        ("Convolution (NHWC, QC8) IGEMM", 48, "xnnpack"),
        ("Sigmoid (NC, QS8)", 32, "xnnpack"),
    ]
    assert found[1].location == "Delegate/Convolution (NHWC, QC8) IGEMM:0"


def test_tables_without_the_start_column_are_read():
    old = CSV.replace("node type, start, first", "node type, first")
    old = old.replace("XNNPackDelegate, 0, ", "XNNPackDelegate, ").replace(
        "TRANSPOSE_CONV, 0.082, ", "TRANSPOSE_CONV, "
    )
    assert read_operators(old, "xnnpack") == read_operators(CSV, "xnnpack")


@pytest.mark.parametrize("csv", ["", CSV.split("Operator-wise")[0], "node type, avg_ms, name\nCONV_2D, 1, x\n"])
def test_a_csv_without_the_runs_is_unreadable(csv):
    with pytest.raises(UnreadableError):
        read_operators(csv, "xnnpack")


def test_flags_name_the_accelerator_and_nothing_cuts_the_run_short():
    assert set(arguments("xnnpack", 2, 100, 10)) >= {
        "--use_xnnpack=true", "--num_threads=2", "--num_runs=100", "--warmup_runs=10", "--min_secs=0",
        "--warmup_min_secs=0", "--max_secs=3600",
    }  # fmt: skip
    assert "--use_xnnpack=false" in arguments("none", 1, 1, 0)
    gpu, nnapi = arguments("gpu", 1, 1, 0), arguments("nnapi", 1, 1, 0, "edgetpu")
    assert "--use_gpu=true" in gpu and "--use_xnnpack=false" in gpu
    assert {"--use_nnapi=true", "--disable_nnapi_cpu=true", "--nnapi_accelerator_name=edgetpu"} <= set(nnapi)
    assert {"--profiling_output_csv_file=a", "--op_profiling_output_file=a"} <= set(profiling_arguments("a"))


def test_a_refused_model_is_told_from_a_failed_tool():
    log = (
        "INFO: STARTING!\nERROR: tensorflow/lite/kernels/x.cc:353 a != b\nERROR: Node number 57 (BATCH_MATMUL) failed "
    )
    log += "to prepare.\nERROR: Benchmarking failed.\n"
    assert refusal(log) == "Node number 57 (BATCH_MATMUL) failed to prepare."
    assert complaint(log) == "tensorflow/lite/kernels/x.cc:353 a != b"
    assert refusal("INFO: STARTING!\nSegmentation fault\n") is None
    assert complaint("INFO: STARTING!\nSegmentation fault\n") == "Segmentation fault"
    assert complaint("") == "it said nothing"
    assert missing_operator(log) is None
    older = "ERROR: Didn't find op for builtin opcode 'ADD' version '9'. Are you using an old TFLite binary?\n" + log
    assert missing_operator(older).startswith("Didn't find op for builtin opcode 'ADD'")
