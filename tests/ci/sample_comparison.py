"""A comparison as five targets give it: two models, one target failed, one model left out, one total a lower bound."""

from __future__ import annotations

from earshot.ci.comparison import Comparison, Device, Histogram, ModelResult, Operator
from earshot.core.measurement import Measurement, Provenance

INT8, FLOAT = "convert:int8", "convert:float32"
MEASURED, EMULATED, ESTIMATED = Provenance.MEASURED, Provenance.EMULATED, Provenance.ESTIMATED
NAMES = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "LOGISTIC", "ADD", "TRANSPOSE_CONV", "MUL", "CONCATENATION")


def operators(unit: str, placement: str = "") -> tuple[Operator, ...]:
    return tuple(
        Operator(index=i, name=NAMES[i % 8], location=f"encoder/block{i}/out", value=90000 / (i + 1), unit=unit,
                 placement=placement if i % 7 else placement and "cpu")
        for i in range(24)
    )  # fmt: skip


def on_host(model: str, scale: float) -> ModelResult:
    counts = (0, 0, 40, 610, 220, 60, 30, 20, 10, 6, 2, 1, 0, 1, 0)
    found = (
        Measurement("rtf", 0.0031 * scale, "1", 5, MEASURED, "host"),
        Measurement("frame_p50_us", 11.2 * scale, "us", 1000, MEASURED, "host"),
        Measurement("frame_p99_us", 17.9 * scale, "us", 1000, MEASURED, "host"),
        Measurement("peak_rss_bytes", 57_270_000.0, "bytes", 1, MEASURED, "host"),
    )
    edges = tuple(10 * 1.1**i for i in range(len(counts) + 1))
    kept = {"runtime": "ai-edge-litert 2.3.0", "cpu": "x86-64", "cores": [1]}
    histogram = Histogram(edges_us=edges, counts=counts)
    return ModelResult(model=model, measurements=found, histogram=histogram, environment=kept)


def on_m4(target: str, factor: float) -> ModelResult:
    found = (
        Measurement("instructions_per_frame", 2_345_678 * factor, "instructions", 100, EMULATED, target),
        Measurement("rtf", 0.82 * factor, "1", 100, ESTIMATED, target),
        Measurement("realtime_clock_mhz", 138.0 * factor, "MHz", 100, ESTIMATED, target),
        Measurement("ram_bytes", 51_200.0, "bytes", 1, EMULATED, target),
        Measurement("flash_bytes", 141_312.0, "bytes", 1, MEASURED, target),
    )
    return ModelResult(model=INT8, measurements=found, operators=operators("instructions"))


def sample() -> Comparison:
    npu = (
        Measurement("graph_rtf", 0.046, "1", 1, ESTIMATED, "ethos-u55", flags=("lower-bound",)),
        Measurement("arena_bytes", 7024.0, "bytes", 1, ESTIMATED, "ethos-u55"),
        Measurement("flash_bytes", 67_344.0, "bytes", 1, ESTIMATED, "ethos-u55"),
    )
    on_npu = ModelResult(model=INT8, measurements=npu, operators=operators("cycles", "npu"))
    left_out = {FLOAT: "it runs int16x8, int8; this model is float32"}
    return Comparison(
        title="quickstart-20260101-120000",
        devices=(
            Device(target="host", kind="host", results=(on_host(FLOAT, 1.4), on_host(INT8, 1))),
            Device(target="cortex-m4", kind="microcontroller", results=(on_m4("cortex-m4", 1),), left_out=left_out),
            Device(target="cortex-m55", kind="microcontroller", results=(on_m4("cortex-m55", 0.2),), left_out=left_out),
            Device(target="ethos-u55", results=(on_npu,)),
            Device(target="phone", error="target phone: no device is attached", fix="plug it in, then: adb devices"),
        ),
        quality={
            FLOAT: (Measurement("pesq_wb", 2.31, "MOS", 30), Measurement("stoi", 0.91, "1", 30)),
            INT8: (Measurement("pesq_wb", 2.27, "MOS", 30), Measurement("stoi", 0.905, "1", 30)),
        },
    )  # fmt: skip
