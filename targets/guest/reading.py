"""What the agent says in the guest, as measurements: one of its nanoseconds is one instruction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from earshot.core.measurement import Measurement, Provenance
from earshot.targets.base import ProfileResult, read_result
from earshot.targets.guest.options import GuestOptions
from earshot.targets.guest.outputs import Difference

COUNTS = {"graph_instructions_per_frame": "graph_us", "instructions_per_frame": "path_us"}
KEPT = ("peak_rss_bytes", "arena_bytes", "delegate_coverage")
TIMES = ("rtf", "hop_rtf", "graph_rtf", "frame_p50_us")
NO_CONDITIONS = ("governor", "clock_mhz", "held_back")  # an emulated board has none
CLOCK = "the guest's clock counts instructions: a nanosecond is one"


class GuestReader:
    """Reads the agent's results.

    Args:
        options: of the target; its CPI gives estimated times.
        clock_mhz: of the board that is emulated; needed with a CPI.
        facts: what the numbers hold for: processor, emulator, image.
    """

    def __init__(self, options: GuestOptions, clock_mhz: float | None, facts: Mapping[str, Any]) -> None:
        self._cpi, self._clock_mhz = options.cpi, clock_mhz
        source = {"cpi": options.cpi, "cpi_source": options.cpi_source} if options.cpi is not None else {}
        self._facts = {**facts, **source}

    def result(self, variant: str, raw: Mapping[str, Any], target: str) -> ProfileResult:
        """What the guest measured: counts and sizes, none of its times.

        Counts are those of the least disturbed frame: others hold an interrupt of the kernel's timer, or two.
        """
        base = read_result(variant, raw, target, Provenance.EMULATED)
        known = {measurement.metric: measurement for measurement in base.measurements}
        frames, flags = raw["frames"], known["graph_rtf"].flags
        counts = [
            Measurement(
                *(metric, round(raw[spread]["min"] * 1e3), "instructions", frames),
                *(Provenance.EMULATED, target),
                flags=flags,
            )
            for metric, spread in COUNTS.items()
        ]
        measurements = (*counts, *(known[metric] for metric in KEPT), *self._estimates(known))
        environment = {name: value for name, value in base.environment.items() if name not in NO_CONDITIONS}
        return ProfileResult(variant, measurements, None, {**environment, **self._facts}, {**raw, "clock": CLOCK})

    def _estimates(self, known: Mapping[str, Measurement]) -> list[Measurement]:
        """Times at the board's clock, where a CPI is given: the guest's own hold for 1 GHz and one cycle each."""
        if self._cpi is None or self._clock_mhz is None:
            return []
        factor = self._cpi * 1e3 / self._clock_mhz
        found = [known[metric] for metric in TIMES]
        return [replace(m, value=(m.value or 0.0) * factor, provenance=Provenance.ESTIMATED) for m in found]


def with_difference(result: ProfileResult, difference: Difference) -> ProfileResult:
    """The result, and how its outputs differ from this machine's."""
    target = result.measurements[0].target
    mismatches = Measurement(
        "output_mismatches", difference.mismatches, "1", difference.values, Provenance.EMULATED, target
    )
    return replace(
        result,
        measurements=(*result.measurements, mismatches),
        environment={**result.environment, "largest_output_difference": difference.largest},
    )
