"""The metrics a budget can hold: unit, which way is better, and whether the value is a mean over clips.

A metric over one group of the evaluation set carries the group in brackets: `pesq_wb[lsmix]`.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import Literal

Better = Literal["higher", "lower"]


@dataclass(frozen=True)
class KnownMetric:
    """What the gate knows of a metric.

    Attributes:
        unit: as in `Measurement.unit`; `1` for counts and ratios.
        better: which way is better.
        per_clip: the value is a mean over clips, so two rows compare only when they stand on equally many.
    """

    unit: str
    better: Better
    per_clip: bool = False


QUALITY = ("pesq_wb", "pesq_nb", "csig", "cbak", "covl", "stoi", "estoi", "si_sdr")  # all better when higher
KNOWN_METRICS: dict[str, KnownMetric] = {
    "parameters": KnownMetric("1", "lower"),
    "macs_per_second": KnownMetric("MAC/s", "lower"),
    "model_bytes": KnownMetric("bytes", "lower"),
    "state_bytes": KnownMetric("bytes", "lower"),
    "algorithmic_latency_ms": KnownMetric("ms", "lower"),
    "pesq_wb": KnownMetric("MOS", "higher", per_clip=True),
    "pesq_nb": KnownMetric("MOS", "higher", per_clip=True),
    "csig": KnownMetric("MOS", "higher", per_clip=True),
    "cbak": KnownMetric("MOS", "higher", per_clip=True),
    "covl": KnownMetric("MOS", "higher", per_clip=True),
    "stoi": KnownMetric("1", "higher", per_clip=True),
    "estoi": KnownMetric("1", "higher", per_clip=True),
    "si_sdr": KnownMetric("dB", "higher", per_clip=True),
    "rtf": KnownMetric("1", "lower"),
    "hop_rtf": KnownMetric("1", "lower"),
    "graph_rtf": KnownMetric("1", "lower"),
    "frame_p50_us": KnownMetric("us", "lower"),
    "frame_p95_us": KnownMetric("us", "lower"),
    "frame_p99_us": KnownMetric("us", "lower"),
    "frame_max_us": KnownMetric("us", "lower"),
    "deadline_misses": KnownMetric("1", "lower"),
    "peak_rss_bytes": KnownMetric("bytes", "lower"),
    "memory_footprint_bytes": KnownMetric("bytes", "lower"),
    "arena_bytes": KnownMetric("bytes", "lower"),
    "delegate_coverage": KnownMetric("1", "higher"),
    "instructions_per_frame": KnownMetric("instructions", "lower"),
    "graph_instructions_per_frame": KnownMetric("instructions", "lower"),
    "instructions_per_mac": KnownMetric("1", "lower"),
    "cycles_per_frame": KnownMetric("cycles", "lower"),
    "graph_cycles_per_frame": KnownMetric("cycles", "lower"),
    "realtime_clock_mhz": KnownMetric("MHz", "lower"),
    "flash_bytes": KnownMetric("bytes", "lower"),
    "ram_bytes": KnownMetric("bytes", "lower"),
    "stack_bytes": KnownMetric("bytes", "lower"),
    "npu_coverage": KnownMetric("1", "higher"),
    "temperature_c": KnownMetric("C", "lower"),
    "parity_float_max_abs": KnownMetric("1", "lower"),
    "parity_int8_snr_db": KnownMetric("dB", "higher"),
    "output_mismatches": KnownMetric("1", "lower"),
    "float_operators": KnownMetric("1", "lower"),
}


def known_metric(name: str) -> KnownMetric | None:
    """The table's entry for a metric name, with or without a group in brackets."""
    found = re.fullmatch(r"(\w+)(\[[^\[\]]+\])?", name)
    return KNOWN_METRICS.get(found.group(1)) if found else None


def did_you_mean(word: str, known: list[str]) -> str:
    """The end of a message about an unknown name: the nearest known one, or all of them."""
    near = difflib.get_close_matches(word, known, n=1)
    return f"did you mean '{near[0]}'?" if near else f"known here: {', '.join(known) or 'none'}"
